"""Repairs what lost processes and messages leave: leases, waiting jobs, objects nobody needs.

Safe in several processes at once; runs from a timer of its own, so that it needs no broker.
"""

import logging
import threading
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from app import queue
from app.artifacts import queries as artifacts
from app.datasets import queries as datasets
from app.db import sync_engine
from app.estimates import queries as estimates
from app.idempotency import queries as idempotency
from app.jobs import moves, queries, waiting
from app.jobs.moves import Backoff
from app.jobs.states import CANCEL_RUNNING, FAIL, PAUSE_RUNNING, REQUEUE
from app.settings import Settings
from app.storage import StorageError, open_storage
from app.sweeps import queries as sweeps
from pst_core.points import reached
from worker.dataset_sweeps import sweep_datasets
from worker.endings import WORKER_LOST
from worker.telemetry import MaintenanceMetrics

logger = logging.getLogger(__name__)

STRAYS_SECONDS = 3600.0  # from one look at the whole storage to the next
# Longer than anybody writes at one object, whose row comes before its bytes anyway.
STRAY_AGE_SECONDS = 24 * 3600.0
QUEUE_TIMEOUT = {
    "code": "queue_timeout",
    "message": "No worker took the job within limits.queue_seconds.",
    "field": "limits.queue_seconds",
    "remedy": "Raise the limit, add workers, or retry the job when they are less busy.",
    "retryable": True,
}


def baseline_failed(baseline_id: str) -> dict[str, Any]:
    return {
        "code": "baseline_failed",
        "message": f"Its baseline, {baseline_id}, failed, was cancelled or was deleted.",
        "field": "baseline",
        "remedy": f"POST /jobs/{baseline_id}/retry, then retry this job.",
        "retryable": True,
    }


class Sweeper:
    def __init__(self, settings: Settings, metrics: MaintenanceMetrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics or MaintenanceMetrics(CollectorRegistry())
        self._sessions = sessionmaker(sync_engine(settings.database_url or ""))
        self._sender = queue.sender(settings.broker_url or "")
        self._storage = open_storage(settings)
        self._strays_due = 0.0

    def start_timer(self) -> None:
        # Threads of their own: a storage that hangs must not keep a lost job from its next worker.
        for name, act in (("sweep", self._repair), ("tidy", self._tidy)):
            threading.Thread(target=self._run, args=[act], name=name, daemon=True).start()

    def sweep(self) -> None:
        """Everything once, each kind in transactions of its own."""
        self._repair()
        self._tidy()

    def _repair(self) -> None:
        """What jobs wait for; it asks nobody but the database and the broker."""
        self._expire_leases()
        with self._sessions.begin() as session:
            for job in session.scalars(moves.time_out_queued(QUEUE_TIMEOUT)):
                logger.warning("%s: waited too long in the queue", job.id)
        reached("queue:timed_out")
        self._fail_waiting()
        self._wake()
        self._metrics.note_sweep()

    def _tidy(self) -> None:
        """What is no longer needed goes, from the storage too; nobody waits for it."""
        self._delete_old_jobs()
        self._retire_objects()
        self._remove_objects()
        sweep_datasets(self._sessions, self._storage)
        with self._sessions.begin() as session:
            gone = list(session.scalars(artifacts.emptied_jobs()))
            more = (sweeps.forget(), idempotency.expire(), estimates.expire())
            for statement in (*queries.forget(gone), *more):
                session.execute(statement)
        reached("job:forgotten")
        self._remove_strays()

    def _expire_leases(self) -> None:
        settings = self._settings
        for move, values in (
            (CANCEL_RUNNING, {}),
            (PAUSE_RUNNING, {}),
            (FAIL, {"error": WORKER_LOST}),
            (REQUEUE, {}),
        ):
            with self._sessions.begin() as session:
                expired = moves.expire(
                    move,
                    max_lost=settings.max_lost_attempts,
                    backoff=Backoff(settings.backoff_seconds),
                    values=values,
                )
                for job in session.scalars(expired):
                    logger.warning("%s: attempt %d expired: %s", job.id, job.attempt, move.event)
                    self._metrics.expired.labels(move.event).inc()
            reached("lease:expired")

    def _fail_waiting(self) -> None:
        """What its yardstick can no longer be had for would wait for ever."""
        with self._sessions() as session:
            ended = list(session.scalars(waiting.ended_baselines()))
        for baseline_id in ended:
            with self._sessions.begin() as session:
                failed = waiting.fail_behind(baseline_id, baseline_failed(baseline_id))
                for job in session.scalars(failed):
                    logger.warning("%s: its baseline %s has not succeeded", job.id, baseline_id)
        reached("queue:baselines_ended")

    def _delete_old_jobs(self) -> None:
        if (kept := self._settings.keep_jobs_seconds) is None:
            return
        with self._sessions.begin() as session:
            for job in session.scalars(moves.delete_old(kept)):
                logger.info("%s: kept long enough, deleted", job.id)

    def _retire_objects(self) -> None:
        kept = self._settings.keep_snapshots_seconds
        for which in (artifacts.orphaned(), artifacts.no_longer_needed(snapshot_seconds=kept)):
            with self._sessions.begin() as session:
                session.execute(artifacts.retire(which))
            reached("object:retired")

    def _remove_objects(self) -> None:
        """Bytes first: a row that outlives them is swept again, bytes without a row never."""
        with self._sessions() as session:
            found = list(session.scalars(artifacts.to_remove()))
        for artifact in found:
            try:
                self._storage.remove(artifact.storage_key)
            except StorageError as error:
                # Asked for the others it would be as long in saying so.
                logger.warning("no object can be removed yet: %s", error)
                return
            except OSError as error:
                logger.warning("%s: cannot be removed yet: %s", artifact.storage_key, error)
                continue
            reached("object:removed")
            with self._sessions.begin() as session:
                session.execute(artifacts.forget(artifact.id))
            reached("object:forgotten")

    def _remove_strays(self) -> None:
        """Remove what no row names: a stale attempt may write after its rows are gone."""
        if time.monotonic() < self._strays_due:
            return
        self._strays_due = time.monotonic() + STRAYS_SECONDS
        keys = self._storage.keys_older_than(STRAY_AGE_SECONDS)
        while some := set(islice(keys, artifacts.BATCH)):
            with self._sessions() as session:
                known = {
                    key
                    for keys_of in (artifacts.known_keys, datasets.known_keys)
                    for key in session.scalars(keys_of(some))
                }
            for key in some - known:
                logger.warning("%s: nobody knows of it: removed", key)
                self._storage.remove(key)

    def _wake(self) -> None:
        with self._sessions() as session:
            limit = self._settings.max_running_jobs
            waiting = session.scalar(moves.any_claimable("cpu", "gpu", max_running=limit))
        if waiting:
            queue.wake(self._sender)

    def _run(self, act: Callable[[], None]) -> None:
        # A second timer besides beat's: sweeps must go on when the broker does not.
        tick = threading.Event()
        while not tick.wait(self._settings.sweep_seconds):
            try:
                act()
            except (SQLAlchemyError, OSError) as error:
                logger.warning("cannot sweep: %s", error)

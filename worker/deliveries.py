"""Sends webhooks, on threads of the maintenance worker's own: jobs, sweeps and others never wait.

Several such workers may send at once. What is on its way when one of them ends hard is sent again
after a lease, under the same id.
"""

import json
import logging
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from app.db import pooled_engine
from app.problems import Problem
from app.settings import Settings
from app.webhooks import queries, sending, signing
from app.webhooks.sending import Failure
from app.webhooks.targets import parse_target
from pst_core.points import reached
from worker.outbound import Answer, Client, OutboundError
from worker.telemetry import MaintenanceMetrics

logger = logging.getLogger(__name__)

LEASE_MARGIN_SECONDS = 15.0
TIDY_SECONDS = 60.0
MOST_REST_SECONDS = 300.0  # of an endpoint, so that one that is back is found soon
MOST_DOUBLINGS = 30
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that nobody else sends, to an endpoint that nobody else sends to."""

    endpoint: Row[Any]
    delivery: Row[Any]


class Courier:
    """Takes what is due and sends it.

    Args:
        settings: Bounds and the database.
        client: Another way out, for tests.
        metrics: Where they are counted; None: nowhere that anybody asks.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client | None = None,
        metrics: MaintenanceMetrics | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics or MaintenanceMetrics(CollectorRegistry())
        # One that looks, and one for each that writes down what became of an attempt.
        self._engine = pooled_engine(settings.database_url or "", settings.webhook_senders + 1)
        self._sessions = sessionmaker(self._engine)
        self._client = client or Client(settings.webhook_networks, settings.webhook_timeout_seconds)
        self._lease = timedelta(seconds=settings.webhook_timeout_seconds + LEASE_MARGIN_SECONDS)
        self._key = signing.installation_key(settings)

    def claim(self, *, failing: bool = True) -> Claimed | None:
        """Take a delivery that is due.

        Args:
            failing: Whether it may be to an endpoint that has not taken the last one.
        """
        parameters = {"lease": self._lease, "failing": failing}
        with self._sessions.begin() as session:
            endpoint = session.execute(sending.claim_endpoint(), parameters).one_or_none()
            if endpoint is None:
                return None
            claim = sending.claim_delivery(endpoint.id, self._lease)
            delivery = session.execute(claim).one_or_none()
            if delivery is None:
                session.execute(sending.let_go(endpoint.id, endpoint.claims))
                return None
        reached("webhook:claimed")
        return Claimed(endpoint, delivery)

    def deliver(self, claimed: Claimed) -> None:
        """Make one attempt, and write down what became of it."""
        began = time.monotonic()
        status: int | None = None
        retry_after: float | None = None
        try:
            answer = self._send(claimed)
            status, retry_after = answer.status, answer.retry_after
            error = _judge(answer)
        except OutboundError as failed:
            error = failed.kind
        reached("webhook:sent")
        entry = {
            "number": claimed.delivery.attempts,
            "at": claimed.delivery.now.isoformat(),
            "seconds": round(time.monotonic() - began, 3),
            "status": status,
            "error": error,
        }
        self._metrics.deliveries.labels(error or "delivered").inc()
        self._metrics.sending.observe(entry["seconds"])
        self._record(claimed, entry, retry_after)
        reached("webhook:recorded")

    def close(self) -> None:
        self._engine.dispose()

    def tidy(self) -> None:
        """Give up what is too old, and remove what was kept long enough."""
        settings = self._settings
        for statement in sending.tidy(
            keep=settings.keep_deliveries_seconds, give_up=settings.webhook_give_up_seconds
        ):
            with self._sessions.begin() as session:
                session.execute(statement)

    def _send(self, claimed: Claimed) -> Answer:
        endpoint, delivery = claimed.endpoint, claimed.delivery
        if endpoint.key_fingerprint != signing.fingerprint(self._key):
            logger.error("%s: its secret was made of another key: rotate it", endpoint.id)
            raise OutboundError("key_changed")
        try:
            # What the operator allows may have changed.
            target = parse_target(endpoint.url, self._settings)
        except Problem as problem:
            raise OutboundError("forbidden_url") from problem
        content = {
            "type": delivery.type,
            "timestamp": delivery.created_at.isoformat(),
            "data": delivery.data,
        }
        body = json.dumps(content, separators=(",", ":")).encode()
        sent_at = int(delivery.now.timestamp())
        versions = [endpoint.secret_version]
        if endpoint.previous_signs:
            versions.append(endpoint.secret_version - 1)
        secrets = [signing.secret_of(self._key, endpoint.id, version) for version in versions]
        signatures = [signing.sign(secret, delivery.id, sent_at, body) for secret in secrets]
        headers = {
            "content-type": "application/json",
            "user-agent": "pst-service",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(sent_at),
            "webhook-signature": " ".join(signatures),
        }
        return self._client.post(target, headers, body)

    def _record(self, claimed: Claimed, entry: dict[str, Any], retry_after: float | None) -> None:
        endpoint, delivery = claimed.endpoint, claimed.delivery
        failure = None
        if entry["error"] is not None:
            logger.info("%s to %s: %s", delivery.id, endpoint.id, entry["error"])
            failure = self._failure(claimed, gone=entry["error"] == "gone", after=retry_after)
        with self._sessions.begin() as session:
            # The endpoint first, as everybody does who locks both.
            released = sending.release(endpoint.id, endpoint.claims, failure)
            disabled = session.execute(released).scalar()
            if failure is None:
                session.execute(sending.delivered(delivery.id, delivery.attempts, entry))
                return
            session.execute(sending.not_delivered(delivery.id, delivery.attempts, entry, failure))
            if disabled is not None:
                logger.warning("%s: switched off: %s", endpoint.id, disabled)
                session.execute(queries.give_up_pending(endpoint.id))

    def _failure(self, claimed: Claimed, *, gone: bool, after: float | None) -> Failure:
        settings = self._settings
        first, most = settings.webhook_backoff_seconds, settings.webhook_max_backoff_seconds
        asked = min(after or 0.0, most)
        doublings = min(claimed.delivery.tries - 1, MOST_DOUBLINGS)
        wait = min(first * 2**doublings, most) * random.uniform(1 - JITTER, 1 + JITTER)
        rest = min(first * 2 ** min(claimed.endpoint.failures, MOST_DOUBLINGS), MOST_REST_SECONDS)
        return Failure(
            wait=max(wait, asked),
            rest=max(rest, asked),
            gone=gone,
            give_up=settings.webhook_give_up_seconds,
            disable=settings.webhook_disable_seconds,
        )


class Dispatcher:
    """Has a courier's deliveries made side by side; half of the threads for endpoints that work."""

    def __init__(self, settings: Settings, courier: Courier) -> None:
        self._settings = settings
        self._courier = courier
        self._threads = settings.webhook_senders
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="webhook")
        self._busy = 0
        self._lock = threading.Lock()
        self._look = threading.Event()
        self._stopped = threading.Event()
        self._tidy_due = 0.0
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin no further delivery; the process ends when those on their way have arrived."""
        self._stopped.set()
        self._look.set()

    def join(self) -> None:
        """Wait until they have."""
        self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._look.clear()
            try:
                self._tidy_in_time()
                found = self._dispatch()
            except SQLAlchemyError as error:
                logger.warning("cannot look for webhooks: %s", error)
                found = False
            if not found:
                self._look.wait(self._settings.webhook_poll_seconds)
        self._pool.shutdown(wait=False)

    def _dispatch(self) -> bool:
        """Start one delivery; False where there is none, or nobody free to make it."""
        if self._busy >= self._threads:
            return False
        claimed = self._courier.claim(failing=self._busy < self._threads // 2)
        if claimed is None:
            return False
        with self._lock:
            self._busy += 1
        self._pool.submit(self._courier.deliver, claimed).add_done_callback(self._done)
        return True

    def _done(self, delivery: Future[None]) -> None:
        with self._lock:
            self._busy -= 1
        self._look.set()
        if (error := delivery.exception()) is not None:
            # Its lease will end, and somebody tries again.
            logger.error("a webhook was not seen through", exc_info=error)

    def _tidy_in_time(self) -> None:
        if time.monotonic() >= self._tidy_due:
            self._tidy_due = time.monotonic() + TIDY_SECONDS
            self._courier.tidy()


def _judge(answer: Answer) -> str | None:
    """What is wrong with an answer, in one word; None where the delivery was taken."""
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    if status == HTTPStatus.GONE:
        return "gone"
    return "redirected" if status < HTTPStatus.BAD_REQUEST else "refused"

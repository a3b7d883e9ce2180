"""``python -m worker.estimator``: claim one estimate, have a child work it out, write it down.

Started by a chore of the maintenance worker, see chores.py.
"""

import logging
import os
import sys
import time
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Executable
from sqlalchemy.orm import Session, sessionmaker

from app import logs
from app.datasets import queries as datasets
from app.datasets.tables import Dataset
from app.db import sync_engine
from app.estimates import queries
from app.estimates.tables import Estimate, Json
from app.settings import Settings
from app.storage import open_storage
from pst_core.errors import ModelNotFoundError, PstError
from pst_core.events import FailureEvent
from pst_core.forecast import Forecast
from pst_core.references import DataSource, locate_dataset, locate_model, parse_reference
from pst_core.spec import CompressionSpec
from worker.devices import Device
from worker.joblog import JobLog
from worker.process import ChildProcess, adopt_orphans
from worker.scratch import folder_of, make, remove
from worker.uploads import lay_out

logger = logging.getLogger(__name__)

PROGRAM = ("-P", "-m", "worker.forecasting")
CHILD_SECONDS = 120.0  # less than its lease
CPU_SECONDS = 240
MEMORY_BYTES = 4 * 2**30
GRACE_SECONDS = 5.0
AGAIN_SECONDS = 5.0  # from one that the storage did not let be worked out to the next try
MOST_BASES = 10
HUB = "it lies on a hub, and only jobs fetch"


class NotHereError(ModelNotFoundError):
    """Only a job would fetch it."""

    code = "model_not_here"


def main() -> int:
    settings = Settings()
    logs.configure(settings)
    adopt_orphans()
    try:
        estimate_next(settings)
    except OSError:  # it was told of; the next look is the timer's
        return os.EX_TEMPFAIL
    return os.EX_OK


def estimate_next(settings: Settings) -> bool:
    """Work out one estimate; False where none waits.

    Raises:
        OSError: The storage, or this host's disk, does not do its part. The estimate was left to
            another try, or has failed by it after the last.
    """
    sessions = sessionmaker(sync_engine(settings.database_url or ""), expire_on_commit=False)
    with sessions.begin() as session:
        estimate = session.scalars(queries.claim()).one_or_none()
    if estimate is None:
        return False
    scratch = folder_of(settings, estimate.id, estimate.attempt)
    try:
        make(scratch)
        ended = _work_out(settings, sessions, estimate, scratch)
    except OSError as error:
        with sessions.begin() as session:
            session.execute(_leave(estimate, error))
        raise
    finally:
        remove(scratch)
    with sessions.begin() as session:
        session.execute(_end(estimate, ended))
    return True


def _leave(estimate: Estimate, error: OSError) -> Executable:
    """Let another try begin soon, as of a dataset's check, unless this was the last."""
    reason = error.strerror or type(error).__name__
    if estimate.attempt >= queries.MAX_ATTEMPTS:
        message = f"What it is worked out from could not be read: {reason}"
        remedy = "Ask again once the storage answers; the maintenance worker's log says more."
        return _end(
            estimate, FailureEvent(code="storage_unavailable", message=message, remedy=remedy)
        )
    logger.warning("%s: try %d was lost: %s", estimate.id, estimate.attempt, reason)
    return queries.leave(estimate, after_seconds=AGAIN_SECONDS)


def _end(estimate: Estimate, ended: Forecast | FailureEvent) -> Executable:
    if isinstance(ended, Forecast):
        return queries.finish(estimate, ended.model_dump(mode="json"))
    logger.warning("%s: %s", estimate.id, ended.message)
    return queries.fail(estimate, ended.model_dump(mode="json", exclude={"type"}))


def _work_out(
    settings: Settings, sessions: sessionmaker[Session], estimate: Estimate, scratch: Path
) -> Forecast | FailureEvent:
    if estimate.attempt > queries.MAX_ATTEMPTS:
        return _crashed("Whoever worked it out was lost, again and again.")
    spec = CompressionSpec.model_validate(estimate.spec)
    try:
        with sessions() as session:
            model = _locate(session, settings, estimate.project_id, spec.model)
            upload = session.scalar(datasets.one(estimate.project_id, spec.dataset.ref))
        # Not within the transaction: from a bucket its bytes may take minutes.
        dataset = _data(settings, spec.dataset.ref, upload, scratch)
    except PstError as error:
        return FailureEvent.of(error)
    task: Json = {
        "spec": estimate.spec,
        "model": str(model),
        "dataset": dataset and str(dataset.path),
        "where": dataset and dataset.where,
        "unread": None if dataset else f"The dataset is not read: {HUB}",
    }
    return _ask_child(task, scratch)


def _locate(session: Session, settings: Settings, project_id: str, text: str) -> Path:
    """The model that has the architecture: of a job, that which it was made from."""
    for _ in range(MOST_BASES):
        scheme = parse_reference(text).scheme
        if scheme == "hub":
            raise NotHereError(
                f"{text}: {HUB}.",
                field="model",
                remedy="Estimate with a model of the same architecture that is here.",
            )
        if scheme != "job":
            return locate_model(text, roots=settings.file_roots)
        base = session.scalar(queries.base_of(project_id, text))
        if base is None:
            break
        text = base
    raise ModelNotFoundError(f"What {text} was made from is not known any more.", field="model")


def _data(settings: Settings, ref: str, upload: Dataset | None, scratch: Path) -> DataSource | None:
    scheme = parse_reference(ref).scheme
    if scheme == "hub":
        return None
    if scheme == "dataset":
        path = lay_out(upload, ref, open_storage(settings), scratch / "dataset")
        return DataSource(path=path)
    return locate_dataset(ref, roots=settings.file_roots)


def _ask_child(task: Json, scratch: Path) -> Forecast | FailureEvent:
    lock = os.open(scratch / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    device, log = Device("cpu", lock, MEMORY_BYTES), JobLog()
    deadline = time.monotonic() + CHILD_SECONDS
    try:
        with ChildProcess(
            task,
            scratch=scratch,
            device=device,
            log=log,
            program=PROGRAM,
            limits={"CPU": CPU_SECONDS},
        ) as child:
            told = None
            for line in child.lines():
                told = told or line
                if time.monotonic() > deadline:
                    return _crashed(f"It was not done after {CHILD_SECONDS:.0f} s.")
            status = child.wait(GRACE_SECONDS)
    finally:
        os.close(lock)
    if told is None:
        logger.error("a forecast's output ends with:\n%s", log.recent())
        return _crashed(f"Whoever worked it out ended with {status}.")
    return _parse(told)


def _parse(line: bytes) -> Forecast | FailureEvent:
    """What the child has told; it has parsed a user's files, and is not trusted."""
    try:
        if b'"type":"failure"' in line[:40]:
            return FailureEvent.model_validate_json(line)
        if b"\\u0000" not in line:  # PostgreSQL stores no NUL
            return Forecast.model_validate_json(line)
    except ValidationError:
        logger.exception("what a forecast's process wrote is none")
    return FailureEvent(code="protocol", message="What was worked out is no forecast.")


def _crashed(message: str) -> FailureEvent:
    return FailureEvent(
        code="internal",
        message=message,
        remedy="Ask again, or post the job with a small split first.",
    )


if __name__ == "__main__":
    sys.exit(main())

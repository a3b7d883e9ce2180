"""How an attempt can end, and what that makes of its job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.jobs.moves import Backoff
from app.jobs.states import CANCEL_RUNNING, FAIL, PAUSE_RUNNING, REQUEUE, SUCCEED, Move
from app.jobs.tables import Job
from app.settings import Settings
from pst_core.report import Report

OUT_OF_MEMORY_ATTEMPTS = 2  # in a row: what was too much twice will not fit the third time

# What no job is to blame for; it lasts as long as it lasts.
INFRASTRUCTURE = frozenset({"hub_unavailable"})

WORKER_LOST = {
    "code": "worker_lost",
    "message": "The job lost too many workers.",
    "remedy": "See the workers' logs; retry the job once they are well.",
    "retryable": True,
}


class NotOurs(Exception):  # noqa: N818 -- no error: somebody else has the job by now
    """The attempt no longer runs its job: it leaves it alone."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides whether a job may be tried again.

    Args:
        got_further: Whether the attempt got further than those before it: then only it counts.
    """

    job: Job
    settings: Settings
    got_further: bool

    def count(self, before: int) -> int:
        return 1 if self.got_further else before + 1

    def again(self, attempts: int) -> dict[str, Any]:
        return {"not_before": Backoff(self.settings.backoff_seconds).until(attempts)}


@dataclass(frozen=True, slots=True)
class Next:
    """The move to make, the data of its event and the columns it sets."""

    move: Move
    data: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


class Ending(Exception):  # noqa: N818 -- most endings are no errors
    """Raised wherever an attempt finds that it is over."""

    saves: ClassVar[bool] = False
    """Whether the trainer gets time to save its state, since the job is to go on later."""

    def next(self, standing: Standing, /) -> Next:
        raise NotImplementedError


class Succeeded(Ending):
    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def next(self, _: Standing, /) -> Next:
        return Next(SUCCEED, values={"result": self._report.model_dump(mode="json")})


class Cancelled(Ending):
    def next(self, _: Standing, /) -> Next:
        return Next(CANCEL_RUNNING)


class Paused(Ending):
    saves = True

    def next(self, _: Standing, /) -> Next:
        return Next(PAUSE_RUNNING)


class GivenBack(Ending):
    """The worker is shut down: through no fault of the job's, so it is not counted."""

    saves = True

    def next(self, _: Standing, /) -> Next:
        return Next(REQUEUE, {"reason": "worker_stopped"})


class Lost(Ending):
    """Somebody stopped the trainer alone: counted as if its whole worker had been lost."""

    def next(self, standing: Standing, /) -> Next:
        lost = standing.count(standing.job.lost_attempts)
        if lost >= standing.settings.max_lost_attempts:
            return Next(FAIL, {"error": WORKER_LOST}, {"lost_attempts": lost, "error": WORKER_LOST})
        values = {"lost_attempts": lost, **standing.again(lost)}
        return Next(REQUEUE, {"reason": "trainer_stopped"}, values)


class Failed(Ending):
    """The attempt failed; whether another may succeed stands in the error (``retryable``)."""

    def __init__(self, code: str, message: str, **more: object) -> None:
        self.error: dict[str, Any] = {"code": code, "message": message, **more}
        super().__init__(message)

    def next(self, standing: Standing, /) -> Next:
        code, counted = self.error["code"], "failed_attempts"
        most = standing.settings.max_failed_attempts
        if code == "out_of_memory":
            most = min(most, OUT_OF_MEMORY_ATTEMPTS)
        if code in INFRASTRUCTURE:
            counted, most = "lost_attempts", standing.settings.max_lost_attempts
        attempts = standing.count(getattr(standing.job, counted))
        if self.error.get("retryable") and attempts < most:
            values = {counted: attempts, **standing.again(attempts)}
            return Next(REQUEUE, {"reason": code, "error": self.error}, values)
        return Next(FAIL, {"error": self.error}, {counted: attempts, "error": self.error})

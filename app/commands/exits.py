"""What a command's exit status means; docs/cli.md has the same table for people."""

from enum import IntEnum
from http import HTTPStatus

from app.client import ClientError, CorruptDownloadError, InvalidInputError, RefusedError
from app.jobs.schemas import JobDetail
from app.jobs.states import Status
from app.sweeps.states import SweepStatus
from pst_core.report import Gate


class Exit(IntEnum):
    OK = 0
    ERROR = 1
    """Refused for what stands elsewhere (a state, a quota), or this machine failed."""
    USAGE = 2
    """What was asked for is wrong."""
    FAILED = 3
    """The job has failed, or one of the sweep's."""
    CANCELLED = 4
    NOT_GOOD_ENOUGH = 5
    """The job has succeeded and missed its quality gate; or nothing fits what a pick asks."""
    NOT_ALLOWED = 6
    """The key is missing, wrong, or may not do this."""
    NOT_FOUND = 7
    UNREACHABLE = 8
    """No service, or one that was too busy, for as long as is tried."""
    CORRUPT = 9
    """Other bytes came than were published."""
    INTERRUPTED = 130
    """By Ctrl-C; what runs at the service goes on."""


OF_STATUS: dict[int, Exit] = {
    HTTPStatus.BAD_REQUEST: Exit.USAGE,
    HTTPStatus.UNAUTHORIZED: Exit.NOT_ALLOWED,
    HTTPStatus.FORBIDDEN: Exit.NOT_ALLOWED,
    HTTPStatus.NOT_FOUND: Exit.NOT_FOUND,
    HTTPStatus.GONE: Exit.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Exit.USAGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: Exit.USAGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: Exit.USAGE,
}
# Of a conflict and of a bad gateway, those that mean more than that.
OF_KIND = {"nothing_fits": Exit.NOT_GOOD_ENOUGH, "checkpoint_corrupt": Exit.CORRUPT}


def of_error(error: ClientError) -> Exit:
    """What a call that went wrong exits with."""
    if error.may_pass:
        return Exit.UNREACHABLE
    if isinstance(error, RefusedError):
        return OF_KIND.get(error.kind) or OF_STATUS.get(error.status, Exit.ERROR)
    if isinstance(error, CorruptDownloadError):
        return Exit.CORRUPT
    return Exit.USAGE if isinstance(error, InvalidInputError) else Exit.ERROR


def of_job(job: JobDetail) -> Exit:
    """What waiting for a job exits with, once it has ended."""
    gate = gate_of(job)
    match job.status:
        case Status.FAILED:
            return Exit.FAILED
        case Status.CANCELLED:
            return Exit.CANCELLED
    return Exit.NOT_GOOD_ENOUGH if gate and not gate.passed else Exit.OK


def gate_of(job: JobDetail) -> Gate | None:
    return job.result.outcome.gate if job.result else None


def of_sweep(status: SweepStatus) -> Exit:
    """What waiting for a sweep exits with, once all its jobs have ended."""
    if status in {SweepStatus.FAILED, SweepStatus.PARTLY_FAILED}:
        return Exit.FAILED
    return Exit.CANCELLED if status == SweepStatus.CANCELLED else Exit.OK

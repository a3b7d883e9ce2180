"""What a call can end with instead of an answer.

ClientError
├── RefusedError           the service answered with a problem (RFC 9457)
├── UnreachableError       no answer came, or not all of it
├── InvalidInputError      what was given cannot be sent at all
├── CorruptDownloadError   other bytes came than were published
└── UnexpectedAnswerError  an answer that this release does not understand
"""

import contextlib
from http import HTTPStatus
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

# Statuses that another try may change.
PASSING = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
# The service's own 502 and 429: what is in the storage gets no better, and a quota is used up until
# somebody deletes something or raises it.
LASTING = frozenset({"checkpoint_corrupt", "quota_exceeded"})
IN_FLIGHT = "request_in_flight"


class ClientError(Exception):
    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    @property
    def may_pass(self) -> bool:
        """Whether the same request may go well later."""
        return False

    @property
    def did_nothing(self) -> bool:
        """Whether it is certain that the request had no effect."""
        return False

    @property
    def retry_after(self) -> float | None:
        """Seconds, where the service said so."""
        return None


class UnreachableError(ClientError):
    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message, remedy="Check the address, and that the service is up.")
        self._was_sent = was_sent

    @property
    def may_pass(self) -> bool:
        return True

    @property
    def did_nothing(self) -> bool:
        return not self._was_sent


class InvalidInputError(ClientError):
    pass


class CorruptDownloadError(ClientError):
    pass


class UnexpectedAnswerError(ClientError):
    def __init__(self, what: str) -> None:
        super().__init__(
            f"The service's answer is not understood: {what}.",
            remedy="Check that the address is the service's, and have the client of its release.",
        )


class FieldProblem(BaseModel):
    field: str
    pointer: str | None = None
    message: str


class ProblemAnswer(BaseModel):
    """The body of an error; whatever stands between may answer with less."""

    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    remedy: str = ""
    field: str | None = None
    errors: list[FieldProblem] = []
    request_id: str = ""


class RefusedError(ClientError):
    """A problem, as the service told it."""

    def __init__(self, status: int, problem: ProblemAnswer, retry_after: str | None = None) -> None:
        super().__init__(problem.detail or problem.title, remedy=problem.remedy)
        self.status = status
        self.kind = problem.type.rpartition("/")[2]
        """As `/problems/KIND` explains it."""
        self.title = problem.title
        self.detail = problem.detail
        self.field = problem.field
        self.errors = problem.errors
        self.request_id = problem.request_id
        self._retry_after = retry_after

    @property
    def may_pass(self) -> bool:
        return self.kind == IN_FLIGHT or (self.status in PASSING and self.kind not in LASTING)

    @property
    def did_nothing(self) -> bool:
        return self.status == HTTPStatus.TOO_MANY_REQUESTS

    @property
    def retry_after(self) -> float | None:
        with contextlib.suppress(ValueError):
            return float(self._retry_after) if self._retry_after else None
        return None


def refused(answer: httpx.Response) -> RefusedError:
    """The error that an answer is; its body must have been read."""
    status = f"{answer.status_code} {answer.reason_phrase}".strip()
    try:
        problem = ProblemAnswer.model_validate_json(answer.content)
    except ValidationError:
        problem = ProblemAnswer()
    if not (problem.detail or problem.title):
        problem.title = f"The service, or what stands before it, answered {status}."
    return RefusedError(answer.status_code, problem, answer.headers.get("Retry-After"))


def lost(error: httpx.TransportError, url: object) -> UnreachableError:
    """The error that a broken connection is."""
    unsent: tuple[type[Any], ...] = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
    reason = str(error) or type(error).__name__
    return UnreachableError(
        f"No answer from {url}: {reason}.", was_sent=not isinstance(error, unsent)
    )

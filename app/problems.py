"""Errors as answers: RFC 9457 problem+json, one shape for all, made in one place.

Which error a rule raises stands beside the rule; what the kinds mean is in kinds/.
"""

import logging
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app import kinds
from app.db import DATABASE_AWAY
from app.pointers import pointer
from app.storage import StorageError
from pst_core.errors import PstError

logger = logging.getLogger(__name__)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MEDIA_TYPE = "application/problem+json"
# Where pydantic speaks of its own inside.
_WORDS = {"extra_forbidden": "there is no such field here", "missing": "it is needed"}


class FieldError(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    field: str
    """Dotted path in the body, or name of the parameter or header."""
    pointer: str | None = None
    """Of what is in the body, its place in it: a JSON pointer (RFC 6901), such as `#/dataset/ref`.
    Of a field that is missing, the place where it should be."""
    message: str


class ProblemBody(BaseModel):
    """What every error answers with (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: Annotated[str, Field(examples=[kinds.path("invalid_request")])]
    """Stable and machine-readable; a path of this service that tells what it means."""
    title: str
    """What happened, the same for all of this type."""
    status: int
    detail: str
    """What happened this time."""
    remedy: str = ""
    """What to do about it."""
    field: str | None = None
    """The first of `errors`, where there is one."""
    errors: list[FieldError] = []
    """All that is wrong with the request's fields and parameters."""
    request_id: str
    """As in `X-Request-ID`, and in the service's log."""


class Problem(HTTPException):
    """An error of one of the kinds, the field it concerns and what the caller can do."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        field: str | None = None,
        pointer: str | None = None,
        remedy: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.kind = kind
        self.field = field
        self.pointer = pointer
        self.remedy = remedy

    def answer(self, request_id: str) -> JSONResponse:
        errors = []
        if self.field:
            errors = [FieldError(field=self.field, pointer=self.pointer, message=self.detail)]
        return _answer(
            request_id,
            self.status_code,
            self.kind,
            self.detail,
            headers=self.headers,
            field=self.field,
            errors=errors,
            remedy=self.remedy,
        )


def not_found(what: str) -> Problem:
    """The same for what is another project's and for what never was."""
    return Problem(
        404, "not_found", f"There is no such {what}.", remedy="Check the id and the key's project."
    )


def install(app: FastAPI) -> None:
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(PstError, _refused_by_the_core)
    for away in (*DATABASE_AWAY, PoolTimeoutError):
        app.add_exception_handler(away, _database_away)
    app.add_exception_handler(StorageError, _storage_away)
    app.add_exception_handler(Exception, _unexpected)


def _answer(
    request_id: str,
    status: int,
    kind: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    known = kinds.KINDS.get(kind)
    # It checks what it is given, the rest of its fields included.
    body = ProblemBody(
        # What a framework raises and the table does not know is no more than its status.
        type=kinds.path(kind) if known else "about:blank",
        title=known.title if known else HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=request_id,
        **more,
    )
    content = body.model_dump(exclude_none=True)
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


def _request_id(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


def _http_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, Problem):
        return error.answer(_request_id(request))
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_allowed(request))
        kind = HTTPStatus(error.status_code).name.lower()
        return _answer(
            _request_id(request),
            error.status_code,
            kind,
            error.detail,
            headers=headers,
            remedy=kinds.KINDS[kind].remedy if kind in kinds.KINDS else "",
        )
    raise error


def _allowed(request: Request) -> Iterator[str]:
    """The methods of all routes of the path; Starlette tells those of the first one alone."""
    for method in METHODS:
        scope = {"type": "http", "path": request.scope["path"], "method": method}
        if any(route.matches(scope)[0] == Match.FULL for route in request.app.routes):
            yield method


def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    if isinstance(error.body, bytes):
        return _no_json(request)
    errors = [_field_error(item, error.body) for item in error.errors()]
    # One problem has one field; the others stand in its list.
    first = errors[0]
    return _answer(
        _request_id(request),
        422,
        "invalid_request",
        f"{first.field}: {first.message}",
        field=first.field,
        errors=errors,
        remedy="See /docs for the fields of this call and their bounds.",
    )


def _no_json(request: Request) -> JSONResponse:
    return Problem(
        415,
        "unsupported_media_type",
        "The Content-Type of the body is not JSON.",
        field="Content-Type",
        remedy="Send Content-Type: application/json.",
    ).answer(_request_id(request))


def _field_error(item: Mapping[str, Any], body: object) -> FieldError:
    source, *location = item["loc"]
    return FieldError(
        # The body as a whole has no field.
        field=".".join(str(part) for part in location) or str(source),
        pointer=pointer(location, body) if source == "body" else None,
        message=words(item),
    )


def words(item: Mapping[str, Any]) -> str:
    """What is wrong with one field, of a ``ValidationError``'s errors."""
    return _WORDS.get(item["type"]) or str(item["msg"]).removeprefix("Value error, ")


def _refused_by_the_core(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, PstError):
        raise error
    errors = []
    if error.field:
        # What the core looks at came in the body.
        body = request.scope.get("json_body")
        where = None if body is None else pointer(error.field.split("."), body)
        errors = [FieldError(field=error.field, pointer=where, message=error.message)]
    known = kinds.KINDS.get(error.code)
    return _answer(
        _request_id(request),
        (known and known.status) or 422,
        error.code,
        error.message,
        field=error.field,
        errors=errors,
        remedy=error.remedy,
    )


def _database_away(request: Request, error: Exception) -> JSONResponse:
    logger.warning("the database did not answer: %s", type(error).__name__)
    return _answer(
        _request_id(request),
        503,
        "database_unavailable",
        "The database does not answer in time.",
        remedy="Try again in a few seconds.",
        headers={"Retry-After": "5"},
    )


def storage_unavailable() -> Problem:
    return Problem(
        503,
        "storage_unavailable",
        "The storage does not do its part.",
        remedy="Try again later; the operator finds the cause in the service's log.",
        headers={"Retry-After": "60"},
    )


def _storage_away(request: Request, _error: Exception) -> JSONResponse:
    return storage_unavailable().answer(_request_id(request))


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # What it was is told to the log alone: a message of a library may hold secrets.
    logger.error("unexpected error", exc_info=error)
    return _answer(
        _request_id(request),
        500,
        "internal",
        "Something went wrong here.",
        remedy="Report the request_id to who runs this service.",
    )

"""Errors as answers: RFC 9457 problem+json, one shape for all, made in one place.

Which error a rule raises stands beside the rule.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.db import DATABASE_AWAY
from pst_core.errors import PstError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    field: str
    """Dotted path in the body or name of the parameter."""
    message: str


class ProblemBody(BaseModel):
    """What every error answers with."""

    type: str
    """Stable and machine-readable."""
    title: str
    status: int
    detail: str
    remedy: str = ""
    field: str | None = None
    errors: list[FieldError] = []
    request_id: str


class Problem(HTTPException):
    """An error with a stable type, the field it concerns and what the caller can do."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        field: str | None = None,
        remedy: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.kind = kind
        self.field = field
        self.remedy = remedy


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
    app.add_exception_handler(Exception, _unexpected)


def _answer(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    # It checks what it is given, the rest of its fields included.
    body = ProblemBody(
        type=f"urn:pst:problem:{kind}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=request.scope.get("request_id", ""),
        **more,
    )
    content = body.model_dump(exclude_none=True)
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, Problem):
        return _answer(
            request,
            error.status_code,
            error.kind,
            error.detail,
            headers=error.headers,
            field=error.field,
            remedy=error.remedy,
        )
    if isinstance(error, HTTPException):
        kind = HTTPStatus(error.status_code).name.lower()
        return _answer(request, error.status_code, kind, error.detail, headers=error.headers)
    raise error


def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [
        FieldError(field=_field(item["loc"]), message=item["msg"].removeprefix("Value error, "))
        for item in error.errors()
    ]
    # One problem has one field; the others stand in its list.
    first = errors[0]
    return _answer(
        request,
        422,
        "invalid_request",
        f"{first.field}: {first.message}",
        field=first.field,
        errors=errors,
        remedy="See /docs for the fields of this call and their bounds.",
    )


def _field(location: Sequence[str | int]) -> str:
    # The first part says where it stood (body, query); a malformed body has no field at all.
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def _refused_by_the_core(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, PstError):
        raise error
    return _answer(request, 422, error.code, error.message, field=error.field, remedy=error.remedy)


def _database_away(request: Request, error: Exception) -> JSONResponse:
    logger.warning("the database did not answer: %s", type(error).__name__)
    return _answer(
        request,
        503,
        "database_unavailable",
        "The database does not answer.",
        remedy="Try again in a few seconds.",
        headers={"Retry-After": "5"},
    )


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # What it was is told to the log alone: a message of a library may hold secrets.
    logger.error("unexpected error", exc_info=error)
    return _answer(
        request,
        500,
        "internal",
        "Something went wrong here.",
        remedy="Report the request_id to who runs this service.",
    )

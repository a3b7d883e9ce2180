"""Errors as pages: the API's kinds, words and statuses, for who reads them in a browser."""

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app import kinds
from app.db import DATABASE_AWAY
from app.problems import Problem, logger, storage_unavailable
from app.storage import StorageError
from app.web.headers import protect
from app.web.rendering import render
from app.web.sign_in import SignInNeededError, lead_to_sign_in
from pst_core.errors import PstError

NOT_FOUND = kinds.KINDS["not_found"]


def install(page: FastAPI) -> None:
    page.add_exception_handler(SignInNeededError, lead_to_sign_in)
    page.add_exception_handler(HTTPException, _http_error)
    page.add_exception_handler(RequestValidationError, _invalid)
    page.add_exception_handler(PstError, _refused_by_the_core)
    for away in (*DATABASE_AWAY, PoolTimeoutError):
        page.add_exception_handler(away, _database_away)
    page.add_exception_handler(StorageError, _storage_away)
    page.add_exception_handler(Exception, _unexpected)


def _http_error(request: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        title = kinds.KINDS[error.kind].title
        answer = _told(request, error.status_code, title, error.detail, error.remedy)
        answer.headers.update(error.headers or {})
        return answer
    if not isinstance(error, HTTPException):
        raise error
    # What the framework refuses is a path or a method that there is not.
    return _told(request, error.status_code, NOT_FOUND.title, NOT_FOUND.meaning, NOT_FOUND.remedy)


def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    if first["loc"][0] == "path":
        # An id that cannot be one is of nothing that there is.
        return _told(request, 404, NOT_FOUND.title, NOT_FOUND.meaning, NOT_FOUND.remedy)
    kind = kinds.KINDS["invalid_request"]
    return _told(request, 422, kind.title, f"{first['loc'][-1]}: {first['msg']}", kind.remedy)


def _refused_by_the_core(request: Request, error: Exception) -> Response:
    if not isinstance(error, PstError):
        raise error
    kind = kinds.KINDS.get(error.code)
    title = kind.title if kind else "It was refused"
    return _told(request, (kind and kind.status) or 422, title, error.message, error.remedy)


def _database_away(request: Request, error: Exception) -> Response:
    logger.warning("the database did not answer: %s", type(error).__name__)
    kind = kinds.KINDS["database_unavailable"]
    return _told(request, 503, kind.title, kind.meaning, kind.remedy)


def _storage_away(request: Request, _error: Exception) -> Response:
    return _http_error(request, storage_unavailable())


def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error)
    kind = kinds.KINDS["internal"]
    answer = _told(request, 500, kind.title, kind.meaning, kind.remedy)
    # It is made outside of all that adds to answers.
    protect(answer.headers)
    return answer


def _told(request: Request, status: int, title: str, detail: str, remedy: str) -> Response:
    return render(request, "error.html", status, title=title, detail=detail, remedy=remedy)

"""Errors as the Hub's clients expect them: JSON with ``error``, and a code in a header.

Clients choose the exception they raise by ``X-Error-Code``, and show ``X-Error-Message``.
"""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.db import DATABASE_AWAY
from app.problems import Problem, storage_unavailable
from app.storage import StorageError


class Code(StrEnum):
    REPO = "RepoNotFound"
    REVISION = "RevisionNotFound"
    ENTRY = "EntryNotFound"
    UNFINISHED = "GatedRepo"
    """The repository is there, and may not be read: the job has no checkpoint."""


class HubError(HTTPException):
    """An error with a code of the Hub."""

    def __init__(self, code: Code, message: str, *, commit: str | None = None) -> None:
        status = 403 if code is Code.UNFINISHED else 404
        headers = {"X-Repo-Commit": commit} if commit else {}
        super().__init__(status, message, headers | {"X-Error-Code": code})


def no_repo() -> HubError:
    """The same for what is another project's, for what never was, and for what we never have."""
    return HubError(
        Code.REPO,
        "The API key's project has no such job or sweep; they are named jobs/JOB_ID and "
        "sweeps/SWEEP_ID.",
    )


def install(hub: FastAPI) -> None:
    hub.add_exception_handler(HTTPException, _http_error)
    for away in (*DATABASE_AWAY, PoolTimeoutError):
        hub.add_exception_handler(away, _database_away)
    hub.add_exception_handler(StorageError, _storage_away)


def _http_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        message = f"{error.detail} Set HF_TOKEN to one that is valid."
        return _answer(401, message, {**(error.headers or {}), "X-Error-Code": Code.REPO})
    if isinstance(error, Problem):
        message = f"{error.detail} {error.remedy}".strip()
        return _answer(error.status_code, message, error.headers)
    if error.status_code == HTTPStatus.NOT_FOUND and not isinstance(error, HubError):
        error = no_repo()
    return _answer(error.status_code, error.detail, error.headers)


def _database_away(_request: Request, _error: Exception) -> JSONResponse:
    return _answer(
        503, "The database does not answer. Try again in a few seconds.", {"Retry-After": "5"}
    )


def _storage_away(request: Request, _error: Exception) -> JSONResponse:
    return _http_error(request, storage_unavailable())


def _answer(status: int, message: str, headers: Mapping[str, str] | None) -> JSONResponse:
    # Headers hold plain text alone.
    plain = message.encode("ascii", "replace").decode()
    return JSONResponse({"error": message}, status, {**(headers or {}), "X-Error-Message": plain})

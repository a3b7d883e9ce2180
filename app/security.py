"""API keys: making, hashing and checking them. A key tells its project and its scopes."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security, params
from fastapi.openapi.models import HTTPBearer
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import SessionDep
from app.keyring import Keyring
from app.problems import Problem
from app.projects import queries
from app.projects.tables import Scope
from app.rates import Standing, site

KEY = re.compile(r"pst_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is, by which key, and what that may be used for."""

    project_id: str
    key_id: str
    scopes: frozenset[Scope]

    def may(self, scope: str) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


def make_key() -> tuple[str, str, bytes]:
    """A new key, its public id and the hash of its secret: 256 random bits need no slow hash."""
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    return f"pst_{key_id}_{secret}", key_id, hash_secret(secret)


def hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class BearerKey(SecurityBase):
    """The key of ``Authorization: Bearer``: a dependency that gives its caller."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="An API key: `pst_…`")
        self.scheme_name = "HTTPBearer"

    async def __call__(self, request: Request, session: SessionDep) -> Caller:
        """Whose key came with the request.

        Raises:
            Problem: 401, the same whatever was wrong with the key; 429 where it comes too often,
                or too many bad ones came from its address.
        """
        scheme, key = get_authorization_scheme_param(request.headers.get("authorization"))
        return await identify(request, session, key if scheme.lower() == "bearer" else None)


authenticated = BearerKey()


async def identify(request: Request, session: AsyncSession, presented: str | None) -> Caller:
    """Whose key this is, however it came.

    Raises:
        Problem: As for `authenticated`.
    """
    state = request.app.state
    match = KEY.fullmatch(presented) if presented else None
    # A key that is none costs the same statement and the same comparison as any other.
    key_id, secret = match.groups() if match else ("", "")
    secret_sha256 = hash_secret(secret)
    keyring: Keyring = state.keyring
    address = site(request.client.host if request.client else "")
    # Whose key was good some seconds ago does not suffer from others at the same address.
    if not keyring.had(key_id, secret_sha256):
        _bound(state.bad_keys.look(address))
    key = keyring.recall(key_id) or await keyring.look_up(session, key_id)
    if not hmac.compare_digest(secret_sha256, key.secret_sha256) or not key.active:
        state.bad_keys.take(address)
        raise _invalid_key()
    request.state.standing = state.requests.take(key_id)
    _bound(request.state.standing)
    keyring.note_use(key_id)
    return Caller(key.project_id, key_id, key.scopes)


def _invalid_key() -> Problem:
    return Problem(
        401,
        "invalid_key",
        "The API key is missing, malformed, unknown, expired or revoked.",
        remedy="Send Authorization: Bearer pst_…; `pst keys create` makes one.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _bound(standing: Standing) -> None:
    if standing.allowed:
        return
    raise Problem(
        429,
        "rate_limited",
        f"Too many requests of the same {standing.name}.",
        remedy=f"Come back in {standing.retry_after} s, and then ask less often.",
        headers={"Retry-After": str(standing.retry_after), **standing.headers},
    )


async def _check_scopes(
    request: Request,
    required: SecurityScopes,
    caller: Annotated[Caller, Depends(authenticated)],
) -> None:
    request.state.caller = caller
    for scope in required.scopes:
        if not caller.may(scope):
            raise Problem(
                403,
                "insufficient_scope",
                f"The API key lacks the scope {scope}.",
                remedy=f"Use a key with {scope}, or with admin; POST /keys makes one.",
                headers={
                    "WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"',
                },
            )


def needs(scope: Scope) -> params.Depends:
    """A route's dependency: whoever calls it must have the scope."""
    declared: params.Depends = Security(_check_scopes, scopes=[scope.value])
    return declared


async def _caller(request: Request) -> Caller:
    """Whom `needs` let in, which comes before: a route that names no scope has no caller."""
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]


async def _project(request: Request) -> str:
    return (await _caller(request)).project_id


ProjectId = Annotated[str, Depends(_project)]


async def valid_keys(session: AsyncSession, key_ids: Collection[str]) -> set[str]:
    """Those that still let anybody in: for what goes on longer than it took to check its key."""
    return set(await session.scalars(queries.active_keys(key_ids)))


async def check_again(session: AsyncSession, caller: Caller) -> None:
    """Whether who has waited for an answer may still have it.

    Raises:
        Problem: 401, as for `authenticated`.
    """
    if not await valid_keys(session, [caller.key_id]):
        raise _invalid_key()

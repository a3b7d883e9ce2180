"""API keys: making, hashing and checking them. Which project a key belongs to is all it tells."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import SessionDep
from app.problems import Problem
from app.projects.tables import ApiKey

KEY = re.compile(r"pst_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
# No secret has this hash.
NO_SECRET = bytes(32)

bearer = HTTPBearer(auto_error=False, description="An API key: `pst_…`")


def make_key() -> tuple[str, str, bytes]:
    """A new key, its public id and the hash of its secret: 256 random bits need no slow hash."""
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    return f"pst_{key_id}_{secret}", key_id, hash_secret(secret)


def hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


async def authenticated_project(
    session: SessionDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> str:
    """The id of the project whose key came with the request.

    Raises:
        Problem: 401, the same whatever was wrong with the key.
    """
    match = KEY.fullmatch(credentials.credentials) if credentials else None
    # An unknown key costs the same query and the same comparison as a known one.
    key_id, secret = match.groups() if match else ("", "")
    row = (
        await session.execute(
            select(ApiKey.project_id, ApiKey.secret_sha256).where(ApiKey.id == key_id)
        )
    ).one_or_none()
    project_id, expected = row or (None, NO_SECRET)
    if not hmac.compare_digest(hash_secret(secret), expected) or project_id is None:
        raise Problem(
            401,
            "invalid_key",
            "The API key is missing, malformed or unknown.",
            remedy="Send Authorization: Bearer pst_…; `pst keys create` makes one.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return project_id


ProjectId = Annotated[str, Depends(authenticated_project)]


def presented_key(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> str:
    """The id of the key that came with the request; whether it is good is not asked here."""
    match = KEY.fullmatch(credentials.credentials) if credentials else None
    return match[1] if match else ""


KeyId = Annotated[str, Depends(presented_key)]


async def valid_keys(session: AsyncSession, key_ids: Collection[str]) -> set[str]:
    """Those of the keys that may still be used; asks the database each time."""
    return set(await session.scalars(select(ApiKey.id).where(ApiKey.id.in_(key_ids))))

"""The rules of Idempotency-Key (draft-ietf-httpapi-idempotency-key-header), as jobs use them.

A key is a project's for a day. The same request gets the answer that the first one got; another
request is refused. Only what was accepted is remembered: a request that was refused changed
nothing and may be sent again, corrected, under the same key.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Header
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.idempotency import queries
from app.problems import Problem

Answer = dict[str, Any]

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A name of your own for this request: sent again with the same body within "
        f"{queries.KEPT_HOURS} hours, it gets the same answer and does nothing more.",
    ),
]


async def once(
    session: AsyncSession,
    project_id: str,
    key: str | None,
    request: BaseModel,
    act: Callable[[], Awaitable[Answer]],
) -> Answer:
    """Act, or give the answer of when the same was asked before.

    Args:
        session: Its transaction holds the key until the act is done, or undone.
        project_id: Whose key it is.
        key: None acts always.
        request: What is asked; defaults that are spelt out make no other request.
        act: Does it, and returns the answer.

    Raises:
        Problem: 422 where the key came with another request.
    """
    if key is None:
        return await act()
    fingerprint, digest = _fingerprint(request), hash_key(project_id, key)
    # Waits for another transaction that has just inserted it: 20 at once get one answer.
    if (await session.execute(queries.take(project_id, digest, fingerprint))).first() is not None:
        answer = await act()
        await session.execute(queries.answer(project_id, digest, answer))
        return answer
    known = (await session.scalars(queries.one(project_id, digest))).one_or_none()
    if known is None or known.answer is None:
        raise Problem(
            409,
            "request_in_flight",
            "The first request with this Idempotency-Key is not done yet.",
            remedy="Send it again in a moment.",
            headers={"Retry-After": "1"},
        )
    if known.request_sha256 != fingerprint:
        raise Problem(
            422,
            "idempotency_key_reused",
            "This Idempotency-Key came with another request before.",
            field="Idempotency-Key",
            remedy="Use a new key for a new request.",
        )
    return known.answer


def hash_key(project_id: str, key: str) -> str:
    """What is kept of a key: callers make them of what they have, perhaps of what is secret."""
    return hashlib.sha256(f"{project_id}/{key}".encode()).hexdigest()


def _fingerprint(request: BaseModel) -> bytes:
    text = json.dumps(request.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).digest()

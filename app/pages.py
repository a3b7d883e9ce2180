"""Cursor pages: newest first or in order of a number. The cursor is opaque to callers."""

import base64
import binascii
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from app.problems import Problem

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=1000, description="How many at the most.")]
Cursor = Annotated[
    str | None, Query(max_length=256, description="`next_cursor` of the page before.")
]


class Page(BaseModel, Generic[Item]):
    data: list[Item]
    has_more: bool
    next_cursor: str | None


def encode_cursor(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        position = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise _malformed() from error
    if not position.isprintable():
        raise _malformed()
    return position


def decode_number(cursor: str | None) -> int:
    """The number to go on after; 0 at the start."""
    position = decode_cursor(cursor) if cursor else "0"
    # PostgreSQL's integers end there.
    if not position.isdecimal() or int(position) > 2**31 - 1:
        raise _malformed()
    return int(position)


def make_page(items: list[Item], limit: int, positions: list[str]) -> Page[Item]:
    """A page of ``limit`` from up to one more item than fits, with each item's position."""
    more = len(items) > limit
    cursor = encode_cursor(positions[limit - 1]) if more else None
    return Page(data=items[:limit], has_more=more, next_cursor=cursor)


def _malformed() -> Problem:
    return Problem(
        422,
        "invalid_cursor",
        "The cursor is not one of ours.",
        field="cursor",
        remedy="Pass on next_cursor of the page before, unchanged.",
    )

"""Cursor pages: newest first or in order of a number. The cursor is opaque to callers."""

import base64
import binascii
import hashlib
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from app.problems import Problem

Item = TypeVar("Item")

DIGEST = 16  # characters that tell which list a cursor is of

Limit = Annotated[int, Query(ge=1, le=1000, description="How many at the most.")]
Cursor = Annotated[
    str | None, Query(max_length=256, description="`next_cursor` of the page before.")
]

# The kinds of problems that there are with cursors.
CURSOR_PROBLEMS = ("invalid_cursor", "cursor_of_another_list")


class Page(BaseModel, Generic[Item]):
    data: list[Item]
    has_more: bool
    next_cursor: str | None


def encode_cursor(position: str, scope: str = "") -> str:
    """A cursor of one list.

    Args:
        position: Where the next page begins.
        scope: Which list that is of; a cursor of another is refused.
    """
    text = f"{_digest(scope)}{position}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, scope: str = "") -> str:
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        position = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise _malformed() from error
    if not position.isprintable():
        raise _malformed()
    if not position.startswith(_digest(scope)):
        raise Problem(
            422,
            "cursor_of_another_list",
            "The cursor is of another list: of another project or other filters.",
            field="cursor",
            remedy="Pass it on with the key and the filters of the page before, or leave it out.",
        )
    return position[DIGEST:]


def decode_number(cursor: str | None, scope: str) -> int:
    """The number to go on after; 0 at the start."""
    position = decode_cursor(cursor, scope) if cursor else "0"
    # PostgreSQL's integers end there.
    if not position.isdecimal() or int(position) > 2**31 - 1:
        raise _malformed()
    return int(position)


def make_page(items: list[Item], limit: int, positions: list[str], scope: str = "") -> Page[Item]:
    """A page of ``limit`` from up to one more item than fits, with each item's position."""
    more = len(items) > limit
    cursor = encode_cursor(positions[limit - 1], scope) if more else None
    return Page(data=items[:limit], has_more=more, next_cursor=cursor)


def _digest(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()[:DIGEST]


def _malformed() -> Problem:
    return Problem(
        422,
        "invalid_cursor",
        "The cursor is not one of ours.",
        field="cursor",
        remedy="Pass on next_cursor of the page before, unchanged.",
    )

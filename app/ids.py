"""Identifiers: a prefix that tells the noun, and a UUIDv7, so that they sort by age."""

from uuid6 import uuid7


def first_id(prefix: str, seconds: float) -> str:
    """The least id that can be made so long after 1970."""
    milliseconds = min(max(int(seconds * 1000), 0), 2**48 - 1)
    return f"{prefix}_{milliseconds:012x}{0:020x}"


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid7().hex}"

"""Identifiers: a prefix that tells the noun, and a UUIDv7, so that they sort by age."""

from uuid6 import uuid7


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid7().hex}"

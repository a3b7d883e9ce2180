"""Answers beside one another."""

from collections.abc import Mapping


def comparable(headers: Mapping[str, str]) -> dict[str, str]:
    """All but how often was asked, which two answers to the same may differ in."""
    return {name: value for name, value in headers.items() if name != "ratelimit"}

"""Which bytes a request wants, by its conditions and its range (RFC 9110, sections 13 and 14)."""

import re
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import Headers

from app.problems import Problem

ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')
# Longer numbers are no honest offsets, and Python refuses to read them.
RANGE = re.compile(r"([0-9]{0,1000})-([0-9]{0,1000})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The status of the answer, and the bytes it carries, from ``start`` to before ``stop``."""

    status: int
    start: int = 0
    stop: int = 0


def wanted(method: str, headers: Headers, *, entity_tag: str, size: int) -> Wanted:
    """What to answer to a GET or HEAD.

    Args:
        method: Of the request.
        headers: Of the request.
        entity_tag: Of the file, a strong one, in its quotes.
        size: Of the file, in bytes.

    Returns:
        200 with all bytes; 206 with those of the one range that is asked for; 304; 412 or 416.
        Several ranges at once, and what is no range, are answered as if none were asked for.
    """
    if_match = _listed(headers, "if-match")
    if if_match and if_match != "*" and entity_tag not in ENTITY_TAG.findall(if_match):
        return Wanted(412)
    if is_known(headers, entity_tag):
        return Wanted(304)
    # Only GET has ranges. A client that knows of another file gets all of this one.
    if method == "GET" and headers.get("if-range", entity_tag) == entity_tag:
        return _in_range(_listed(headers, "range"), size)
    return Wanted(200, 0, size)


def refused(found: Wanted, size: int) -> Problem:
    """What a 412 or 416 is answered with.

    Args:
        found: It.
        size: Of the file, in bytes.
    """
    if found.status == HTTPStatus.PRECONDITION_FAILED:
        return Problem(
            412,
            "precondition_failed",
            "The file is another one than If-Match names.",
            remedy="Ask for it without If-Match, and look at the ETag of what comes.",
        )
    return Problem(
        416,
        "range_not_satisfiable",
        f"The file ends before that range: it has {size} bytes.",
        remedy="Ask for bytes that it has; if you have as many already, you have them all.",
        headers={"Content-Range": f"bytes */{size}"},
    )


def is_known(headers: Headers, entity_tag: str) -> bool:
    """Whether the client has it already, by its If-None-Match."""
    if_none_match = _listed(headers, "if-none-match")
    # A weak tag is as good here: both name the same.
    known = [tag.removeprefix("W/") for tag in ENTITY_TAG.findall(if_none_match)]
    return if_none_match == "*" or entity_tag in known


def _in_range(header: str, size: int) -> Wanted:
    unit, _, listed = header.partition("=")
    ranges = [each.strip() for each in listed.split(",") if each.strip()]
    found = RANGE.fullmatch(ranges[0]) if len(ranges) == 1 else None
    if unit.strip().lower() != "bytes" or found is None or found[0] == "-":
        return Wanted(200, 0, size)
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return Wanted(200, 0, size)
    # Without a first byte, it is the last so many.
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    return Wanted(206, start, stop) if start < stop else Wanted(416)


def _listed(headers: Headers, name: str) -> str:
    # Sent twice, a list goes on.
    return ", ".join(headers.getlist(name)).strip()

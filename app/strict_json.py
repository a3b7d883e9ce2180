"""JSON as it is read from callers: RFC 8259 without what readers of it disagree about.

What the fields mean, and their bounds, is not known here.
"""

import json
import math
from collections.abc import Iterator
from typing import NoReturn

from app.pointers import pointer
from app.problems import Problem
from pst_core.fields import is_storable

MAX_DEPTH = 32
MAX_DIGITS = 40  # of an integer; no field takes one with half as many

Location = tuple[str | int, ...]


def parse(body: bytes) -> object:
    """The value that a body holds.

    Raises:
        Problem: 400 where it is not JSON, names a field of one object twice or is nested too
            deeply; 422, with the place, where a number or a text is one that cannot be kept.
    """
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_int=_integer,
        )
    except RecursionError as error:
        raise _too_deep() from error
    except UnicodeDecodeError as error:
        raise _no_json(f"Byte {error.start} is not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise _no_json(f"{error.msg} at line {error.lineno} column {error.colno}.") from error
    for location, leaf in _leaves(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise _not_kept(location, value, "is a number too large to be kept")
        if isinstance(leaf, str) and not is_storable(leaf):
            raise _not_kept(location, value, "must not contain NUL or unpaired surrogates")
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise _no_json(f"One object has {_shown(name)} twice.")
        members[name] = value
    return members


def _no_constant(name: str) -> NoReturn:
    raise _no_json(f"{name} is no number of JSON.")


def _integer(digits: str) -> float:
    # Python refuses to read one of some thousand digits, without saying where it stands.
    return int(digits) if len(digits) <= MAX_DIGITS else math.inf


def _leaves(value: object) -> Iterator[tuple[Location, object]]:
    """All names and values that hold no others, with their places. It does not recurse."""
    waiting: list[tuple[Location, object]] = [((), value)]
    while waiting:
        location, value = waiting.pop()
        if isinstance(value, dict | list) and len(location) >= MAX_DEPTH:
            raise _too_deep()
        if isinstance(value, dict):
            yield from ((location, name) for name in value)
            waiting += [((*location, name), member) for name, member in value.items()]
        elif isinstance(value, list):
            waiting += [((*location, index), item) for index, item in enumerate(value)]
        else:
            yield location, value


def _no_json(detail: str) -> Problem:
    return Problem(400, "invalid_json", detail, remedy="Have a JSON library write the body.")


def _too_deep() -> Problem:
    return _no_json(f"It is nested more than {MAX_DEPTH} deep.")


def _not_kept(location: Location, body: object, what: str) -> Problem:
    field = ".".join(str(part) for part in location) or "body"
    return Problem(
        422,
        "invalid_request",
        f"{_shown(field)} {what}.",
        field=_shown(field),
        pointer=pointer(location, body),
        remedy="Change or leave out what stands there.",
    )


def _shown(name: str) -> str:
    """A name of the caller's, such that it can be sent back."""
    return name.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")[:200]

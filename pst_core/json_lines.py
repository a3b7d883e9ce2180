"""JSON lines: one object a line, without what readers of JSON disagree about."""

import json
import math
from collections.abc import Iterator
from typing import NoReturn

from pst_core.dataset_profile import ReadLimits
from pst_core.errors import InvalidDatasetError
from pst_core.fields import is_storable

_Holder = dict[str, object] | list[object]

MAX_DEPTH = 32
MAX_DIGITS = 40  # of an integer


def json_records(
    lines: Iterator[str], name: str, limits: ReadLimits
) -> Iterator[tuple[str, dict[object, object]]]:
    """The records, each with its place.

    Raises:
        InvalidDatasetError: With the line that is no object, names a key twice, is nested too deep
            or holds a number or a text that cannot be kept.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            record = DECODER.decode(line)
            if isinstance(record, dict):
                _check(record, escaped="\\u" in line)
        except (ValueError, RecursionError) as error:
            raise _refusal(f"{place} is not JSON: {_reason(error)}.") from error
        if not isinstance(record, dict):
            raise _refusal(f"{place} is not a JSON object.")
        if len(record) > limits.columns:
            raise _refusal(f"{place} has {len(record):,} keys, and {limits.columns:,} is the most.")
        yield place, record


def _check(record: dict[str, object], *, escaped: bool) -> None:
    """Look at what the parser lets pass. Only escapes write what UTF-8 has no bytes for."""
    waiting: list[tuple[_Holder, int]] = [(record, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        for member in _members(value):
            if isinstance(member, dict | list):
                waiting.append((member, depth + 1))
            elif isinstance(member, float) and not math.isfinite(member):
                raise ValueError("a number is too large")
            elif escaped and isinstance(member, str) and not is_storable(member):
                raise ValueError("a text holds NUL or half of a surrogate pair")


def _members(value: _Holder) -> list[object]:
    return [*value, *value.values()] if isinstance(value, dict) else value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in members if names.count(name) > 1)
        raise ValueError(f"one object has {twice[:200]!r} twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(digits)


def _reason(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


def _refusal(message: str) -> InvalidDatasetError:
    return InvalidDatasetError(message, field="dataset.ref", remedy="Write one JSON object a line.")


DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer
)

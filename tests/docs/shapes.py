"""Whether an answer is as a page shows it: the same names and types, whatever the values."""

import re
from typing import Any

MORE = "…"


def differences(shown: Any, found: Any, at: str = "") -> list[str]:  # noqa: ANN401 -- any JSON
    """Where what was found is not of the shape shown. A name `…` stands for more names."""
    if isinstance(shown, dict) and isinstance(found, dict):
        return _of_names(shown, found, at)
    if isinstance(shown, list) and isinstance(found, list):
        if bool(shown) != bool(found):
            return [f"{at}: shown with {len(shown)}, found with {len(found)} items"]
        pairs = zip(shown, found, strict=False)  # a page shows the first of them
        return [line for pair in pairs for line in differences(*pair, f"{at}[]")]
    if None in (shown, found) or _kind(shown) == _kind(found):
        return []
    return [f"{at}: shown as {shown!r}, found as {found!r}"]


def _of_names(shown: dict[str, Any], found: dict[str, Any], at: str) -> list[str]:
    names = shown.keys() - {MORE}
    lost = [f"{at}.{name}: shown, not found" for name in names - found.keys()]
    if MORE not in shown:
        lost += [f"{at}.{name}: found, not shown" for name in found.keys() - names]
    both = sorted(names & found.keys())
    return lost + [
        line for name in both for line in differences(shown[name], found[name], f"{at}.{name}")
    ]


def _kind(value: object) -> object:
    return float if type(value) is int else type(value)


def is_printed(line: str, printed: str) -> bool:
    """Whether a line is there as shown, but for its numbers and what `…` stands for."""
    pattern = re.escape(line.strip())
    pattern = re.sub(r"\d[\d.,]*", r"[\\d.,]+", pattern.replace(r"\.", "."))
    return re.search(pattern.replace(MORE, ".*").replace(r"\ ", r"\s+"), printed) is not None

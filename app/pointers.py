"""JSON pointers (RFC 6901) into the bodies of requests, as URI fragments. None are read."""

from collections.abc import Sequence
from urllib.parse import quote

# What a fragment may hold as it is (RFC 3986, section 3.5).
SAFE = "!$&'()*+,;=:@/?~"


def pointer(location: Sequence[str | int], body: object) -> str:
    """The place in a body that an error is about.

    Args:
        location: The names and indices that lead to it; they may go on where the body does not: a
            default that was not sent has fields, and a field of several types has an error of each.
        body: What was sent, as parsed.

    Returns:
        The place itself, or where it should be; of what lies within a text or a number, that.
    """
    tokens: list[str] = []
    for part in location:
        if not isinstance(body, dict | list):
            break
        tokens.append(str(part).replace("~", "~0").replace("/", "~1"))
        body = _member(body, part)
    return "#" + "".join(f"/{quote(token, safe=SAFE)}" for token in tokens)


def _member(body: dict[str, object] | list[object], part: str | int) -> object:
    if isinstance(body, dict):
        return body.get(str(part))
    return body[part] if isinstance(part, int) and part < len(body) else None

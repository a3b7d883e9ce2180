"""What can be sent at all: addresses, keys, bodies, queries. What they mean, the service checks."""

import math
from collections.abc import Iterator, Mapping

import httpx

from app.client.errors import InvalidInputError

MOST_PORT = 65535


def checked_url(url: str) -> str:
    """The service's address, without the slash at its end.

    Raises:
        InvalidInputError: It is none.
    """
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise _no_address(url, f": {error}") from None
    # A socket would say so as an OverflowError, and late.
    is_port = parts.port is None or parts.port <= MOST_PORT
    if parts.scheme not in {"http", "https"} or not parts.host or not is_port:
        raise _no_address(url)
    return url.rstrip("/")


def checked_key(key: str) -> str:
    """An API key, which goes into a header.

    Raises:
        InvalidInputError: It has characters that no header may have; they are not repeated.
    """
    if not (key.isascii() and key.isprintable()):
        raise InvalidInputError(
            "The API key has characters that no key has.",
            remedy="Give the whole key, as it was shown once: in PST_API_KEY, or to `pst login`.",
        )
    return key


def check_sendable(given: Mapping[str, object]) -> None:
    """See that JSON can say it, and an address.

    Raises:
        InvalidInputError: It cannot; the field is named.
    """
    for field, value in _leaves("", given):
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInputError(
                f"{field}: {value} is no number that JSON has.", remedy="Give a finite number."
            )
        if isinstance(value, str) and not _is_unicode(value):
            raise InvalidInputError(f"{field}: not a text in UTF-8.", remedy="Encode it as UTF-8.")


def _no_address(url: str, why: str = "") -> InvalidInputError:
    return InvalidInputError(
        f"{url!r} is no address of a service{why}.",
        remedy="Give one such as http://127.0.0.1:8000: by --url, PST_URL or `pst login`.",
    )


def _leaves(field: str, value: object) -> Iterator[tuple[str, object]]:
    """All that is no object and no array, with its path."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield field, name
            yield from _leaves(f"{field}.{name}" if field else str(name), inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _leaves(f"{field}.{index}", inner)
    else:
        yield field, value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

"""Takes secrets out of text: those this installation has, and whatever looks like one."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from app.settings import Settings

HIDDEN = "***"
SHORTEST = 6  # what is shorter would hide half of all words, and is no secret anyway
# Secrets that libraries read from the environment by themselves.
VARIABLE = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PGPASSWORD|SECRET_ACCESS_KEY|ACCOUNT_KEY|API_KEY)$"
)

# Each keeps what names the secret and hides the rest; a part of the alternation that begins with a
# literal is found fast.
SHAPES = re.compile(
    r"(?P<key>\bpst_[0-9a-f]{8}_)[A-Za-z0-9_-]{43}"
    r"|(?P<hub>\bhf_)[A-Za-z0-9]{16,}"
    r"|(?P<webhook>\bwhsec_)[A-Za-z0-9+/_=-]{16,}"
    r"|(?P<aws>\b(?:AKIA|ASIA))[A-Z0-9]{16}\b"
    r"|(?P<url>://[^\s/:@'\"]*:)[^\s/@'\"]+(?=@)"
    r"|(?P<header>\b[Aa]uthorization['\"]?\s*[:=,]\s*b?['\"]?(?:[A-Za-z]+\s+)?)[^\s'\",;)]+"
    r"|(?P<bearer>\b[Bb]earer\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?P<field>(?:\b|_)(?i:password|passwd|secret|secret_access_key|token|api_?key|x-amz-signature"
    r"|x-amz-security-token)['\"]?\s*[=:]\s*['\"]?)(?!\*\*\*)[^\s'\"&,;)]{6,}"
)


# Without one of these in it, whatever the case, a text has none of the shapes. Asked first: that
# costs a tenth.
SIGNS = (
    *("pst_", "hf_", "whsec_", "akia", "asia", "://", "authorization", "bearer"),
    *("passw", "secret", "token", "apikey", "api_key", "x-amz"),
)


class Redactor:
    """Args: secrets: Those that this process knows by their value."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one may begin with another.
        self._known = sorted({s for s in secrets if len(s) >= SHORTEST}, key=len, reverse=True)
        self._known_bytes = [s.encode("utf-8", "surrogateescape") for s in self._known]

    def __call__(self, text: str) -> str:
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        lowered = text.lower()
        if not any(sign in lowered for sign in SIGNS):
            return text
        return SHAPES.sub(_hide, text)

    def known(self, data: bytes) -> bytes:
        """Of text that is somebody else's, hide nothing but what is ours."""
        for secret in self._known_bytes:
            data = data.replace(secret, HIDDEN.encode())
        return data


def _hide(match: re.Match[str]) -> str:
    return f"{match[match.lastgroup or 0]}{HIDDEN}"


def secrets_of(settings: Settings) -> Iterator[str]:
    """All that an installation must keep to itself, in each form in which it may be written."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            yield from _parts(value.get_secret_value())
        elif isinstance(value, str) and "://" in value:
            yield from _passwords(value)
    for variable, value in os.environ.items():
        if VARIABLE.search(variable):
            yield value


def _parts(secret: str) -> Iterator[str]:
    """A secret, and where it is JSON, such as a storage's options, each text in it."""
    yield secret
    with suppress(ValueError):
        found = json.loads(secret)
        if isinstance(found, dict):
            yield from (value for value in found.values() if isinstance(value, str))


def _passwords(url: str) -> Iterator[str]:
    authority = urlsplit(url).netloc or url.partition("://")[2].partition("/")[0]
    userinfo, at, _ = authority.rpartition("@")
    _, colon, password = userinfo.partition(":")
    if at and colon:
        yield password
        yield unquote(password)

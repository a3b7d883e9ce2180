"""How often: token buckets for keys, and for addresses that come with bad ones.

In this process alone, and bounded; docs/decisions tells why. What is refused is said in
security.py.
"""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REMEMBERED = 10_000  # who asked last; a bucket that is forgotten is full again
SITE_BITS = 64  # of an IPv6 address: what one customer gets


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a bucket: draft-ietf-httpapi-ratelimit-headers-09."""

    name: str
    burst: int
    per_second: float
    tokens: float

    @property
    def allowed(self) -> bool:
        return self.tokens >= 0

    @property
    def retry_after(self) -> int:
        """Seconds until there is a token."""
        return max(1, math.ceil(-self.tokens / self.per_second))

    @property
    def headers(self) -> dict[str, str]:
        left = max(0, math.floor(self.tokens))
        window = math.ceil(self.burst / self.per_second)
        until_full = math.ceil((self.burst - self.tokens) / self.per_second)
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.burst};w={window}',
            "RateLimit": f'"{self.name}";r={left};t={until_full}',
        }


class Buckets:
    """One for each name: holds ``burst`` tokens, and gets ``per_second`` back."""

    def __init__(
        self,
        name: str,
        *,
        burst: int,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._burst, self._per_second = name, burst, per_second
        self._clock = clock
        # Of each that is not full, when it will be: all there is to know of it.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, who: str) -> Standing:
        """Take a token if there is one; the standing tells."""
        standing = self.look(who)
        if not standing.allowed:
            return standing
        now = self._clock()
        self._full_at[who] = max(now, self._full_at.get(who, now)) + 1 / self._per_second
        self._full_at.move_to_end(who)
        if len(self._full_at) > REMEMBERED:
            self._full_at.popitem(last=False)
        return standing

    def look(self, who: str) -> Standing:
        """How it would stand with one token less."""
        missing = max(0.0, self._full_at.get(who, 0.0) - self._clock()) * self._per_second
        tokens = self._burst - missing - 1
        return Standing(self._name, self._burst, self._per_second, tokens)


class RateLimitHeaders:
    """Adds a key's standing to whatever answers its request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_standing(message: Message) -> None:
            standing: Standing | None = scope.get("state", {}).get("standing")
            if message["type"] == "http.response.start" and standing is not None:
                MutableHeaders(scope=message).update(standing.headers)
            await send(message)

        await self.app(scope, receive, send_with_standing)


def site(host: str) -> str:
    """Whom an address stands for: of IPv6 its network, since nobody has one address alone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    return str(ipaddress.ip_network((address, SITE_BITS), strict=False))

"""The API keys of the caller's project; the caller's own needs the scope ``admin``."""

from collections.abc import Iterator, Sequence

from app.client.transport import Transport
from app.projects.schemas import KeyCreated, KeyOut
from app.projects.scopes import ORDINARY, Scope


class Keys:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, name: str, scopes: Sequence[Scope] = ORDINARY, *, seconds: int | None = None
    ) -> KeyCreated:
        """Make a key, whose secret is told this once.

        Args:
            name: What it is for.
            scopes: What it may be used for.
            seconds: How long it lasts; None: until it is revoked.
        """
        body = {"name": name, "scopes": list(scopes), "expires_in_seconds": seconds}
        return self._transport.post("/keys", KeyCreated, body)

    def list(self) -> Iterator[KeyOut]:
        return self._transport.pages("/keys", KeyOut)

    def rotate(self, key_id: str, grace_seconds: int) -> KeyCreated:
        """Make its successor; the key itself stays valid for so long."""
        body = {"grace_seconds": grace_seconds}
        return self._transport.post(f"/keys/{key_id}/rotate", KeyCreated, body)

    def revoke(self, key_id: str) -> None:
        self._transport.delete(f"/keys/{key_id}")

"""One file of a hub to disk: counted and hashed while it comes, gone on with where it was cut."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx2
from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError

from worker.fetching.repository import BUSY, Hub, RemoteFile, Repository

READ_ONLY = 0o444


class _CutShortError(Exception):
    """The answer ended before the file."""


@dataclass(slots=True)
class _Incoming:
    """What has come of a file so far."""

    file: RemoteFile
    out: IO[bytes]
    size: int = 0
    hashing: Any = field(init=False)

    def __post_init__(self) -> None:
        self.hashing = self.file.hashing()

    def restart(self) -> None:
        self.out.seek(0)
        self.out.truncate()
        self.size, self.hashing = 0, self.file.hashing()

    def add(self, block: bytes) -> None:
        self.out.write(block)
        self.hashing.update(block)
        self.size += len(block)


@dataclass(frozen=True, slots=True)
class Downloads:
    """Of one commit of a repository.

    Args:
        repository: It.
        commit: The commit.
        hub: Where it lies.
        on_bytes: Told how many bytes have come since it was last told.
    """

    repository: Repository
    commit: str
    hub: Hub
    on_bytes: Callable[[int], None]

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Download a file, read-only.

        Raises:
            HubUnavailableError: It does not come, or other bytes do than the hub has declared.
            PstError: The subclass says why else it cannot be had.
        """
        with target.open("xb") as out:
            incoming = _Incoming(file, out)
            self._receive_all(incoming)
            if incoming.hashing.hexdigest() != file.digest:
                raise self.repository.unavailable(
                    f"sent other bytes of {file.path} than it declares"
                )
            out.flush()
            os.fsync(out.fileno())
        target.chmod(READ_ONLY)

    def _receive_all(self, incoming: _Incoming) -> None:
        failures = 0
        while incoming.size < incoming.file.size:
            before = incoming.size
            try:
                self._receive(incoming)
            except (httpx2.TransportError, HfHubHTTPError, _CutShortError) as error:
                if isinstance(error, HfHubHTTPError) and not _may_pass(error):
                    with self.repository.errors():
                        raise
                # A long download may be cut often, as long as it gets further.
                failures = 1 if incoming.size > before else failures + 1
                if failures > len(self.hub.waits):
                    why = f"does not send {incoming.file.path} ({type(error).__name__})"
                    raise self.repository.unavailable(why) from error
                time.sleep(self.hub.waits[failures - 1])

    def _receive(self, incoming: _Incoming) -> None:
        """Take what one answer brings."""
        path, size = incoming.file.path, incoming.file.size
        headers = {"Accept-Encoding": "identity"}
        if self.hub.token:
            # It goes to no other host that the hub may send us to.
            headers["Authorization"] = f"Bearer {self.hub.token}"
        if incoming.size:
            headers["Range"] = f"bytes={incoming.size}-"
        url = hf_hub_url(
            self.repository.name,
            path,
            repo_type=self.repository.what,
            revision=self.commit,
            endpoint=self.hub.endpoint,
        )
        with get_session().stream("GET", url, headers=headers) as answer:
            hf_raise_for_status(answer)
            if answer.status_code != httpx2.codes.PARTIAL_CONTENT:
                incoming.restart()
            # As it comes: what waits to fill a block would be lost with the connection.
            for block in answer.iter_raw():
                if incoming.size + len(block) > size:
                    raise self.repository.unavailable(
                        f"sends more of {path} than the {size} bytes it declares"
                    )
                incoming.add(block)
                self.on_bytes(len(block))
        if incoming.size < size:
            raise _CutShortError


def _may_pass(error: HfHubHTTPError) -> bool:
    status = error.response.status_code
    return status in BUSY or status >= httpx2.codes.INTERNAL_SERVER_ERROR

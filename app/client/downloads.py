"""A checkpoint on its way to a file: cut and gone on with, and checked before it gets its name."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import httpx

from app.artifacts.schemas import ArtifactOut
from app.client.errors import ClientError, CorruptDownloadError, UnexpectedAnswerError
from app.client.transport import Transport
from pst_core.download import unpack as unpack_archive
from pst_core.errors import PstError

CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Downloaded:
    path: Path
    """The archive, or the folder that it held."""
    format: str
    size: int
    """Of the archive, in bytes."""
    sha256: str
    """Of the same: what was published, and what came."""


class Download:
    """One archive; what is there of it stays beside its place under a name that tells its hash."""

    def __init__(
        self, transport: Transport, path: str, query: Mapping[str, str], artifact: ArtifactOut
    ) -> None:
        self._transport = transport
        self._path = path
        self._query = query
        self._artifact = artifact
        # The API's own: a bucket that it redirects to has another, which means nothing to the API.
        self._entity_tag = f'"{artifact.sha256}"'

    def fetch(self, target: Path, *, unpack: bool, told: Told) -> Downloaded:
        artifact = self._artifact
        _check_name(artifact.name)
        archive = target / artifact.name if target.is_dir() else target
        folder = archive.parent / artifact.name.removesuffix(".tar")
        if unpack and folder.exists():
            raise ClientError(
                f"{folder} is there already.", remedy="Remove it, or name another folder."
            )
        part = archive.parent / f".{archive.name}.{artifact.sha256[:16]}.part"
        if not (archive.is_file() and _sha256(archive) == artifact.sha256):
            self._complete(part, told)
            part.replace(archive)
        if unpack:
            _unpack(archive, folder)
            archive.unlink()
        place = folder if unpack else archive
        return Downloaded(place, artifact.format, artifact.size, artifact.sha256)

    def _complete(self, part: Path, told: Told) -> None:
        """Have all bytes in a file.

        Raises:
            CorruptDownloadError: They are not those that were published; nothing is left.
        """
        # What another run has left may be damaged: then once more, from the start.
        for _ in range(2 if part.exists() else 1):
            self._receive(part, told)
            if _sha256(part) == self._artifact.sha256:
                return
            part.unlink()
        raise CorruptDownloadError(
            f"{self._artifact.name}: other bytes came than were published; they are not kept.",
            remedy="Look for what changes them on the way, and download it again.",
        )

    def _receive(self, part: Path, told: Told) -> None:
        outage = self._transport.outage()
        with part.open("ab") as file:
            if file.tell() > self._artifact.size:
                _empty(file)
            while file.tell() < self._artifact.size:
                before = file.tell()
                try:
                    self._go_on(file, told)
                except ClientError as error:
                    if isinstance(error, CorruptDownloadError):
                        part.unlink()
                    file.flush()
                    if file.tell() > before:
                        outage.end()
                    self._transport.absorb(outage, error)

    def _go_on(self, file: BinaryIO, told: Told) -> None:
        """Append what comes in one answer."""
        done, size = file.tell(), self._artifact.size
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": self._entity_tag}
        with self._transport.stream(
            "GET", self._path, params=self._query, headers=headers
        ) as answer:
            if not _is_the_rest(answer, done, size):
                # From the start: the storage could not, or would not, go on.
                _empty(file)
                done = 0
            told(done, size)
            # As they come: what a chunk still lacks would be lost with the connection.
            for chunk in answer.iter_raw():
                done += len(chunk)
                if done > size:
                    raise CorruptDownloadError(
                        f"{self._artifact.name}: more than its {size} bytes came."
                    )
                file.write(chunk)
                told(done, size)


def _check_name(name: str) -> None:
    """See that neither the archive nor its folder leads out of the target.

    Raises:
        UnexpectedAnswerError: One of them would.
    """
    for part in (name, name.removesuffix(".tar")):
        if part in {"", ".."} or "\0" in part or Path(part).name != part:
            raise UnexpectedAnswerError(f"ArtifactOut, name: {name!r} is no plain file name")


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _is_the_rest(answer: httpx.Response, done: int, size: int) -> bool:
    if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
        return False
    found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None or (int(found[1]), int(found[2])) != (done, size):
        raise CorruptDownloadError("Another range came than was asked for.")
    return True


def _unpack(archive: Path, folder: Path) -> None:
    """Write the archive's folder; whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as scratch:
        try:
            unpack_archive(archive, Path(scratch)).rename(folder)
        except PstError as error:
            raise CorruptDownloadError(str(error), remedy=error.remedy) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Which bytes of a stored archive are one file of the checkpoint. Sending them is download.py's."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from app.artifacts.tables import Artifact


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a stored object that have a hash of their own: all of it, or one file in it.

    Args:
        storage_key: Of the object.
        stored_size: Of the whole object, in bytes.
        stored_sha256: Of the whole object, in hexadecimal.
        start: Offset of the first byte in it.
        size: In bytes.
        sha256: Of these bytes, in hexadecimal.
        name: What they are called when downloaded.
    """

    storage_key: str
    stored_size: int
    stored_sha256: str
    start: int
    size: int
    sha256: str
    name: str


def whole(artifact: Artifact) -> Part:
    size, sha256 = _described(artifact)
    return Part(artifact.storage_key, size, sha256, 0, size, sha256, artifact.name)


def files(artifact: Artifact) -> Iterator[Part]:
    """The files of a checkpoint, in the archive's order.

    A tar is a header and the file's bytes, filled up to full blocks, one after the other. How
    long a header is follows from the name and the size, as `worker/publish.py` gives them.
    """
    stored = _described(artifact)
    root = artifact.name.removesuffix(".tar")
    end = 0
    for file in artifact.files:
        entry = tarfile.TarInfo(f"{root}/{file['name']}")
        entry.size = file["size"]
        start = end + len(entry.tobuf(tarfile.PAX_FORMAT))
        yield Part(artifact.storage_key, *stored, start, file["size"], file["sha256"], file["name"])
        end = start + file["size"] + -file["size"] % tarfile.BLOCKSIZE


def _described(artifact: Artifact) -> tuple[int, str]:
    if artifact.size is None or artifact.sha256 is None:
        raise ValueError(f"{artifact.id} is not wholly written")
    return artifact.size, artifact.sha256

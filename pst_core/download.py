"""Fetches a checkpoint's tar over HTTP and unpacks it; what is in it is not looked at."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from shutil import copyfileobj

import httpx

from pst_core.errors import CheckpointCorruptError, ModelNotFoundError

KEY_VARIABLE = "PST_API_KEY"
_TIMEOUT = httpx.Timeout(30.0)  # seconds, of each wait and not of the whole
_CHUNK = 1 << 20


def is_url(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def fetch(url: str, folder: Path) -> Path:
    """Download a checkpoint, as `GET /jobs/{id}/checkpoint` gives it.

    Args:
        url: Of a tar that holds one folder. The API key in the environment's `PST_API_KEY` goes
            along, to this host alone.
        folder: Where the tar's folder is made.

    Returns:
        The checkpoint's folder.

    Raises:
        ModelNotFoundError: The server can't be reached or has no such checkpoint; says what it
            answered.
        CheckpointCorruptError: What came is no tar of one folder of plain files.
    """
    archive = folder / "checkpoint.tar"
    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.stream(
            "GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True
        ) as answer:
            if not answer.is_success:
                answer.read()
                raise _refused(url, answer)
            with archive.open("xb") as file:
                for chunk in answer.iter_bytes(_CHUNK):
                    file.write(chunk)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ModelNotFoundError(
            f"{url} cannot be downloaded: {error or type(error).__name__}.",
            remedy="Check the address, and that the service is up.",
        ) from error
    try:
        return unpack(archive, folder)
    finally:
        archive.unlink()


def unpack(archive: Path, folder: Path) -> Path:
    """Write the plain files of a checkpoint's tar.

    Returns:
        The one folder that they are in, below ``folder``.

    Raises:
        CheckpointCorruptError: It is no tar of one folder of plain files.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            return folder / _extract(tar, folder)
    except tarfile.TarError as error:
        raise CheckpointCorruptError(f"What came is no tar: {error}.") from error


def _refused(url: str, answer: httpx.Response) -> ModelNotFoundError:
    remedy = "Check the job's id and status."
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        remedy = f"Set {KEY_VARIABLE} to an API key of the job's project."
    reason = f"{answer.status_code} {answer.reason_phrase}"
    return ModelNotFoundError(f"{url} answers {reason}: {answer.text[:500]}", remedy=remedy)


def _extract(tar: tarfile.TarFile, folder: Path) -> str:
    """Write the plain files of an archive; the name of the one folder that they are in."""
    # By hand, since the earliest releases of Python 3.11 know no extraction filters.
    roots = set()
    for member, path in _files(tar):
        roots.add(path.parts[0])
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        if content is None or target.exists():
            raise CheckpointCorruptError(f"The checkpoint's tar has {member.name!r} twice.")
        with content, target.open("xb") as file:
            copyfileobj(content, file, _CHUNK)
    if len(roots) != 1:
        raise CheckpointCorruptError(f"The checkpoint's tar holds {len(roots)} folders, not one.")
    return str(roots.pop())


def _files(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    for member in tar:
        path = PurePosixPath(member.name)
        inside = len(path.parts) > 1 and not path.is_absolute() and ".." not in path.parts
        if member.isdir():
            continue
        if not member.isfile() or not inside:
            raise CheckpointCorruptError(
                f"The checkpoint's tar has {member.name!r}, which is no plain file in a folder."
            )
        yield member, path

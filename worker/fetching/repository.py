"""A hub's repositories: what a revision is, which files it has, and what a hub's errors mean.

Bytes are download.py's; which files are wanted is wanted.py's.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from pst_core.errors import (
    DatasetGatedError,
    DatasetNotFoundError,
    HubUnavailableError,
    ModelGatedError,
    ModelNotFoundError,
    PstError,
)

What = Literal["model", "dataset"]

FIELDS: dict[What, str] = {"model": "model", "dataset": "dataset.ref"}
COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_FILES = 10_000  # of a repository that is still looked through
BUSY = (408, 429)
_ABSENT = (
    RepositoryNotFoundError,
    RevisionNotFoundError,
    EntryNotFoundError,
    DisabledRepoError,
    HFValidationError,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hub:
    """A hub.

    Args:
        endpoint: Its address.
        token: What it knows us by.
        waits: Seconds before each further try in a row that got nothing.
    """

    endpoint: str
    token: str | None = field(default=None, repr=False)
    waits: Sequence[float] = (1.0, 2.0, 4.0, 8.0)

    @property
    def api(self) -> HfApi:
        # Without a token of ours none is sent, whatever this host's user has.
        return HfApi(endpoint=self.endpoint, token=self.token or False)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its hub describes it.

    Args:
        path: In the repository.
        size: In bytes.
        algorithm: `sha256` of the bytes, or Git's `sha1` of them and of how many they are.
        digest: In hexadecimal.
    """

    path: str
    size: int
    algorithm: Literal["sha256", "sha1"]
    digest: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def key(self) -> str:
        """The same for the same bytes."""
        return f"{self.algorithm}-{self.digest}"

    def hashing(self) -> Any:  # noqa: ANN401 -- what hashlib makes has no public type
        """A hash that is the digest, once it was given all bytes."""
        if self.algorithm == "sha256":
            return hashlib.sha256()
        # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
        return hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)


@dataclass(frozen=True, slots=True)
class Repository:
    """One that a job's reference names; ``revision`` as it was asked for."""

    what: What
    name: str
    revision: str

    @property
    def field(self) -> str:
        return FIELDS[self.what]

    def __str__(self) -> str:
        return f"hub:{self.name}@{self.revision}"

    def commit(self, hub: Hub) -> str:
        """The commit that the revision is by now.

        Raises:
            PstError: The subclass says why it cannot be told.
        """
        with self.errors():
            found = hub.api.repo_info(self.name, repo_type=self.what, revision=self.revision)
            if not COMMIT.fullmatch(found.sha or ""):
                raise ValueError(f"no commit: {found.sha}")
            return str(found.sha)

    def files(self, hub: Hub, commit: str) -> list[RemoteFile]:
        """The files of a commit.

        Raises:
            PstError: The subclass says why they cannot be told.
        """
        found: list[RemoteFile] = []
        with self.errors():
            for entry in hub.api.list_repo_tree(
                self.name, repo_type=self.what, revision=commit, recursive=True
            ):
                if isinstance(entry, RepoFile):
                    found.append(_described(entry))
                if len(found) > MAX_FILES:
                    raise self._absent(f"{self} has more than {MAX_FILES} files.")
        return found

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Makes what a hub and its client raise errors of a job."""
        try:
            yield
        except PstError:
            raise
        except GatedRepoError as error:
            raise self._gated(error) from error
        except _ABSENT as error:
            raise self._absent(f"The hub has no {self} that it shows us.") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status == httpx2.codes.FORBIDDEN:
                raise self._gated(error) from error
            if status == httpx2.codes.UNAUTHORIZED:
                raise self._absent(f"The hub shows {self} to nobody with our token.") from error
            raise self.unavailable(f"answers {status}") from error
        except (httpx2.HTTPError, OSError) as error:
            raise self.unavailable(f"cannot be reached ({type(error).__name__})") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # Whatever answers there, it does not speak the protocol.
            raise self.unavailable("answers something else than a hub") from error

    def unavailable(self, why: str) -> HubUnavailableError:
        return HubUnavailableError(
            f"{self} cannot be fetched: the hub {why}.",
            field=self.field,
            remedy="The job is tried again. Look whether the hub is up and reached from the "
            "worker (PST_HUB_ENDPOINT).",
        )

    def _gated(self, error: HfHubHTTPError) -> PstError:
        kind = ModelGatedError if self.what == "model" else DatasetGatedError
        said = f" It says: {error.server_message}" if error.server_message else ""
        return kind(
            f"The hub does not let us read {self}.{said}",
            field=self.field,
            remedy="Ask for access there, with the account whose token is in PST_HUB_TOKEN.",
        )

    def _absent(self, message: str) -> PstError:
        kind = ModelNotFoundError if self.what == "model" else DatasetNotFoundError
        return kind(
            message,
            field=self.field,
            remedy="Check name and revision; for a private one, the token in PST_HUB_TOKEN.",
        )


def _described(entry: RepoFile) -> RemoteFile:
    if entry.lfs is not None:
        found = RemoteFile(entry.path, entry.lfs.size, "sha256", entry.lfs.sha256)
    else:
        found = RemoteFile(entry.path, entry.size, "sha1", entry.blob_id)
    digits = 64 if found.algorithm == "sha256" else 40
    # It becomes a file's name here.
    if len(found.digest) != digits or set(found.digest) - set("0123456789abcdef"):
        raise ValueError(f"no digest: {found.digest}")
    if type(found.size) is not int or found.size < 0:
        raise ValueError(f"no size: {found.size}")
    return found

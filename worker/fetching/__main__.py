"""``python -m worker.fetching TASK``: fetch what a task names, and say what was fetched.

It knows the hub's address and token (HF_ENDPOINT, HF_TOKEN), and no other secret.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pst_core.errors import InvalidDatasetError, PstError, UnsupportedModelError
from pst_core.events import DownloadEvent, Event, FetchedEvent, PhaseEvent
from worker.failures import describe
from worker.fetching import contents, session, wanted
from worker.fetching.cache import Cache
from worker.fetching.download import Downloads
from worker.fetching.repository import Hub, RemoteFile, Repository, What
from worker.lifeline import die_with_supervisor

logger = logging.getLogger(__name__)

TELL_SECONDS = 30.0


@dataclass(slots=True)
class Progress:
    """Tells now and then how far a download has come."""

    emit: Callable[[Event], None]
    what: What
    total: int
    done: int = 0
    told_at: float = field(default_factory=time.monotonic)

    def add(self, count: int = 0) -> None:
        # A file that was cut and starts anew is counted twice.
        self.done = min(self.done + count, self.total)
        if time.monotonic() - self.told_at > TELL_SECONDS:
            self.told_at = time.monotonic()
            self.emit(DownloadEvent(what=self.what, bytes=self.done, total_bytes=self.total))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetcher:
    """Fetches repositories.

    Args:
        hub: Where they lie.
        cache: Where files are looked for first, and kept.
        max_bytes: That one repository may have of what is wanted.
        emit: Tells an event.
    """

    hub: Hub
    cache: Cache
    max_bytes: int
    emit: Callable[[Event], None]

    def fetch(self, repository: Repository, part: str | None, folder: Path) -> FetchedEvent:
        """Fetch what is wanted of a repository into a new folder.

        Raises:
            PstError: The subclass says what was wrong.
        """
        commit = repository.commit(self.hub)
        files = repository.files(self.hub, commit)
        only: str | None = None
        if repository.what == "model":
            chosen = wanted.model_files(files, str(repository))
        else:
            chosen, only = wanted.dataset_files(files, part, str(repository))
        total = sum(file.size for file in chosen)
        self._check_size(repository, total)
        progress = Progress(self.emit, repository.what, total)
        downloads = Downloads(repository, commit, self.hub, progress.add)
        folder.mkdir(parents=True)
        for file in chosen:
            path = folder / file.name
            self._bring(file, path, downloads, progress)
        return FetchedEvent(what=repository.what, commit=commit, file=only)

    def _bring(self, file: RemoteFile, path: Path, downloads: Downloads, told: Progress) -> None:
        if self.cache.take(file, path, told.add):
            told.add(file.size)
            contents.check(path, downloads.repository.what)
            return
        self.cache.make_room(file.size)
        downloads.fetch(file, path)
        contents.check(path, downloads.repository.what)
        self.cache.keep(file, path)

    def _check_size(self, repository: Repository, total: int) -> None:
        if total > self.max_bytes:
            kind = UnsupportedModelError if repository.what == "model" else InvalidDatasetError
            raise kind(
                f"{repository} has {total} bytes, and this service fetches {self.max_bytes}.",
                field=repository.field,
                remedy="Use a smaller one, or have the operator raise PST_HUB_MAX_BYTES.",
            )


def main(task_file: str) -> int:
    logging.basicConfig(level=logging.WARNING)
    threading.Thread(target=die_with_supervisor, daemon=True).start()
    task = json.loads(Path(task_file).read_bytes())
    pipe = os.fdopen(task["events"], "w", encoding="utf-8")

    def emit(event: Event) -> None:
        pipe.write(event.model_dump_json() + "\n")
        pipe.flush()

    try:
        emit(PhaseEvent(phase="fetching"))
        run(task, emit)
    except Exception as error:
        if not isinstance(error, PstError):
            logger.exception("the fetch failed")
        emit(describe(error, "The fetch"))
        return 1
    return 0


def run(task: dict[str, Any], emit: Callable[[Event], None]) -> None:
    """Fetch all that a task names."""
    hub = Hub(endpoint=os.environ["HF_ENDPOINT"], token=os.environ.get("HF_TOKEN"))
    session.use(hub.endpoint)
    fetcher = Fetcher(
        hub=hub,
        cache=Cache(Path(task["cache"]), task["cache_bytes"]),
        max_bytes=task["max_bytes"],
        emit=emit,
    )
    for each in task["fetch"]:
        repository = Repository(each["what"], each["name"], each["revision"])
        emit(fetcher.fetch(repository, each["part"], Path(each["folder"])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

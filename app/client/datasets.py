"""Files of rows: uploaded, looked at, deleted."""

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from app.client.errors import InvalidInputError
from app.client.transport import Transport, parse
from app.datasets.schemas import DatasetDetail, DatasetSummary

CHUNK = 1 << 20
LOOK_SECONDS = 1.0
UNCHECKED = frozenset({"uploading", "validating"})
MEDIA_TYPES = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
}
Told = Callable[[int, int], None]
"""Is told how many bytes of how many have gone, or come."""


class Datasets:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self, path: Path, name: str | None = None, *, told: Told = lambda _done, _of: None
    ) -> DatasetDetail:
        """Send a file; the service takes no other bytes than these, and the same only once.

        Args:
            path: Of a CSV, TSV, JSON lines or Parquet file; the first three also as `.gz`.
            name: What it is called; default: as the file, without its endings.
            told: How far it is.

        Raises:
            InvalidInputError: The file is none of those.
            ClientError: It is not taken.
        """
        endings = [ending.lower() for ending in path.suffixes]
        gzip = endings[-1:] == [".gz"]
        kind = endings[:-1][-1:] if gzip else endings[-1:]
        if not kind or kind[0] not in MEDIA_TYPES:
            raise InvalidInputError(
                f"{path} is of no kind that is read.",
                remedy=f"Give it one of the endings {', '.join(MEDIA_TYPES)}, or .gz behind it.",
            )
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()
        headers = {
            "Content-Type": MEDIA_TYPES[kind[0]],
            "Content-Length": str(size),
            "Content-Digest": f"sha-256=:{digest}:",
        } | ({"Content-Encoding": "gzip"} if gzip else {})

        answer = self._transport.send(
            "POST",
            "/datasets",
            body=lambda: _read(path, size, told),
            query={"name": name or path.name.partition(".")[0]},
            headers=headers,
            repeatable=True,
        )
        return parse(DatasetDetail, answer)

    def list(self, *, name: str | None = None, most: int | None = None) -> Iterator[DatasetSummary]:
        """The newest first; of one name, its versions."""
        query = {"name": name} if name else {}
        return self._transport.pages("/datasets", DatasetSummary, query, most=most)

    def get(self, dataset_id: str) -> DatasetDetail:
        return self._transport.get(f"/datasets/{dataset_id}", DatasetDetail)

    def wait(self, dataset_id: str) -> DatasetDetail:
        """The dataset, once it was checked."""
        while (found := self.get(dataset_id)).status in UNCHECKED:
            time.sleep(LOOK_SECONDS)
        return found

    def delete(self, dataset_id: str) -> None:
        self._transport.delete(f"/datasets/{dataset_id}")


def _read(path: Path, size: int, told: Told) -> Iterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sent += len(chunk)
            told(sent, size)
            yield chunk

"""The lines of a text file, however it is compressed and encoded, in bounded memory.

UTF-8 with or without a byte order mark, and UTF-16 with one, gzip around it or not. All else is
refused: of the many other encodings none can be told from the rest for certain, and a text that is
read in the wrong one trains a model on nonsense. What the lines mean is known elsewhere.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from pst_core.dataset_profile import ReadLimits
from pst_core.errors import InvalidDatasetError

Encoding = Literal["utf-8", "utf-16"]

LINE_LIMIT = 4_000_000  # characters; a file without line ends must not be read as one row
GZIP_MAGIC = b"\x1f\x8b"
BUFFER = 128 * 1024  # bytes
BOMB_BYTES = 32 * 1024**2  # decompressed; where so many in a row expand as no text does, it is none
BOMB_RATIO = 200
UNDECODABLE = "\udfff"  # half of a surrogate pair, which no decoder gives


def read_lines(path: Path, limits: ReadLimits) -> Iterator[str]:
    """The lines with their ends: LF, CR LF or CR.

    Raises:
        InvalidDatasetError: With the line where it is not text, is too long or holds NUL.
    """
    with _refusing_broken(path):
        yield from _decoded(path, limits)


def _decoded(path: Path, limits: ReadLimits) -> Iterator[str]:
    try:
        yield from _checked(path, limits, errors="strict")
    except UnicodeDecodeError as error:
        # The decoder reads in chunks and does not know where in the file it is.
        lines = _checked(path, limits, errors="pst-mark")
        number = next((n for n, line in enumerate(lines, start=1) if UNDECODABLE in line), 1)
        encoding = "UTF-16" if encoding_of(path) == "utf-16" else "UTF-8"
        raise _refusal(
            f"{path.name}, line {number}: not {encoding} ({error.reason}).", "Save it as UTF-8."
        ) from error


@contextmanager
def _refusing_broken(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError, zlib.error) as error:
        if not is_gzip(path):
            raise
        raise _refusal(
            f"{path.name} cannot be decompressed: {str(error).rstrip('.')}.", "Compress it again."
        ) from error


def refuse_bomb(path: Path, limits: ReadLimits) -> None:
    """Decompress a file and look no further: its rows would take a hundred times as long.

    Raises:
        InvalidDatasetError: It expands as no text does, is too long or cannot be decompressed.
    """
    if not is_gzip(path):
        return
    with _refusing_broken(path), closing(_Capped(path, limits.bytes)) as capped:
        buffer = bytearray(BUFFER)
        while capped.readinto(buffer):
            pass


def is_gzip(path: Path) -> bool:
    """Whether it is compressed, whatever it is called; no text begins with these bytes."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def encoding_of(path: Path) -> Encoding:
    """What its first bytes say that it is in.

    Raises:
        OSError: It cannot be decompressed.
    """
    with _opened(path) as file:
        mark = file.read(2)
    return "utf-16" if mark in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE} else "utf-8"


def _checked(path: Path, limits: ReadLimits, *, errors: str) -> Iterator[str]:
    encoding = "utf-16" if encoding_of(path) == "utf-16" else "utf-8-sig"
    raw: io.RawIOBase = _Capped(path, limits.bytes)
    capped = io.BufferedReader(raw, BUFFER)
    number = 0
    with closing(io.TextIOWrapper(capped, encoding=encoding, errors=errors, newline="")) as file:
        while line := file.readline(LINE_LIMIT + 1):
            number += 1
            if len(line) > LINE_LIMIT:
                raise _refusal(
                    f"{path.name}, line {number} is longer than {LINE_LIMIT:,} characters.",
                    "Break it into rows.",
                )
            if "\0" in line:
                raise _refusal(
                    f"{path.name}, line {number} holds a NUL character.",
                    "Save it as text, in UTF-8.",
                )
            yield line


class _Capped(io.RawIOBase):
    """What a file holds once decompressed, up to so many bytes."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit, self._count = path, limit, 0
        self._stored = path.open("rb")
        self._file = gzip.GzipFile(fileobj=self._stored) if is_gzip(path) else self._stored
        self._window = (0, 0)  # where the last stretch that was looked at ended, in both

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # stubs want Buffer
        data = self._file.read(len(buffer))
        self._count += len(data)
        if self._count > self._limit:
            what = f"has more than {self._limit:,} bytes"
            raise _refusal(f"{self._path.name} {what}.", "Upload fewer rows.")
        if self._count - self._window[0] > BOMB_BYTES:
            self._look_at_window()
        buffer[: len(data)] = data
        return len(data)

    def _look_at_window(self) -> None:
        """Refuse a bomb, be it one from its beginning or only from here on."""
        began, now = self._window, (self._count, self._stored.tell())
        if now[0] - began[0] > BOMB_RATIO * (now[1] - began[1]):
            raise _refusal(
                f"{self._path.name} expands more than {BOMB_RATIO}-fold.", "Upload fewer rows."
            )
        self._window = now

    def close(self) -> None:
        self._file.close()
        self._stored.close()
        super().close()


def _opened(path: Path) -> BinaryIO:
    if is_gzip(path):
        return gzip.open(path, "rb")  # type: ignore[return-value]  # it is one in all but name
    return path.open("rb")


def _mark(error: UnicodeError) -> tuple[str, int]:
    return UNDECODABLE, error.end if isinstance(error, UnicodeDecodeError) else 0


def _refusal(message: str, remedy: str) -> InvalidDatasetError:
    return InvalidDatasetError(message, field="dataset.ref", remedy=remedy)


codecs.register_error("pst-mark", _mark)

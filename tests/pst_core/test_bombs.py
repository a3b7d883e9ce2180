"""Files made to break who reads them are refused, in memory that they have no say in."""

import gzip
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

MEMORY = 300 * 2**20  # bytes, of a whole process
CPU_SECONDS = 60  # so that one that works is not waited for; each takes few

READ = """
import json, re, sys
from pathlib import Path
from pst_core.dataset_profile import ProfileLimits
from pst_core.errors import InvalidDatasetError
from pst_core.profiling import profile
path, kind = Path(sys.argv[1]), sys.argv[2]
try:
    profile(path, kind, ProfileLimits())
except InvalidDatasetError as error:
    # Unlike what getrusage tells, nothing of the process that it was forked from.
    peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    print(json.dumps([error.message, error.remedy, peak]))
"""


def repeated(block: bytes, times: int) -> Iterator[bytes]:
    """Compressed, and never there in full: members of gzip may follow one another."""
    yield gzip.compress(b"text,label\n")
    yield from [gzip.compress(block)] * times


def nested(depth: int) -> bytes:
    kind: pa.DataType = pa.int8()
    for _ in range(depth):
        kind = pa.list_(kind)
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"x": pa.array([None], kind)}), sink)
    return bytes(sink.getvalue())


def wide(columns: int) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({str(number): [0] for number in range(columns)}), sink)
    return bytes(sink.getvalue())


ROWS = b"a,0\n" * 2**20
Bomb = tuple[str, Callable[[], Iterable[bytes]], str]
BOMBS: dict[str, Bomb] = {
    "10 GB of short rows": (
        "d.csv.gz",
        lambda: repeated(ROWS, 2500),
        "expands more than 200-fold",
    ),
    "a line of 1 GB": (
        "d.csv",
        lambda: [b"text,label\n", *[b"x" * 2**20] * 2**10],
        "line 2 is longer than",
    ),
    "a compressed line of 10 GB": (
        "d.jsonl.gz",
        lambda: repeated(b"x" * 2**25, 320),
        "expands more than 200-fold",
    ),
    "a million columns": ("d.csv", lambda: [b"a," * 10**6 + b"b\n"], "line 1"),
    "a depth of 100,000": ("d.jsonl", lambda: [b'{"a": ' * 10**5], "line 1"),
    "a Parquet depth of 1,000": ("d.parquet", lambda: [nested(1000)], "Parquet"),
    "5,000 Parquet columns": ("d.parquet", lambda: [wide(5000)], "columns"),
    "NUL": ("d.csv", lambda: [b"text,label\na,\0\n"], "line 2"),
}


def within_bounds() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path, bomb: str) -> None:
    name, make, reason = BOMBS[bomb]
    path = tmp_path / name
    with path.open("wb") as file:
        file.writelines(make())

    read = subprocess.run(
        [sys.executable, "-c", READ, str(path), name.split(".")[1]],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=within_bounds,
    )

    assert read.returncode == 0, read.stderr
    message, remedy, peak = json.loads(read.stdout)
    assert reason in message
    assert remedy
    assert peak < MEMORY

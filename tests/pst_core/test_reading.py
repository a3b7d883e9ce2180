"""What is written in any dialect, encoding and compression reads back equal."""

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pst_core.dataset_profile import Dialect, ProfileLimits
from pst_core.errors import InvalidDatasetError
from pst_core.readers import dialect_of, records

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30
)
ROWS = st.lists(st.tuples(TEXT, st.sampled_from(["0", "1", "neg"])), min_size=1, max_size=12)
QUIET = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")


def texts(path: Path) -> list[tuple[object, object]]:
    return [(record["text"], record["label"]) for _, record in records(path)]


def encoded(text: str, encoding: str) -> bytes:
    mark = "\ufeff" if encoding in {"utf-16-le", "utf-16-be"} else ""
    return (mark + text).encode(encoding)


def refusal(path: Path) -> str:
    with pytest.raises(InvalidDatasetError) as caught:
        list(records(path))
    assert caught.value.remedy
    return caught.value.message


@QUIET
@given(
    rows=ROWS,
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    doubled=st.booleans(),
    encoding=st.sampled_from(ENCODINGS),
    packed=st.booleans(),
)
def test_what_csv_writes_reads_back_in_every_dialect(
    tmp_path: Path,
    rows: Sequence[tuple[str, str]],
    delimiter: str,
    end: str,
    doubled: bool,
    encoding: str,
    packed: bool,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=delimiter,
        lineterminator=end,
        doublequote=doubled,
        escapechar=None if doubled else "\\",
        quoting=csv.QUOTE_ALL,
    )
    writer.writerows([("text", "label"), *rows])
    content = encoded(text.getvalue(), encoding)
    path = tmp_path / ("d.csv.gz" if packed else "d.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    if doubled or any('"' in cell for row in rows for cell in row):
        assert texts(path) == rows


@QUIET
@given(rows=ROWS, separator=st.sampled_from(",;\t|"))
def test_what_pandas_writes_reads_back(
    tmp_path: Path, rows: Sequence[tuple[str, str]], separator: str
) -> None:
    # pandas puts no quotes around a CR that stands alone, which is then a line's end.
    rows = [(text.replace("\r", "\n"), label) for text, label in rows]
    frame = pd.DataFrame(rows, columns=["text", "label"])
    frame.to_csv(tmp_path / "d.csv", sep=separator)
    frame.to_json(tmp_path / "d.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "d.parquet")
    for name in ("d.csv", "d.jsonl", "d.parquet"):
        assert texts(tmp_path / name) == rows


@QUIET
@given(rows=ROWS, separator=st.sampled_from(",;\t|"))
def test_what_polars_writes_reads_back(
    tmp_path: Path, rows: Sequence[tuple[str, str]], separator: str
) -> None:
    frame = pl.DataFrame(rows, schema=["text", "label"], orient="row")
    frame.write_csv(tmp_path / "d.csv", separator=separator)
    frame.write_ndjson(tmp_path / "d.jsonl")
    frame.write_parquet(tmp_path / "d.parquet")
    for name in ("d.csv", "d.jsonl", "d.parquet"):
        assert texts(tmp_path / name) == rows


def test_parquet_dictionaries_read_as_their_values(tmp_path: Path) -> None:
    label = pa.array(["neg", "pos", "neg"]).dictionary_encode()
    parquet.write_table(pa.table({"text": ["a", "b", "c"], "label": label}), tmp_path / "d.parquet")
    assert texts(tmp_path / "d.parquet") == [("a", "neg"), ("b", "pos"), ("c", "neg")]


@pytest.mark.parametrize(
    ("content", "delimiter", "escape"),
    [
        ("text,label\na;b;c,1\n", ",", "doubled"),
        ("text;label\nHello, you;1\n3,5;0\n", ";", "doubled"),
        ("text|label\na\tb|1\n", "|", "doubled"),
        ('text,label\n"a \\"b\\", c",1\n', ",", "backslash"),
        ('text,path\nx,"C:\\"\n', ",", "doubled"),
        ("text\nHello; you\n", ",", "doubled"),
        ("text;label\na;1\na;b;1\nc;0\nd;0\n", ";", "doubled"),
    ],
)
def test_the_dialect_is_what_gives_every_row_the_headers_cells(
    tmp_path: Path, content: str, delimiter: str, escape: str
) -> None:
    path = tmp_path / "d.csv"
    path.write_text(content)
    assert dialect_of(path) == Dialect.model_validate({"delimiter": delimiter, "escape": escape})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a", "text": "b"}', "'text' twice"),
        ('{"x": {"y": 1, "y": 2}}', "'y' twice"),
        ('{"x": NaN}', "NaN is no number"),
        ('{"x": 1e999}', "too large"),
        (f'{{"x": {"9" * 5000}}}', "more than 40 digits"),
        ('{"x": "\\ud83d"}', "half of a surrogate pair"),
        ('{"x": ["a\\u0000"]}', "NUL"),
        ('{"x": ' + "[" * 40 + "]" * 40 + "}", "nested more than 32"),
        ('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deep"),
        ('{"x": "a\0"}', "NUL"),
    ],
)  # fmt: skip
def test_json_that_readers_disagree_about_is_refused_with_its_line(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(f'{{"x": 1}}\n{line}\n')
    message = refusal(path)
    assert "line 2" in message
    assert reason in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"text,label\na\0b,1\n", "line 2 holds a NUL"),
        (b"text,text\na,b\n", "line 1 names the column 'text' twice"),
        ("text,label\nna\xefve,1\n".encode("latin-1"), "line 2: not UTF-8"),
        (b"\xff\xfea\0,\0b\0\n\0\x00\xd8", "not UTF-16"),
    ],
)
def test_text_that_may_be_read_wrongly_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(content)
    assert reason in refusal(path)


@pytest.mark.parametrize("cut", [5, 30])
def test_a_broken_gzip_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + bytes(range(33, 127)) * 9)[:cut])
    assert "cannot be decompressed" in refusal(path)


def damaged(content: bytes, seed: int) -> bytes:
    dice = np.random.default_rng(seed)
    broken = bytearray(content)
    for _ in range(int(dice.integers(1, 8))):
        start = int(dice.integers(0, len(broken)))
        broken[start : start + int(dice.integers(0, 6))] = dice.bytes(int(dice.integers(0, 6)))
    return bytes(broken)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    rows = [{"text": f'a "b"\n{number}', "label": str(number % 2)} for number in range(40)]
    frame = pd.DataFrame(rows)
    frame.to_csv(folder / "d.csv")
    frame.to_csv(folder / "d.csv.gz")
    frame.to_csv(folder / "d.tsv", sep="\t", encoding="utf-16")
    frame.to_parquet(folder / "d.parquet")
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.tsv", "d.jsonl", "d.parquet"])
def test_damage_is_refused_or_read_and_nothing_else(
    tmp_path: Path, sound: Mapping[str, bytes], name: str
) -> None:
    path = tmp_path / name
    outcomes = set()
    for seed in range(60):
        path.write_bytes(damaged(sound[name], seed))
        try:
            outcomes.add(len(list(records(path, ProfileLimits()))) >= 0)
        except InvalidDatasetError:
            outcomes.add(False)
    assert False in outcomes

"""A record is one line, whatever is in it."""

import json
import logging
import sys
from collections.abc import Callable

import pytest

from app.logs.formats import MOST, JsonFormatter, TextFormatter
from app.logs.redaction import Redactor

HOSTILE = "a\r\nb\n\ndata: x\x1b[31m\u202egnp\u2066\u2028c\x85d\ud800\x00 é"


def record(
    message: object, *arguments: object, error: BaseException | None = None
) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("app.x", logging.WARNING, __file__, 1, str(message), arguments, info)


def raised(message: str) -> ValueError:
    try:
        raise ValueError(message)  # noqa: TRY301 -- for its traceback
    except ValueError as error:
        return error


@pytest.mark.parametrize("formatter", [JsonFormatter, TextFormatter])
@pytest.mark.parametrize(
    "make", [lambda: record("%s", HOSTILE), lambda: record("x", error=raised(HOSTILE))]
)
def test_a_record_is_one_line_of_what_can_be_printed(
    formatter: type[JsonFormatter], make: Callable[[], logging.LogRecord]
) -> None:
    line = formatter(Redactor()).format(make())

    assert line.isprintable()
    assert len(line.splitlines()) == 1
    line.encode()


def test_json_gives_back_what_was_said() -> None:
    line = JsonFormatter(Redactor()).format(record("%s", "a\r\nb\u202e"))

    assert json.loads(line)["message"] == "a\r\nb\u202e"


def test_a_record_tells_time_level_logger_and_message() -> None:
    entry = json.loads(JsonFormatter(Redactor()).format(record("%d left", 3)))

    assert entry.pop("time").endswith("Z")
    assert entry == {"level": "warning", "logger": "app.x", "message": "3 left"}


def test_an_exception_is_told_whole_and_without_secrets() -> None:
    error = raised("cannot reach redis://:s3cr3t@broker")
    entry = json.loads(JsonFormatter(Redactor()).format(record("x", error=error)))

    assert entry["exception"].startswith("Traceback")
    assert "ValueError: cannot reach redis://:***@broker" in entry["exception"]


def test_a_secret_is_hidden_where_it_came_as_an_argument_or_a_field() -> None:
    with_field = record("%s", {"Authorization": "Bearer abcdefghijk"})
    with_field.fields = {"url": "redis://:s3cr3t@broker"}
    line = JsonFormatter(Redactor()).format(with_field)

    assert "abcdefghijk" not in line
    assert "s3cr3t" not in line


def test_of_what_is_too_long_the_end_is_kept() -> None:
    entry = json.loads(JsonFormatter(Redactor()).format(record("x" * 2 * MOST + "the end")))

    assert len(entry["message"]) < MOST + 10
    assert entry["message"].endswith("the end")


def test_a_module_that_was_started_as_a_program_is_told_by_its_name() -> None:
    started = record("x")
    started.name = "__main__"
    spec = sys.modules["__main__"].__spec__
    entry = json.loads(JsonFormatter(Redactor()).format(started))

    assert entry["logger"] == (spec.name if spec else "__main__")

"""A record as one line: JSON for machines, text for who watches a terminal."""

import json
import logging
import re
import sys
from datetime import UTC, datetime

from app.logs.context import current
from app.logs.redaction import Redactor

MOST = 16 * 1024  # characters of a message or an exception; of longer ones the end is kept
# What could end a line, move a cursor or turn text around.
UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


class JsonFormatter(logging.Formatter):
    """Args: redact: What takes secrets out of each text."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        # All but ASCII is escaped: so a record is a line whatever its text.
        return json.dumps(self._entry(record), separators=(",", ":"), default=str)

    def _entry(self, record: logging.LogRecord) -> dict[str, object]:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, object] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": _name(record),
            "message": self._text(record.getMessage()),
        }
        own = getattr(record, "own", ())
        for name, value in {**current(), **getattr(record, "fields", {})}.items():
            if value is not None:
                hide = isinstance(value, str) and name not in own
                entry[name] = self._redact(value) if hide else value
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception"] = self._text(self.formatException(record.exc_info))
        return entry

    def _text(self, text: str) -> str:
        # Before it is cut: half a secret is not known for one.
        text = self._redact(text)
        return text if len(text) <= MOST else f"[cut] {text[-MOST:]}"


class TextFormatter(JsonFormatter):
    """The same fields, for eyes."""

    def format(self, record: logging.LogRecord) -> str:
        entry = self._entry(record)
        time, level, name, message = (
            str(entry.pop(key)) for key in ("time", "level", "logger", "message")
        )
        words = [time, level.upper(), f"{name}:", message]
        words += [f"{key}={value}" for key, value in entry.items()]
        return UNSAFE.sub(_escape, " ".join(words))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _name(record: logging.LogRecord) -> str:
    """Of a module that was started as a program, its own name."""
    if record.name != "__main__":
        return record.name
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else record.name

"""What people read: aligned columns, sizes, sparklines. Data goes to stdout, all else to stderr."""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

import typer
from pydantic import BaseModel

SPARKS = "▁▂▃▄▅▆▇█"
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def say(text: str) -> None:
    """Tell who watches, and not who reads the output."""
    typer.echo(f"pst: {printable(text)}", err=True)


def emit(model: BaseModel) -> None:
    """One object as one line of JSON."""
    typer.echo(model.model_dump_json())


def is_live() -> bool:
    """Whether what moves may be shown on stderr."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb"
    return sys.stderr.isatty() and not plain


def printable(text: str) -> str:
    """Without what would steer a terminal: what is shown comes from others."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "�" for sign in text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns, aligned; a cell is one line."""
    lines = [head, *([printable(cell).replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def facts(pairs: Iterable[tuple[str, str | None]]) -> None:
    """Names and values, one a line; what is not known is left out."""
    known = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        typer.echo(printable(f"{name.ljust(width)}  {value}"))


def size(count: float) -> str:
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} B"


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.4g}" if share > 1 else f"{100 * share:.3g} %"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{rest:02}"


def moment(time: datetime | None) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}" if time else ""


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The last so many of evenly chosen values, from the least to the greatest of them."""
    if not values:
        return ""
    step = max(len(values) / width, 1.0)
    chosen = [values[int(index * step)] for index in range(min(len(values), width))]
    least, greatest = min(chosen), max(chosen)
    span = (greatest - least) or 1.0
    return "".join(SPARKS[round((value - least) / span * (len(SPARKS) - 1))] for value in chosen)

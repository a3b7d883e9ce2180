"""Templates, and how values are written in them. What is shown is decided by the views."""

import hashlib
import re
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from app.charts.scales import size
from app.estimates.schemas import KNOWN_FROM

# What changes the direction of the text around it, and what a terminal or an eye takes for
# something else: such a character is shown by its name.
UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
AGO = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
POINTS = 100  # of a share


def visible(value: object) -> object:
    """Any text that stands in a template, such that nothing in it goes unseen."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", value)
    return value


def duration(seconds: float | None) -> str:
    """As its two largest units: 2 h 5 min."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return "under 1 s"
    left, parts = int(seconds), list[str]()
    for unit, name in AGO:
        count, left = divmod(left, unit)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
    return " ".join(filter(None, parts[:2]))


def time_tag(moment: datetime | None) -> Markup:
    """When it was, to the minute for all and relative for who glances."""
    if moment is None:
        return Markup("–")
    at = moment.astimezone(UTC)
    # Two clocks may differ by a little.
    past = (datetime.now(UTC) - at).total_seconds()
    if past >= 0:
        told = f"{_about(past)} ago" if past >= 1 else "just now"
    else:
        told = f"in {_about(-past)}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S} UTC", told
    )


def percent(share: float | None) -> str:
    return "–" if share is None else f"{POINTS * share:.4g} %"


def number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}".replace(",", "\u2009") if isinstance(value, int) else f"{value:.4g}"


def short(reference: str) -> str:
    """The end of a reference, which tells models and datasets apart."""
    last = reference.rstrip("/").rpartition("/")[2]
    return last.partition(":")[2] or last


def _about(seconds: float) -> str:
    unit, name = next(each for each in AGO if seconds >= each[0] or each[0] == 1)
    return f"{max(1, int(seconds // unit))} {name}"


@cache
def asset(name: str) -> str:
    """The URL of a file of ours; another one whenever it changes."""
    content = files("app.web").joinpath("static", name).read_bytes()
    return f"/ui/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


ENVIRONMENT = Environment(
    loader=PackageLoader("app.web"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=visible,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {
    "duration": duration,
    "ago": time_tag,
    "percent": percent,
    "number": number,
    "size": size,
    "short": short,
}
ENVIRONMENT.globals |= {"asset": asset, "known_from": KNOWN_FROM}


def render(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """A page; the menu is for whoever is signed in."""
    return HTMLResponse(page(request, template, **context), status)


def page(request: Request, template: str, **context: Any) -> str:
    caller = getattr(request.state, "caller", None)
    path = request.url.path
    return ENVIRONMENT.get_template(template).render(caller=caller, path=path, **context)

"""What every kind of error means, as pages: where the ``type`` of a problem leads, and the docs'.

The words are in kinds/.
"""

from html import escape
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from app.kinds import KINDS, Kind, path
from app.openapi import problem_answers
from app.problems import not_found

router = APIRouter(tags=["problems"])

# They hold no script, and load nothing.
HEADERS = {
    "Cache-Control": "public, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
STYLE = "body{max-width:44em;margin:2em auto;padding:0 1em;font:1em/1.5 sans-serif}"


@router.get("/problems", response_class=HTMLResponse)
async def list_problems() -> HTMLResponse:
    """Every kind of error there is."""
    items = "".join(
        f'<li><a href="{path(name)}">{name}</a>: {escape(kind.title)}</li>'
        for name, kind in KINDS.items()
    )
    return _page("Problems", f"<ul>{items}</ul>")


@router.get("/problems/{kind}", response_class=HTMLResponse, responses=problem_answers("not_found"))
async def get_problem(
    name: Annotated[str, Path(alias="kind", max_length=100, examples=["invalid_request"])],
) -> HTMLResponse:
    """What one kind of error means and what to do about it; the `type` of a problem leads here."""
    if name not in KINDS:
        raise not_found("kind of problem")
    kind = KINDS[name]
    return _page(
        kind.title,
        f"<p><code>{name}</code> · {_standing(kind)}</p><p>{escape(kind.meaning)}</p>"
        f'<p><strong>What to do.</strong> {escape(kind.remedy)}</p><p><a href="/problems">All</a>',
    )


def markdown() -> str:
    """docs/problems.md: all kinds, as one table."""
    rows = "".join(
        f"| `{name}` | {kind.status or '–'} | {'yes' if kind.ends_jobs else ''} "
        f"| **{kind.title}.** {kind.meaning} | {kind.remedy} |\n"
        for name, kind in KINDS.items()
    )
    return f"""# Problems

Every error is `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)). \
Its `type` is the path `/problems/KIND`, where the service itself tells what is written here. \
`detail` says what happened this time, `remedy` what to do, `field` what it concerns; `errors` \
lists every field that is wrong, those of the body with a JSON pointer \
([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)), such as `#/dataset/ref`. `request_id` is \
that of `X-Request-ID` and of the service's log. The routes below `/hf` answer as the Hugging Face \
Hub does ([api](api/hub.md)).

A job that failed has one of these kinds as the `code` of its `error`, where it says "yes" below; \
those without a status are never answers.

This page is made from `app/kinds/` by `make openapi`.

| kind | status | ends jobs | means | what to do |
|---|---|---|---|---|
{rows}"""


def _standing(kind: Kind) -> str:
    answer = f"answered with status {kind.status}" if kind.status else ""
    end = "the end of a job" if kind.ends_jobs else ""
    return ", or ".join(filter(None, (answer, end)))


def _page(title: str, content: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>{content}</html>",
        headers=HEADERS,
    )

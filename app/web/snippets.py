"""What is copied from the page: the same as a command. A key stands in none of them."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from app.jobs.schemas import JobDetail
from app.web.rendering import visible


def base_url(request: Request) -> str:
    """Where the browser finds the service."""
    return f"{request.url.scheme}://{request.url.netloc}"


def post_job(base: str, job: JobDetail) -> str:
    """The command that posts the same job once more."""
    body = job.spec.model_dump(mode="json", exclude_unset=True)
    # As it was posted, as far as that is known: what is the default need not be told.
    plain = {name: value for name, value in body.items() if value not in (None, [], {})}
    more = {"metadata": job.metadata} if job.metadata else {}
    return post(base, plain | more)


def post(base: str, body: Mapping[str, Any]) -> str:
    """The command that posts a job."""
    text = json.dumps(body, indent=2, ensure_ascii=False)
    return (
        f"curl -X POST {shlex.quote(base + '/jobs')} \\\n"
        '  -H "Authorization: Bearer $PST_API_KEY" \\\n'
        f"  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(str(visible(text)))}"
    )

"""Reading what a form of the page sends. What the fields mean is decided by who shows them."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, Request

from app.problems import Problem

URLENCODED = "application/x-www-form-urlencoded"
MOST_FIELDS = 500

Form = Mapping[str, list[str]]


async def read(request: Request) -> Form:
    """The fields of a form that are not empty.

    Raises:
        Problem: 415 where it is another kind of form, 400 where it is none.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != URLENCODED:
        raise Problem(
            415,
            "unsupported_media_type",
            "The body is no form.",
            field="Content-Type",
            remedy="Send the form as the page has it.",
        )
    body = await request.body()
    try:
        return parse_qs(body.decode("ascii"), errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise Problem(
            400, "bad_request", "The form cannot be read.", remedy="Send it again."
        ) from error


FormDep = Annotated[Form, Depends(read)]


def text(form: Form, name: str) -> str:
    """What was written into a field, without the space around; empty where nothing was."""
    return form.get(name, [""])[-1].strip()

"""Reading what a form of the page sends. What the fields mean is decided by who shows them."""

from collections.abc import Mapping
from typing import Annotated, TypeVar
from urllib.parse import parse_qs

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

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


Model = TypeVar("Model", bound=BaseModel)


def checked(schema: type[Model], asked: Mapping[str, object], *, remedy: str) -> Model:
    """What a form asks for, as the API takes it.

    Raises:
        Problem: 422, with the first field that cannot be so.
    """
    try:
        return schema.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        detail = f"{name}: {first['msg']}"
        raise Problem(422, "invalid_request", detail, field=name, remedy=remedy) from error


def text(form: Form, name: str) -> str:
    """What was written into a field, without the space around; empty where nothing was."""
    return form.get(name, [""])[-1].strip()

"""The API's description: whole, true to its own schemas, and the same as in docs/."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI

from app import reference
from app.jobs.schemas import JobCreate

Json = dict[str, Any]
JSON = "application/json"
PROBLEM = "application/problem+json"


@pytest.fixture
def description(api: FastAPI) -> Json:
    return api.openapi()


def operations(description: Json) -> Iterator[Json]:
    return (
        operation for methods in description["paths"].values() for operation in methods.values()
    )


def bodies(operation: Json) -> Iterator[tuple[str, str, Json]]:
    """The status, the media type and the description of every body, the request's included."""
    request = operation.get("requestBody", {"content": {}})
    for status, answer in {"request": request, **operation["responses"]}.items():
        for media_type, body in answer.get("content", {}).items():
            yield status, media_type, body


@pytest.mark.parametrize("name", ["openapi.json", "problems.md"])
def test_the_docs_are_those_of_the_code(name: str) -> None:
    written = (reference.DOCS / name).read_text(encoding="utf-8")

    assert written == reference.contents()[name], "run `make openapi` and look at what changed"


def test_every_json_body_has_an_example(description: Json) -> None:
    for operation in operations(description):
        for status, media_type, body in bodies(operation):
            if media_type in (JSON, PROBLEM):
                place = f"{operation['operationId']} {status}"
                assert body.get("examples"), f"{place} has no example in app/examples.py"


def test_every_example_is_of_its_schema(description: Json) -> None:
    checked = 0
    for operation in operations(description):
        for status, media_type, body in bodies(operation):
            if media_type != JSON:
                continue
            schema = {**body["schema"], "components": description["components"]}
            for name, example in body["examples"].items():
                errors = [
                    error.message
                    for error in jsonschema_rs.validator_for(schema).iter_errors(example["value"])
                ]
                assert not errors, f"{operation['operationId']} {status} {name}: {errors}"
                checked += 1
    assert checked > 12


def test_every_example_of_a_job_is_a_valid_request(description: Json) -> None:
    content = description["paths"]["/jobs"]["post"]["requestBody"]["content"][JSON]

    for example in content["examples"].values():
        JobCreate.model_validate(example["value"])


def test_errors_are_problems_and_each_status_names_its_kinds(description: Json) -> None:
    kinds = description["components"]["examples"]
    for operation in operations(description):
        for status, media_type, body in bodies(operation):
            if status < "400" or media_type != PROBLEM:
                continue
            assert body["schema"] == {"$ref": "#/components/schemas/ProblemBody"}
            for name, example in body["examples"].items():
                assert example == {"$ref": f"#/components/examples/{name}"}
                assert str(kinds[name]["value"]["status"]) == status


def test_a_posted_job_links_to_all_that_can_be_asked_of_it(description: Json) -> None:
    links = description["paths"]["/jobs"]["post"]["responses"]["202"]["links"]

    assert {"get_job", "cancel_job", "list_events", "get_checkpoint"} <= links.keys()

"""The API's description, made whole: what every route of a sort can answer, examples and links.

What a single route can be refused for beyond that it says itself, by ``problem_answers``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI

from app import kinds
from app.examples import EXAMPLES
from app.problems import MEDIA_TYPE, ProblemBody

Json = dict[str, Any]

PROBLEM = {"$ref": "#/components/schemas/ProblemBody"}
RETRY_AFTER = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
# FastAPI's own, of which nothing is ever answered.
UNUSED = ("HTTPValidationError", "ValidationError")


def problem_answers(*names: str) -> dict[int | str, Json]:
    """The answers, for a route's ``responses``, that problems of these kinds are.

    Args:
        names: Of kinds that have a status.
    """
    answers: dict[int | str, Json] = {}
    for name in names:
        kind = kinds.KINDS[name]
        answer = answers.setdefault(kind.status or 0, _problem_answer())
        answer["description"] = "; ".join(filter(None, (answer["description"], kind.title)))
        answer["content"][MEDIA_TYPE]["examples"][name] = {"$ref": f"#/components/examples/{name}"}
    return answers


class Api(FastAPI):
    """An app whose description tells its errors as they are."""

    def openapi(self) -> Json:
        if not self.openapi_schema:
            _complete(super().openapi())
        return self.openapi_schema or {}


def _complete(schema: Json) -> None:
    schemas = schema["components"]["schemas"]
    for name in UNUSED:
        schemas.pop(name, None)
    problem = ProblemBody.model_json_schema(
        mode="serialization", ref_template="#/components/schemas/{model}"
    )
    schemas |= problem.pop("$defs")
    schemas["ProblemBody"] = problem
    schema["components"]["examples"] = {
        name: {"summary": kind.title, "value": _example(name, kind)}
        for name, kind in kinds.KINDS.items()
        if kind.status
    }
    for operation in _operations(schema):
        _add_problems(operation)
        _add_examples(operation)
    _add_links(schema)


def _operations(schema: Json) -> Iterator[Json]:
    return (operation for methods in schema["paths"].values() for operation in methods.values())


def _add_problems(operation: Json) -> None:
    answers = operation["responses"]
    if "application/json" in answers.get("422", {}).get("content", {}):
        del answers["422"]
    for status, common in problem_answers(*_common(operation)).items():
        known = answers.setdefault(str(status), _problem_answer())
        if common["description"] not in known["description"]:
            described = filter(None, (known["description"], common["description"]))
            known["description"] = "; ".join(described)
        examples = known["content"].setdefault(MEDIA_TYPE, {"schema": PROBLEM, "examples": {}})
        examples["examples"] |= common["content"][MEDIA_TYPE]["examples"]
    if "security" in operation:
        for status in ("429", "503"):
            answers[status]["headers"] = {"Retry-After": RETRY_AFTER}
    operation["responses"] = dict(sorted(answers.items()))


def _common(operation: Json) -> Iterator[str]:
    """The kinds that any route of this sort can be answered with."""
    parameters = operation.get("parameters", [])
    yield from ("uri_too_long", "headers_too_large")
    if "security" in operation:
        yield from ("invalid_key", "insufficient_scope", "rate_limited", "database_unavailable")
    if any(parameter["in"] == "path" for parameter in parameters):
        yield "not_found"
    if parameters or "requestBody" in operation:
        yield "invalid_request"
    if "requestBody" in operation:
        yield from ("invalid_json", "body_too_slow", "body_too_large", "unsupported_media_type")


def _add_examples(operation: Json) -> None:
    examples: Mapping[str, Json] = EXAMPLES.get(operation["operationId"], {})
    for part, values in examples.items():
        body = operation["requestBody"] if part == "request" else operation["responses"][part]
        body["content"]["application/json"]["examples"] = {
            name: {"value": value} for name, value in values.items()
        }


def _add_links(schema: Json) -> None:
    """What can be asked of a job or sweep that was just made, and of the files that it has."""
    published = schema["paths"]["/jobs/{job_id}/artifacts"]["get"]["responses"]["200"]
    published["links"] = {
        "get_file": {
            "operationId": "get_file",
            "parameters": {
                "job_id": "$request.path.job_id",
                "format": "$response.body#/data/0/format",
                "name": "$response.body#/data/0/files/0/name",
            },
        }
    }
    for path, name in (("/jobs", "job_id"), ("/sweeps", "sweep_id")):
        made = schema["paths"][path]["post"]["responses"]["202"]
        made["headers"] = {
            "Location": {"description": "Its path.", "schema": {"type": "string"}},
            "Retry-After": RETRY_AFTER,
        }
        made["links"] = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {name: "$response.body#/id"},
            }
            for other, methods in schema["paths"].items()
            for operation in methods.values()
            if f"{{{name}}}" in other
        }


def _problem_answer() -> Json:
    return {"description": "", "content": {MEDIA_TYPE: {"schema": PROBLEM, "examples": {}}}}


def _example(name: str, kind: kinds.Kind) -> Json:
    return {
        "type": kinds.path(name),
        "title": kind.title,
        "status": kind.status,
        "detail": kind.meaning,
        "remedy": kind.remedy,
        "errors": [],
        "request_id": "6f1c0d9a2b7e4c55a3d8e1f402b9c7aa",
    }

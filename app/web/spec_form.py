"""The fields of the form for a new job, made from the schema of what POST /jobs takes.

Nothing of the spec is written down a second time: only which fields come first, and their words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from app.jobs.schemas import JobCreate
from app.web.forms import Form

Json = dict[str, Any]
Kind = Literal["text", "number", "flag", "choice", "several", "lines", "pairs"]

# What most jobs differ in; all else stands under "more", in the order of the schema.
FIRST = (
    "model", "dataset.ref", "task", "metric", "method", "sparsity", "preset", "baseline", "formats",
)  # fmt: skip
LABELS = {"dataset.ref": "Dataset", "hyperparameters.alpha1": "α1", "hyperparameters.alpha2": "α2"}
# What a null or an empty list means is said by the field's own words.
TYPES: Mapping[str, Kind] = {
    "string": "text",
    "number": "number",
    "integer": "number",
    "boolean": "flag",
}
INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    """Its place in the spec, with dots."""
    kind: Kind
    label: str
    about: str
    choices: tuple[str, ...] = ()
    default: str = ""
    required: bool = False

    @property
    def group(self) -> str:
        return self.name.rpartition(".")[0]


@cache
def fields() -> tuple[Field, ...]:
    """All fields of a job, those that come first at the front."""
    schema = JobCreate.model_json_schema()
    found = {field.name: field for field in _fields(schema, schema, "")}
    first = [found.pop(name) for name in FIRST]
    return (*first, *found.values())


def _fields(schema: Json, root: Json, prefix: str) -> Iterator[Field]:
    required = schema.get("required", ())
    for name, raw in schema["properties"].items():
        shape = _shape(raw, root)
        if "properties" in shape:
            yield from _fields(shape, root, f"{prefix}{name}.")
        else:
            needed = name in required and not prefix
            yield _field(f"{prefix}{name}", raw, shape, required=needed)


def _shape(raw: Json, root: Json) -> Json:
    """What a field can be, without null and references; of several shapes the richest."""
    if "$ref" in raw:
        found: Json = root["$defs"][raw["$ref"].rpartition("/")[2]]
        return _shape(found, root)
    if "anyOf" in raw:
        shapes = [_shape(each, root) for each in raw["anyOf"] if each.get("type") != "null"]
        return max(shapes, key=lambda shape: "properties" in shape)
    return raw


def _field(name: str, raw: Json, shape: Json, *, required: bool) -> Field:
    item = shape.get("items", {})
    choices, kind = tuple(shape.get("enum", ())), TYPES.get(str(shape.get("type")), "text")
    if choices:
        kind = "choice"
    elif item.get("enum"):
        choices, kind = tuple(item["enum"]), "several"
    elif shape.get("type") == "array":
        kind = "lines"
    elif shape.get("type") == "object":
        kind = "pairs"
    plain = raw.get("default", shape.get("default"))
    default = "" if plain is None or isinstance(plain, list | dict) else str(plain)
    label = LABELS.get(name) or name.rpartition(".")[2].replace("_", " ").capitalize()
    about = str(raw.get("description", shape.get("description", ""))).replace("`", "")
    required = required or name == "dataset.ref"
    if kind == "flag":
        default = default.lower()
    return Field(name, kind, label, about, choices, default, required)


def body(form: Form) -> Json:
    """What would be posted: the fields that say something, in the types of JSON.

    What is written where a number belongs and is none stays a text: the spec's own rules refuse it.
    """
    found: Json = {}
    for field in fields():
        if values := [value for value in form.get(field.name, ()) if value.strip()]:
            _put(found, field.name.split("."), _value(field, values))
    return found


def _put(into: Json, path: Sequence[str], value: object) -> None:
    for part in path[:-1]:
        into = into.setdefault(part, {})
    into[path[-1]] = value


def _value(field: Field, values: Sequence[str]) -> object:
    last = values[-1].strip()
    match field.kind:
        case "number":
            return _number(last)
        case "flag":
            return {"true": True, "false": False}.get(last, last)
        case "several":
            return [*values]
        case "lines":
            return [line.strip() for line in last.splitlines() if line.strip()]
        case "pairs":
            lines = (line.partition("=") for line in last.splitlines() if line.strip())
            return {name.strip(): value.strip() for name, _, value in lines}
    return last


def _number(text: str) -> object:
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if NUMBER.fullmatch(text) else text


def filled(spec: Mapping[str, Any]) -> dict[str, list[str]]:
    """The form of a spec, to post another like it."""
    return {
        field.name: texts for field in fields() if (texts := _texts(field, _at(spec, field.name)))
    }


def _at(spec: Mapping[str, Any], name: str) -> object:
    value: object = spec
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _texts(field: Field, value: object) -> list[str]:
    match value:
        case None | () | []:
            return []
        case bool():
            return [str(value).lower()]
        case dict():
            return ["\n".join(f"{name}={each}" for name, each in value.items())] if value else []
        case list() | tuple():
            texts = [str(each) for each in value]
            return texts if field.kind == "several" else ["\n".join(texts)]
    return [str(value)]

"""The spec that a command line asks for: a file, what options say, and single fields."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

STDIN = Path("-")

SpecOption = Annotated[
    Path | None,
    typer.Option("--spec", help="A spec as JSON; - reads it from stdin. Options change it."),
]
ModelOption = Annotated[str | None, typer.Option(help="hub:ORG/NAME, pkg:NAME, file:PATH or job_…")]
DatasetOption = Annotated[
    str | None, typer.Option(help="hub:ORG/NAME, pkg:NAME, file:PATH or ds_…")
]
SparsityOption = Annotated[float | None, typer.Option(help="The share of zeros, such as 0.9.")]
MethodOption = Annotated[str | None, typer.Option(help="`pst methods` lists them.")]
PresetOption = Annotated[str | None, typer.Option(help="`pst methods` lists them.")]
FormatsOption = Annotated[
    list[str] | None,
    typer.Option("--format", help="Of the checkpoint; may be given several times."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="FIELD=VALUE of the spec, such as hyperparameters.epochs=1."),
]
MetadataOption = Annotated[
    list[str] | None,
    typer.Option("--metadata", help="NAME=VALUE of your own, to find it by."),
]


def read_spec(
    file: Path | None,
    options: Mapping[str, Any],
    changes: Sequence[str] = (),
    metadata: Sequence[str] = (),
) -> dict[str, Any]:
    """The body of a request; the service checks what is in it.

    Args:
        file: A spec that is begun with.
        options: Fields that options give; None and nothing are left out.
        changes: FIELD=VALUE, the last word.
        metadata: NAME=VALUE.

    Raises:
        typer.BadParameter: The file is no object of JSON, or an option has no `=`.
    """
    spec = _read(file) if file else {}
    spec |= {name: value for name, value in options.items() if value not in (None, [])}
    for change in changes:
        path, value = _split(change, "--set")
        put(spec, path.split("."), _value(value))
    if metadata:
        own = dict(_split(pair, "--metadata") for pair in metadata)
        before = spec.get("metadata") or {}
        if not isinstance(before, dict):
            raise typer.BadParameter("metadata holds no object", param_hint="--spec")
        spec["metadata"] = before | own
    return spec


def put(spec: dict[str, Any], path: Sequence[str], value: object) -> None:
    """Set a field of a field; a dataset that is named by its reference alone has others, too."""
    first, *rest = path
    if not rest:
        spec[first] = value
        return
    inner = spec.get(first, {})
    if first == "dataset" and isinstance(inner, str):
        inner = {"ref": inner}
    if not isinstance(inner, dict):
        raise typer.BadParameter(f"{first} has no fields", param_hint="--set")
    spec[first] = dict(inner)
    put(spec[first], rest, value)


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    return dict(_split(text, option) for text in texts)


def _read(file: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == STDIN else file.read_text(encoding="utf-8")
        spec = json.loads(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{file} is no JSON: {error}", param_hint="--spec") from None
    if not isinstance(spec, dict):
        raise typer.BadParameter(f"{file} holds no object", param_hint="--spec")
    return spec


def _split(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    return name, value


def _value(text: str) -> object:
    """As JSON has it; whatever is none is a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text

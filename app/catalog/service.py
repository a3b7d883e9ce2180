"""The catalog, taken from where the rules are: nothing of it is written down a second time."""

from functools import cache
from typing import Any, get_args

from pydantic import ValidationError

from app.catalog.schemas import (
    Architecture,
    MethodOut,
    Methods,
    Models,
    PackagedModelOut,
    PresetOut,
    TaskOut,
)
from app.settings import Settings
from pst_core.errors import ModelNotFoundError
from pst_core.families import FAMILIES
from pst_core.recipes import PRESETS, Hyperparameters
from pst_core.references import PACKAGED_MODELS, locate_model
from pst_core.spec import (
    METRICS,
    ROLES,
    UNPRUNED,
    CompressionSpec,
    Format,
    Method,
    Pattern,
    Scope,
    Task,
    pattern_sparsity,
    resolve,
)

# Of any model and data: which of its other fields fit a method does not depend on them.
REFERENCES = {"model": "pkg:any", "dataset": "pkg:any"}


def models(settings: Settings) -> Models:
    found = []
    for name in sorted(PACKAGED_MODELS.keys() & {*settings.packages}):
        try:
            path = locate_model(f"pkg:{name}", roots=())
        except ModelNotFoundError:
            continue
        kind = "gguf" if path.suffix == ".gguf" else "safetensors"
        found.append(PackagedModelOut.model_validate({"ref": f"pkg:{name}", "format": kind}))
    architectures = [
        Architecture(model_type=name, matrices=matrices)
        for name, matrices in sorted(FAMILIES.items())
    ]
    return Models(data=found, architectures=architectures)


@cache
def methods() -> Methods:
    patterns = get_args(Pattern)
    return Methods(
        data=[_method(name) for name in get_args(Method)],
        presets=[
            PresetOut(name=name, hyperparameters=resolve(name, Hyperparameters()))
            for name in PRESETS
        ],
        tasks=[
            TaskOut(
                name=task,
                columns=[*required],
                optional_columns=[*optional],
                metrics=[*METRICS[task]],
            )
            for task, (required, optional) in ROLES.items()
        ],
        pattern_sparsity={p: pattern_sparsity(p) for p in patterns if p != "unstructured"},
        spec_schema=CompressionSpec.model_json_schema(),
    )


def _method(name: Method) -> MethodOut:
    prunes = name not in UNPRUNED
    spec: dict[str, Any] = {**REFERENCES, "method": name} | ({"sparsity": 0.5} if prunes else {})

    def fits(task: Task, **fields: object) -> bool:
        """Whether the spec's own rules allow it."""
        try:
            CompressionSpec.model_validate(spec | {"task": task} | fields)
        except ValidationError:
            return False
        return True

    tasks = [task for task in get_args(Task) if fits(task)]

    def fitting(field: str, choices: dict[str, object]) -> list[Any]:
        """What is allowed for some of its tasks."""
        return [
            choice
            for choice, value in choices.items()
            if any(fits(task, **{field: value}) for task in tasks)
        ]

    return MethodOut(
        name=name,
        prunes=prunes,
        tasks=tasks,
        # Some need another beside them.
        formats=fitting("formats", {f: [*{f: None, "dense": None}] for f in get_args(Format)}),
        patterns=fitting("pattern", {pattern: pattern for pattern in get_args(Pattern)}),
        scopes=fitting("scope", {scope: scope for scope in get_args(Scope)}),
    )

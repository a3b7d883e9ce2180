"""What the catalog's routes give."""

from typing import Any, Literal

from pydantic import BaseModel

from pst_core.dataset_spec import Role
from pst_core.recipes import Hyperparameters, Preset
from pst_core.spec import Format, Method, Metric, Pattern, Scope, Task


class PackagedModelOut(BaseModel):
    ref: str
    """As `model` of a job names it."""
    format: Literal["safetensors", "gguf"]


class Architecture(BaseModel):
    model_type: str
    """As the model's `config.json` says it."""
    matrices: tuple[str, ...]
    """What is pruned of each block."""


class Models(BaseModel):
    data: list[PackagedModelOut]
    """The packaged models that are installed and allowed here."""
    architectures: list[Architecture]
    """Known by name; other transformers are pruned by structure: all linear layers in blocks."""


class MethodOut(BaseModel):
    name: Method
    prunes: bool
    """False of the yardsticks: they take no sparsity."""
    tasks: list[Task]
    formats: list[Format]
    """For at least one of its tasks, as its patterns and scopes."""
    patterns: list[Pattern]
    scopes: list[Scope]


class PresetOut(BaseModel):
    name: Preset
    hyperparameters: Hyperparameters
    """Every value; distillation and splices fall to 0, and a preset's rank to 8, without a
    baseline, and where the task or the method learns from none."""


class TaskOut(BaseModel):
    name: Task
    columns: list[Role]
    optional_columns: list[Role]
    metrics: list[Metric]
    """The first is the default."""


class Methods(BaseModel):
    data: list[MethodOut]
    presets: list[PresetOut]
    tasks: list[TaskOut]
    pattern_sparsity: dict[Pattern, float]
    """The share of zeros that a pattern makes."""
    spec_schema: dict[str, Any]
    """The JSON Schema of a spec: each field with its meaning, default and bounds."""

"""The compression spec: the API validates it, the command line reads it, the trainer obeys it.

Free of torch. What a spec *does* is decided elsewhere; here stands only what may be asked, and in
dataset_spec.py what may be asked of the data.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_serializer, field_validator

from pst_core.dataset_spec import Dataset, ReferenceText, Role
from pst_core.fields import Flag, Float, Fraction, Integer, Strict, Text
from pst_core.glue import Glue, glue_task
from pst_core.recipes import PRESETS, Hyperparameters, Preset
from pst_core.references import JOB_ID

Method = Literal["pst", "magnitude", "movement", "random", "wanda", "dense", "lora"]
Task = Literal["text-classification", "text-regression", "causal-lm", "data-to-text"]
Metric = Literal[
    "accuracy", "f1", "matthews", "pearson", "spearman", "mse", "perplexity", "bleu"
]  # fmt: skip
Format = Literal["packed", "dense", "adapter", "compact", "onnx"]
ValueDtype = Literal["float16", "bfloat16"]
Scope = Literal["matrix", "global"]
Pattern = Literal["unstructured", "2:4", "4:8"]
LOWER_IS_BETTER: frozenset[Metric] = frozenset({"mse", "perplexity"})
# Measured from 0 or -1 to 1, and compared in hundredths.
IN_POINTS: frozenset[Metric] = frozenset({"accuracy", "f1", "matthews", "pearson", "spearman"})
# The tasks whose answers are few enough to keep a teacher's of every example.
DISTILLED: frozenset[Task] = frozenset({"text-classification", "text-regression"})
# The hyperparameters by which a model learns from its dense baseline.
TAUGHT = frozenset({"distillation", "splices"})
# The yardsticks: they prune nothing.
UNPRUNED: frozenset[Method] = frozenset({"dense", "lora"})

# The roles that a task's columns play; the second list may be left out.
ROLES: dict[Task, tuple[tuple[Role, ...], tuple[Role, ...]]] = {
    "text-classification": (("text", "label"), ("pair",)),
    "text-regression": (("text", "label"), ("pair",)),
    "causal-lm": (("text",), ()),
    "data-to-text": (("prompt", "completion"), ()),
}
# What a task can be judged by; the first is the default.
METRICS: dict[Task, tuple[Metric, ...]] = {
    "text-classification": ("accuracy", "f1", "matthews"),
    "text-regression": ("pearson", "spearman", "mse"),
    "causal-lm": ("perplexity",),
    "data-to-text": ("bleu", "perplexity"),
}


LayerPatterns = Annotated[tuple[Text, ...], Field(max_length=256)]
TimeLimit = Annotated[int, Integer(ge=1, le=30 * 24 * 3600)]
# One pattern rather than a union, whose errors would name its members instead of the field.
Baseline = Annotated[Text, Field(pattern=f"^(none|train|{JOB_ID.pattern})$")]


class Limits(Strict):
    wall_seconds: TimeLimit | None = None
    """The job fails with `timeout` once its attempts have run this long together."""
    queue_seconds: TimeLimit | None = None
    """The job fails with `queue_timeout` once it has waited this long for a worker."""
    no_progress_seconds: TimeLimit | None = None
    """The attempt fails with `no_progress` after this long without a step, a phase or a score.
    Default: the service's."""


class CompressionSpec(Strict):
    """What to compress, on which data, how far and how."""

    model: ReferenceText
    """`hub:ORG/NAME[@REVISION]`, `pkg:NAME`, `file:PATH` of a folder with safetensors or of a GGUF
    file, or `job_…`: a finished job of the project, by its format `dense` or `packed`."""
    dataset: Dataset
    task: Task = Field(default=None, validate_default=True)
    """Default: that of a GLUE dataset, else text-classification."""
    metric: Metric = Field(default=None, validate_default=True)
    """What the model is judged by. Default: the first of the task, or GLUE's."""
    method: Method = "pst"
    pattern: Pattern = "unstructured"
    """`2:4`: two of every four entries of a row are kept."""
    sparsity: Annotated[Fraction | None, Field(validate_default=True)] = None
    """Share of zeros in each pruned matrix, in (0, 1); null for the methods `dense` and `lora`, and
    for a pattern, which says it itself."""
    scope: Annotated[Scope, Field(validate_default=True)] = "matrix"
    """Whether each matrix has this sparsity, or all of them together (`global`)."""
    include: LayerPatterns = ()
    """Patterns of the names of layers to prune (`*.mlp.*`); none: all."""
    exclude: LayerPatterns = ()
    """Patterns of the names of layers to leave dense."""
    baseline: Annotated[Baseline, Field(validate_default=True)] = "none"
    """`train` also trains the dense yardstick: same data, seed and epochs, nothing spliced. `job_…`
    takes that of a job of the project, whose method is `dense`, with the same model, data and
    seed."""
    max_drop: Annotated[Float, Field(ge=0, le=1e6)] | None = None
    """The most that the metric may be worse than the baseline's on the test split: in points
    (hundredths; BLEU's own) or, for `mse` and `perplexity`, in the metric's unit. A larger drop
    fails nothing: the report says so. It needs a baseline."""
    preset: Preset = "default"
    hyperparameters: Hyperparameters = Hyperparameters()
    """What to change of the preset."""
    seed: Annotated[int, Integer(ge=0, lt=2**31)] = 0
    formats: Annotated[tuple[Format, ...], Field(min_length=1, validate_default=True)] = ()
    """Checkpoint formats to publish. Default: `packed`; where nothing is pruned, `dense`."""
    value_dtype: Annotated[ValueDtype | None, Field(validate_default=True)] = None
    """What the values of the format `packed` are rounded to; null: they are not rounded."""
    measure_benefit: Flag = False
    """Also time the finished model here, beside the dense one, in every runtime that is installed;
    it takes a minute or two."""
    limits: Limits = Limits()

    @field_validator("dataset", mode="before", json_schema_input_type=Dataset | ReferenceText)
    @classmethod
    def _accept_a_bare_reference(cls, value: object) -> object:
        return {"ref": value} if isinstance(value, str) else value

    @field_validator("task", mode="before", json_schema_input_type=Task | None)
    @classmethod
    def _glue_says_its_task(cls, value: object, info: ValidationInfo) -> object:
        if value is not None:
            return value
        glue = _glue(info)
        return glue.task if glue else "text-classification"

    @field_validator("metric", mode="before", json_schema_input_type=Metric | None)
    @classmethod
    def _glue_and_task_say_their_metric(cls, value: object, info: ValidationInfo) -> object:
        if value is not None:
            return value
        glue, task = _glue(info), info.data.get("task", "text-classification")
        return glue.metrics[0] if glue and glue.task == task else METRICS[task][0]

    @field_validator("task")
    @classmethod
    def _columns_fit_the_task(cls, task: Task, info: ValidationInfo) -> Task:
        if "dataset" not in info.data:
            return task
        given = info.data["dataset"].columns.model_dump(exclude_none=True)
        required, optional = ROLES[task]
        if strangers := sorted(given.keys() - {*required, *optional}):
            raise ValueError(
                f"{task} has no column {strangers[0]}: it has {', '.join(required + optional)}"
            )
        return task

    @field_validator("metric")
    @classmethod
    def _metric_fits_the_task(cls, metric: Metric, info: ValidationInfo) -> Metric:
        task = info.data.get("task")
        if task and metric not in METRICS[task]:
            raise ValueError(f"{task} is judged by one of {', '.join(METRICS[task])}")
        return metric

    @field_validator("sparsity", mode="before")
    @classmethod
    def _sparsity_is_no_percentage(cls, value: object) -> object:
        if isinstance(value, int | float) and 1 < value < 100:  # noqa: PLR2004 -- per cent
            raise ValueError(f"a share, not per cent: {value:g} % is {value / 100:g}")
        return value

    @field_validator("sparsity")
    @classmethod
    def _sparsity_fits_the_method(cls, value: float | None, info: ValidationInfo) -> float | None:
        method, pattern = info.data.get("method"), info.data.get("pattern", "unstructured")
        if method in UNPRUNED:
            if value is not None:
                raise ValueError(f"the method `{method}` prunes nothing: leave sparsity out")
            return None
        if pattern != "unstructured":
            asked = pattern_sparsity(pattern)
            if value not in {None, asked}:
                raise ValueError(f"the pattern {pattern} is a sparsity of {asked:g}: leave it out")
            return asked
        if method is not None and value is None:
            raise ValueError(f"the method `{method}` needs a sparsity in (0, 1), such as 0.9")
        return value

    @field_validator("method")
    @classmethod
    def _method_fits_the_task(cls, method: Method, info: ValidationInfo) -> Method:
        if method == "wanda" and info.data.get("task") in {
            "text-classification",
            "text-regression",
        }:
            raise ValueError("wanda trains nothing, and this task needs a head to be trained")
        return method

    @field_validator("pattern")
    @classmethod
    def _only_what_prunes_has_a_pattern(cls, pattern: Pattern, info: ValidationInfo) -> Pattern:
        if pattern != "unstructured" and info.data.get("method") in UNPRUNED:
            raise ValueError(f"the method `{info.data['method']}` prunes nothing: leave it out")
        return pattern

    @field_validator("include", "exclude")
    @classmethod
    def _only_some_layers_of_what_has_layers(
        cls, patterns: tuple[Text, ...], info: ValidationInfo
    ) -> tuple[Text, ...]:
        if patterns and info.data.get("method") == "dense":
            raise ValueError("the method `dense` trains every layer: leave it out")
        return patterns

    @field_validator("scope")
    @classmethod
    def _scope_fits_the_pattern(cls, scope: Scope, info: ValidationInfo) -> Scope:
        if scope == "global" and info.data.get("pattern") != "unstructured":
            raise ValueError("a pattern prunes every group of entries alike: leave scope out")
        if scope == "global" and info.data.get("method") in UNPRUNED | {"wanda"}:
            raise ValueError("this method has no scores to compare over layers: leave scope out")
        return scope

    @field_validator("baseline")
    @classmethod
    def _baseline_fits_the_method(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("method") == "dense" and value != "none":
            raise ValueError("the method `dense` is the baseline itself: leave baseline out")
        return value

    @field_validator("max_drop")
    @classmethod
    def _a_drop_needs_a_baseline(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is None or info.data.get("baseline") != "none":
            return value
        if info.data.get("method") == "dense":
            raise ValueError("the method `dense` is the baseline itself: leave max_drop out")
        raise ValueError("a drop is from the dense baseline: ask for baseline: train, or name one")

    @field_validator("hyperparameters")
    @classmethod
    def _changes_fit_the_preset(
        cls, value: Hyperparameters, info: ValidationInfo
    ) -> Hyperparameters:
        asked = {name for name in TAUGHT if name in value.model_fields_set and getattr(value, name)}
        if asked and info.data.get("baseline") == "none":
            raise ValueError(f"{min(asked)} needs the dense baseline: ask for one")
        if asked and info.data.get("task") not in DISTILLED:
            raise ValueError(f"{info.data.get('task')} has no {min(asked)}")
        if "preset" in info.data:
            try:
                resolved = resolve(info.data["preset"], value)
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"with the preset, {first['loc'][0]}: {first['msg']}") from error
            if "splices" in asked and not resolved.distillation:
                raise ValueError("splices needs distillation to be more than 0")
        return value

    @field_validator("formats", mode="before")
    @classmethod
    def _formats_fit_the_method(cls, value: object, info: ValidationInfo) -> object:
        method = info.data.get("method")
        if value == ():
            return ("dense",) if method in UNPRUNED else ("packed",)
        if isinstance(value, list | tuple) and len({str(item) for item in value}) < len(value):
            raise ValueError("names a format twice")
        return value

    @field_validator("formats")
    @classmethod
    def _formats_can_be_made(
        cls, value: tuple[Format, ...], info: ValidationInfo
    ) -> tuple[Format, ...]:
        method, task = info.data.get("method"), info.data.get("task")
        if method in UNPRUNED and (zeros := {"packed", "compact"} & {*value}):
            raise ValueError(
                f"the method `{method}` has no zeros for `{min(zeros)}`: ask for `dense`"
            )
        if "adapter" in value and method not in {None, "pst"}:
            raise ValueError(
                f"an adapter holds what the method `pst` trains; `{method}` has none: ask for "
                "`packed` or `dense`"
            )
        if "onnx" in value and task == "data-to-text":
            raise ValueError("data-to-text is judged by what it writes, which `onnx` cannot do")
        if not {"packed", "dense", "adapter"} & {*value}:
            raise ValueError(
                f"not every model can be written as {' or '.join(value)}: ask for `dense` or "
                "`packed` beside it"
            )
        return value

    @field_validator("value_dtype")
    @classmethod
    def _only_packed_values_are_rounded(
        cls, value: ValueDtype | None, info: ValidationInfo
    ) -> ValueDtype | None:
        if value is not None and "packed" not in info.data.get("formats", ("packed",)):
            raise ValueError("it is of the format `packed`: ask for that too, or leave it out")
        return value

    @field_serializer("hyperparameters")
    def _changes_alone(self, value: Hyperparameters) -> dict[str, Any]:
        # With its defaults written out, it would be read again as changing all of the preset.
        return value.model_dump(exclude_unset=True)

    @property
    def baseline_job(self) -> str | None:
        """The job whose model is the yardstick."""
        return None if self.baseline in ("none", "train") else self.baseline

    def columns(self) -> dict[Role, str]:
        """The name of each column that the task reads, by its role."""
        required, optional = ROLES[self.task]
        columns: dict[Role, str] = {role: role for role in required}
        if glue := glue_task(self.dataset.ref):
            known = {"text": glue.text, "pair": glue.pair}
            columns |= {role: name for role in required + optional if (name := known.get(role))}
        for role in required + optional:
            name = getattr(self.dataset.columns, role)
            if name is not None:
                columns[role] = name
        return columns

    def metrics(self) -> tuple[Metric, ...]:
        """What to measure, the metric that decides first."""
        return tuple(dict.fromkeys((self.metric, *METRICS[self.task])))

    @classmethod
    def stored(cls, document: Mapping[str, Any]) -> Self:
        """Read one that was accepted before, to show it or to compare with it.

        What an earlier release knew and this does not is passed over: nobody is there to mend it.
        """
        return cls.model_validate(document, extra="ignore")

    def resolved_hyperparameters(self) -> Hyperparameters:
        """The preset with this spec's changes: every value the run will use."""
        resolved = resolve(self.preset, self.hyperparameters)
        learns = self.baseline != "none" and self.task in DISTILLED and self.method not in UNPRUNED
        if learns and resolved.distillation:
            return resolved
        # There is nobody to learn from, or nothing to learn: a preset's rank is for that as well.
        alone: dict[str, float] = {"distillation": 0.0, "splices": 0}
        if "rank" not in self.hyperparameters.model_fields_set:
            alone["rank"] = Hyperparameters().rank
        return resolved.model_copy(update=alone)

    def trained_by(self, accepted: Mapping[str, Any]) -> Self:
        """The same for a release whose presets may be others than when it was accepted.

        Args:
            accepted: Its resolved hyperparameters of then, as JSON; read as `stored` reads.
        """
        # What it did not know it did without: set as well, or today's preset would add it.
        known = {**Hyperparameters().model_dump(), **accepted}
        then = Hyperparameters.model_validate(known, extra="ignore")
        if then.model_dump() == self.resolved_hyperparameters().model_dump():
            return self
        return self.model_copy(update={"hyperparameters": then})


def resolve(preset: Preset, changes: Hyperparameters) -> Hyperparameters:
    """Every value of a preset with what is changed of it."""
    return Hyperparameters.model_validate(
        {**PRESETS[preset], **changes.model_dump(exclude_unset=True)}
    )


def _glue(info: ValidationInfo) -> Glue | None:
    return glue_task(info.data["dataset"].ref) if "dataset" in info.data else None


def pattern_sparsity(pattern: Pattern) -> float:
    """The share of entries that N:M prunes: 1 − N/M."""
    n, m = map(int, pattern.split(":"))
    return 1 - n / m

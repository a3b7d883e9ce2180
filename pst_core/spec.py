"""The compression spec: the API validates it, the command line reads it, the trainer obeys it.

Free of torch. What a spec *does* is decided elsewhere; here stands only what may be asked.
"""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from pst_core.references import parse_reference

Method = Literal["pst", "dense"]
Format = Literal["packed", "dense"]
Preset = Literal["paper"]
Precision = Literal["float32", "bfloat16"]


def is_storable(text: str) -> bool:
    """Whether UTF-8 and PostgreSQL take it: without NUL and halves of surrogate pairs."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("must not contain NUL or unpaired surrogates")
    return text


def _well_formed(text: str) -> str:
    parse_reference(text)
    return text


Text = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_storable)]
ModelReference = Annotated[Text, AfterValidator(_well_formed)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, le=1)]


class Strict(BaseModel):
    """Refuses unknown fields, NaN and infinities; does not change once made."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Columns(Strict):
    text: Text = "text"
    """The column with the text to classify."""
    label: Text = "label"
    """The column with the class, as a name or a number."""


SplitSize = (
    Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]
    | Annotated[float, Field(gt=0, lt=1, strict=True)]
)


class Splits(Strict):
    """How many rows go where: a share of all (0.1) or a number (500), stratified by label."""

    train: SplitSize = 0.8
    validation: SplitSize = 0.1
    test: SplitSize = 0.1


class Dataset(Strict):
    ref: ModelReference
    """`pkg:NAME[/PART]`, or `file:PATH` of a CSV or JSONL file or a folder of train.*, test.*."""
    columns: Columns = Columns()
    splits: Splits | None = None
    """Carved from the data by the job's seed; a folder brings its own. Default 80/10/10."""


class Hyperparameters(Strict):
    """Every number of the recipe; the defaults are the preset `paper`."""

    epochs: Annotated[float, Field(gt=0, le=1000)] = 3.0
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    max_length: Annotated[int, Field(ge=4, le=8192)] = 128
    """Tokens; longer texts are cut."""
    learning_rate: Rate = 5e-4
    """Of the factors U, V, A, B, R, C."""
    head_learning_rate: Rate = 1e-3
    dense_learning_rate: Rate = 5e-5
    """Of all weights but the head's, where they are trained: method and baseline `dense`."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    learning_rate_warmup: Annotated[float, Field(ge=0, lt=1)] = 0.06
    """Share of the steps over which the rates rise, before they fall linearly to zero."""
    max_gradient_norm: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Rank of U V, the weight update."""
    score_rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Rank of A B in the importance score."""
    alpha1: Annotated[float, Field(ge=0, le=1e3)] = 1.0
    """Weight of A B in the importance score."""
    alpha2: Annotated[float, Field(ge=0, le=1e3)] = 1.0
    """Weight of R + C in the importance score."""
    beta: Annotated[float, Field(ge=0, le=1e3)] = 1.0
    """Weight of U V in the updated weight."""
    initial_warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps before the sparsity starts to rise."""
    final_hold: Annotated[float, Field(ge=0, lt=1, validate_default=True)] = 0.3
    """Share of the steps trained at the target sparsity."""
    precision: Precision = "float32"
    """Of the matrix products; the factors, scores and masks are always float32."""

    @field_validator("final_hold")
    @classmethod
    def _leaves_room_to_rise(cls, hold: float, info: ValidationInfo) -> float:
        warmup = info.data.get("initial_warmup", 0.0)
        if warmup + hold >= 1:
            raise ValueError(
                f"initial_warmup + final_hold is {warmup + hold:g}: it must be below 1, so that "
                "some steps are left for the sparsity to rise"
            )
        return hold


# Presets are what they change of the defaults above.
PRESETS: dict[Preset, dict[str, float | int | str]] = {"paper": {}}


class Limits(Strict):
    wall_seconds: Annotated[int, Field(ge=1, le=30 * 24 * 3600)] | None = None
    """The job fails with `timeout` once an attempt has run this long."""


class CompressionSpec(Strict):
    """What to compress, on which data, how far and how."""

    model: ModelReference
    """`pkg:NAME` or `file:FOLDER`."""
    dataset: Dataset
    task: Literal["text-classification"] = "text-classification"
    method: Method = "pst"
    sparsity: Annotated[Fraction | None, Field(validate_default=True)] = None
    """Share of zeros in each pruned matrix, in (0, 1); null for the method `dense`."""
    baseline: Annotated[Literal["none", "train"], Field(validate_default=True)] = "none"
    """`train` also trains the dense yardstick: same data, seed, steps and schedule."""
    preset: Preset = "paper"
    hyperparameters: Hyperparameters = Hyperparameters()
    """What to change of the preset."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    formats: Annotated[tuple[Format, ...], Field(min_length=1, validate_default=True)] = ()
    """Checkpoint formats to publish. Default: `packed`; for the method `dense`, `dense`."""
    limits: Limits = Limits()

    @field_validator("dataset", mode="before")
    @classmethod
    def _accept_a_bare_reference(cls, value: object) -> object:
        return {"ref": value} if isinstance(value, str) else value

    @field_validator("sparsity")
    @classmethod
    def _sparsity_fits_the_method(cls, value: float | None, info: ValidationInfo) -> float | None:
        method = info.data.get("method")
        if method == "dense" and value is not None:
            raise ValueError("the method `dense` prunes nothing: leave sparsity out")
        if method == "pst" and value is None:
            raise ValueError("the method `pst` needs a sparsity between 0 and 1, such as 0.9")
        return value

    @field_validator("baseline")
    @classmethod
    def _baseline_fits_the_method(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("method") == "dense" and value != "none":
            raise ValueError("the method `dense` is the baseline itself: leave baseline out")
        return value

    @field_validator("formats", mode="before")
    @classmethod
    def _formats_fit_the_method(cls, value: object, info: ValidationInfo) -> object:
        dense = info.data.get("method") == "dense"
        if value == ():
            return ("dense",) if dense else ("packed",)
        if isinstance(value, list | tuple):
            if len({str(item) for item in value}) < len(value):
                raise ValueError("names a format twice")
            if dense and "packed" in value:
                raise ValueError("the method `dense` has no zeros to pack: ask for `dense`")
        return value

    def resolved_hyperparameters(self) -> Hyperparameters:
        """The preset with this spec's changes: every value the run will use."""
        changes = self.hyperparameters.model_dump(exclude_unset=True)
        return Hyperparameters.model_validate({**PRESETS[self.preset], **changes})

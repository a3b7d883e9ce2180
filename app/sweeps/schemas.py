"""What the sweep routes take and give."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from app.jobs.schemas import JobError, Metadata
from app.jobs.states import Status
from app.sweeps.states import SweepStatus
from pst_core.fields import Float, Fraction, Integer, Strict, Text
from pst_core.report import Estimate, Gate
from pst_core.spec import Format, Method, Metric

MOST_JOBS = 64

Item = TypeVar("Item")
Several = Annotated[tuple[Item, ...], Field(max_length=MOST_JOBS)]
Parallel = Annotated[int, Integer(ge=1, le=MOST_JOBS)]
Seed = Annotated[int, Integer(ge=0, lt=2**31)]
Bytes = Annotated[int, Integer(ge=1, le=2**50)]


class SweepCreate(Strict):
    """A job's spec, and what of it to vary: one job for each combination, 64 at the most."""

    spec: dict[str, Any]
    """As for POST /jobs, `placement` and `metadata` of the jobs included; what is varied is left
    out."""
    sparsities: Several[Fraction] = ()
    methods: Several[Method] = ()
    """`dense` and `lora` prune nothing: of them there is one job for each seed."""
    seeds: Several[Seed] = ()
    baseline: Literal["none", "train"] = "none"
    """`train`: one dense job for each seed is trained first, and is the baseline of all others."""
    max_parallel: Parallel | None = None
    """How many of its jobs may run at once; null: as many as the project's may."""
    metadata: Metadata = Field(default_factory=dict)
    """Of the sweep itself."""

    @field_validator("sparsities", "methods", "seeds")
    @classmethod
    def _names_nothing_twice(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a value twice")
        return value


class SweepJob(BaseModel):
    """One job of a sweep, and what came of it so far."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    status: Status
    method: Method
    sparsity: float | None
    seed: int
    waits_for: str | None
    fraction: float
    """Of its training that is done, from 0 to 1."""
    error: JobError | None
    metric: Estimate | None
    """On the test split; null until it has succeeded."""
    difference: Estimate | None
    """From its baseline, paired; null: none was measured."""
    gate: Gate | None
    bytes: dict[str, int] | None
    """Of the weights, by format."""


class SweepPickOut(BaseModel):
    """What the sweep's name leads to, and what was asked for."""

    model_config = ConfigDict(from_attributes=True)

    job_id: str
    constraints: dict[str, Any] | None
    """Null where the job was named."""
    picked_at: datetime


class SweepSummary(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    status: SweepStatus
    counts: dict[Status, int]
    """How many of its jobs are in which state; deleted ones are left out."""
    fraction: float
    """Of all its jobs' training that is done, from 0 to 1; what has ended is done."""
    metric: Metric
    """What its jobs are judged by, on the test split."""
    max_parallel: int | None
    metadata: dict[str, str] = Field(validation_alias=AliasChoices("metadata_", "metadata"))
    created_at: datetime


class SweepDetail(SweepSummary):
    request: SweepCreate
    pick: SweepPickOut | None
    """What is loaded as `sweeps/ID`; null: nothing was picked, or it was deleted."""
    jobs: list[SweepJob]
    """In the order in which they are taken."""


class FrontPoint(BaseModel):
    """The jobs of one method and sparsity, over their seeds."""

    method: Method
    sparsity: float | None
    format: str
    """Whose bytes they are: `dense` for what prunes nothing."""
    bytes: float
    """The mean over the seeds."""
    metric: Estimate
    """The mean over the seeds. The 95 % interval is over the seeds (Student's t), or of one alone
    over the rows of its test split."""
    interval: Literal["rows", "seeds"]
    jobs: list[str]
    on_front: bool
    """No other point is at least as good and as small, and better or smaller."""


class Front(BaseModel):
    metric: Metric
    higher_is_better: bool
    size_of: Format
    complete: bool
    """Whether all of the sweep's jobs have ended; later ones may change the front."""
    points: list[FrontPoint]
    """From the smallest to the largest."""


class Constraints(Strict):
    """What a pick must satisfy, on the test split."""

    min_metric: Float | None = None
    """The worst value allowed: for `mse` and `perplexity`, the highest."""
    max_bytes: Bytes | None = None
    """Of the weights in `size_of`."""
    max_drop: Annotated[Float, Field(ge=0, le=1e6)] | None = None
    """The most that the metric may be worse than the baseline's, as in a spec."""
    size_of: Format = "packed"
    """What prunes nothing counts by its format `dense`."""
    prefer: Literal["smallest", "best"] | None = None
    """Of those that satisfy all. Default: the best where bytes alone are bounded, else the
    smallest."""


class PickRequest(Constraints):
    """A job of the sweep, or what it has to satisfy."""

    job_id: Annotated[Text, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")] | None = None

    @field_validator("job_id")
    @classmethod
    def _named_or_described(cls, value: str | None, info: ValidationInfo) -> str | None:
        bounds = ("min_metric", "max_bytes", "max_drop", "prefer")
        if value and any(info.data.get(name) is not None for name in bounds):
            raise ValueError("names the job: leave the constraints out")
        return value


class Picked(BaseModel):
    """The job that satisfies all constraints."""

    job: SweepJob
    size: int
    """Bytes of its weights in `size_of`."""
    drop: float | None
    """From its baseline, in the unit of `max_drop`; null: none was measured."""

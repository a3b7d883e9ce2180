"""What a running compression reports, one JSON object a line, parsed as untrusted.

Free of torch. Who shows or stores an event is not decided here.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from pst_core.fields import Strict
from pst_core.report import Report

Phase = Literal["preparing", "training", "exporting", "verifying"]
Stage = Literal["baseline", "main"]
Step = Annotated[int, Field(ge=0, le=10**9, strict=True)]


class PhaseEvent(Strict):
    type: Literal["phase"] = "phase"
    phase: Phase


class ProgressEvent(Strict):
    """One optimizer step that is worth telling of.

    Steps count over all stages of the job, so that step / total_steps is its progress.
    """

    type: Literal["progress"] = "progress"
    stage: Stage
    step: Step
    total_steps: Step
    loss: float
    sparsity: Annotated[float, Field(ge=0, lt=1)]
    learning_rate: Annotated[float, Field(ge=0)]
    eta_seconds: Annotated[float, Field(ge=0)]


class EvaluationEvent(Strict):
    type: Literal["evaluation"] = "evaluation"
    stage: Stage
    split: Literal["validation", "test"]
    metric: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]
    value: float


class ResultEvent(Strict):
    type: Literal["result"] = "result"
    report: Report


class FailureEvent(Strict):
    type: Literal["failure"] = "failure"
    code: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
    message: Annotated[str, Field(max_length=4000)]
    field: Annotated[str, Field(max_length=200)] | None = None
    remedy: Annotated[str, Field(max_length=2000)] = ""
    retryable: bool = False


Event = PhaseEvent | ProgressEvent | EvaluationEvent | ResultEvent | FailureEvent
Emit = Callable[[Event], None]

EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])

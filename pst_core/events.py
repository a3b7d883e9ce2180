"""What a running compression reports, one JSON object a line, parsed as untrusted.

Free of torch. Who shows or stores an event is not decided here.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from pst_core.dataset_spec import Role, SplitName
from pst_core.errors import PstError
from pst_core.fields import Strict, Text
from pst_core.report import Report

Phase = Literal["fetching", "preparing", "training", "exporting", "verifying"]
Stage = Literal["baseline", "main"]
Step = Annotated[int, Field(ge=0, le=10**9, strict=True)]
SnapshotName = Annotated[str, Field(pattern=r"^step-[0-9]{8,10}$")]
ShortText = Annotated[str, Field(max_length=200)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}$")]
Bytes = Annotated[int, Field(ge=0, le=2**60, strict=True)]
Rows = Annotated[int, Field(ge=0, le=2**40, strict=True)]
MAX_DIFFERENCES = 16
MAX_REASON = 500


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


class AnsweredEvent(Strict):
    """The dense baseline has answered some of the examples for the main stage to learn from."""

    type: Literal["answered"] = "answered"
    rows: Rows
    total_rows: Rows


class SnapshotEvent(Strict):
    """A snapshot is wholly on disk."""

    type: Literal["snapshot"] = "snapshot"
    name: SnapshotName
    stage: Stage
    step: Step
    """Over all stages, as in its name."""


class ResumedEvent(Strict):
    """The run goes on from a snapshot."""

    type: Literal["resumed"] = "resumed"
    name: SnapshotName
    stage: Stage
    step: Step
    exact: bool
    """Whether it will end with the very bytes of a run that was never interrupted."""
    differs: Annotated[tuple[ShortText, ...], Field(max_length=MAX_DIFFERENCES)] = ()
    """What is not as it was when the snapshot was made."""


class SnapshotRejectedEvent(Strict):
    """A snapshot was not gone on from; the one before it is tried next, else all starts anew."""

    type: Literal["snapshot_rejected"] = "snapshot_rejected"
    name: SnapshotName
    reason: Annotated[str, Field(max_length=MAX_REASON)]


class DownloadEvent(Strict):
    """How much of a repository has come from the hub."""

    type: Literal["download"] = "download"
    what: Literal["model", "dataset"]
    bytes: Bytes
    total_bytes: Bytes


class FetchedEvent(Strict):
    """All that is wanted of a repository is on disk, and what the hub says it is."""

    type: Literal["fetched"] = "fetched"
    what: Literal["model", "dataset"]
    commit: Commit
    file: FileName | None = None
    """Of a dataset that is one file, its name."""


class DataEvent(Strict):
    """The data is read and split: which column plays which role, how many rows lie where."""

    type: Literal["data"] = "data"
    columns: dict[Role, Text]
    rows: dict[SplitName, Rows]


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

    @classmethod
    def of(cls, error: PstError) -> "FailureEvent":
        """What the job's owner is told of a failure that says all itself."""
        return cls(
            code=error.code,
            message=error.message[:4000],
            field=error.field,
            remedy=error.remedy[:2000],
            retryable=error.retryable,
        )


Event = (
    PhaseEvent
    | ProgressEvent
    | EvaluationEvent
    | AnsweredEvent
    | SnapshotEvent
    | ResumedEvent
    | SnapshotRejectedEvent
    | DownloadEvent
    | FetchedEvent
    | DataEvent
    | ResultEvent
    | FailureEvent
)
Emit = Callable[[Event], None]

EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])

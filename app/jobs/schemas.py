"""What the job routes take and give."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, computed_field

from app.jobs.phases import JobPhase, JobRequeue
from app.jobs.states import Status
from pst_core.fields import Integer, Strict, Text
from pst_core.recipes import Hyperparameters
from pst_core.report import Report
from pst_core.spec import CompressionSpec


class Placement(Strict):
    """Which workers may take the job."""

    device: Literal["any", "cpu", "gpu"] = "any"
    memory_bytes: Annotated[int, Integer(ge=1, le=2**50)] | None = None
    """Of the device, at least. Null: any."""


Metadata = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")],
        Annotated[Text, Field(max_length=500)],
    ],
    Field(max_length=50),
]


class JobCreate(CompressionSpec):
    """A compression spec, whose fields are fields of the request, and what is not the trainer's."""

    placement: Placement = Placement()
    metadata: Metadata = Field(default_factory=dict)
    """Up to 50 names and values of your own, to find the job by."""


class ResolvedJob(BaseModel):
    """What a posted job would be; nothing of it is stored."""

    spec: CompressionSpec
    """With all that it leaves out."""
    hyperparameters: Hyperparameters
    """Every value the run would use, the preset's included."""
    placement: Placement
    metadata: dict[str, str]
    estimate: str | None = None
    """The path of a ready estimate of this very spec; null: `POST /estimates` makes one."""


class JobProgress(BaseModel):
    stage: str
    """`baseline` while the dense yardstick trains, then `main`."""
    step: int
    total_steps: int
    """Of all stages."""
    loss: float
    sparsity: float
    learning_rate: float
    eta_seconds: float
    """From then until the training ends; exporting, verifying and uploading come after."""

    @computed_field  # type: ignore[prop-decorator] # mypy takes no decorated property
    @property
    def fraction(self) -> float:
        """Of the training that is done, from 0 to 1."""
        return self.step / max(self.total_steps, 1)


class JobError(BaseModel):
    code: str
    message: str
    field: str | None = None
    remedy: str = ""
    retryable: bool = False


class JobData(BaseModel):
    columns: dict[str, str]
    """Which of the data's columns plays which role."""
    rows: dict[str, int]
    """Of each split."""


class JobSummary(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    status: Status
    phase: str | None
    """While it runs: fetching, preparing, training, exporting, verifying or uploading."""
    run: int
    """Counts from 1; each retry starts another."""
    attempt: int
    """How often a worker has taken the job, over all runs."""
    cancel_requested: bool
    pause_requested: bool
    progress: JobProgress | None
    eta: datetime | None
    """When the training will end, at the speed that was measured in this attempt; null while that
    is not known. Exporting, verifying and uploading come after."""
    device_seconds: float
    """How long devices (GPUs, or the CPUs of workers without one) were held, over all runs and
    attempts that have ended."""
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    placement: Placement
    metadata: dict[str, str] = Field(validation_alias=AliasChoices("metadata_", "metadata"))
    sweep_id: str | None = None
    """Of the sweep that it belongs to."""
    waits_for: str | None = None
    """The job whose dense model is its baseline: it starts once that has succeeded."""
    spec: CompressionSpec


class JobDetail(JobSummary):
    commits: dict[str, str]
    """Of `model` and `dataset`, where they come from a hub: what is trained, whatever moves there.
    Known once they were fetched."""
    data: JobData | None = None
    """Known once the data was read."""
    hyperparameters: Hyperparameters
    """Every value the run uses, the preset's included."""
    phases: list[JobPhase] = []
    """Of this run, in order, with the times between."""
    queue_position: int | None = None
    """1 for the queued job that is taken next, as things are; 1000 stands for all behind. Null
    unless it is queued, and while it waits for another."""
    requeue: JobRequeue | None = None
    """Why the queued job is in the queue again after an attempt; null otherwise."""
    result: Report | None

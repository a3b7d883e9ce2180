"""What the job routes take and give."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.jobs.states import Status
from pst_core.fields import Strict
from pst_core.recipes import Hyperparameters
from pst_core.report import Report
from pst_core.spec import CompressionSpec


class Placement(Strict):
    """Which workers may take the job."""

    device: Literal["any", "cpu", "gpu"] = "any"
    memory_bytes: Annotated[int, Field(ge=1, le=2**50)] | None = None
    """Of the device, at least. Null: any."""


class JobCreate(CompressionSpec):
    """A compression spec, whose fields are fields of the request, and where it may run."""

    placement: Placement = Placement()


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
    """Until the training ends; exporting and verifying come after."""


class JobError(BaseModel):
    code: str
    message: str
    field: str | None = None
    remedy: str = ""
    retryable: bool = False


class JobSummary(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    status: Status
    phase: str | None
    """While it runs: preparing, training, exporting or verifying."""
    run: int
    """Counts from 1; each retry starts another."""
    attempt: int
    """How often a worker has taken the job, over all runs."""
    cancel_requested: bool
    pause_requested: bool
    progress: JobProgress | None
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    placement: Placement
    spec: CompressionSpec


class JobDetail(JobSummary):
    hyperparameters: Hyperparameters
    """Every value the run uses, the preset's included."""
    result: Report | None

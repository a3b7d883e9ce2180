"""What the job routes take and give."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.jobs.states import Status
from pst_core.recipes import Hyperparameters
from pst_core.report import Report
from pst_core.spec import CompressionSpec


class JobCreate(CompressionSpec):
    """A compression spec; every field of the spec is a field of the request."""


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
    attempt: int
    cancel_requested: bool
    progress: JobProgress | None
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    spec: CompressionSpec


class JobDetail(JobSummary):
    hyperparameters: Hyperparameters
    """Every value the run uses, the preset's included."""
    result: Report | None


class JobEventOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    seq: int
    attempt: int
    type: str
    data: dict[str, Any]
    created_at: datetime


class JobMetricOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    step: int
    stage: str
    loss: float
    sparsity: float
    learning_rate: float

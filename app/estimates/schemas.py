"""What the routes of estimates take and give."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.estimates.states import State
from app.jobs.schemas import JobCreate, JobError
from pst_core.forecast import DeviceClass, Forecast
from pst_core.spec import CompressionSpec


class EstimateCreate(JobCreate):
    """A job, as `POST /jobs` takes it; nothing of it is run."""


# What `Seconds.basis` means, for who meets it without this page.
KNOWN_FROM = {
    "measured": "jobs like it here",
    "rate": "the speed of other jobs here",
    "default": "no job yet: a rough guess",
}


class Seconds(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    step: float
    """Of the method; that of a baseline is its own."""
    training: float | None
    """Of all stages; null: how many steps there are is not known."""
    total: float | None
    """With loading, scoring, exporting and verifying."""
    basis: Literal["measured", "rate", "default"]
    """`measured`: as the project's `jobs` of the same model, data, method, rank, batch, length and
    precision took on such devices. `rate`: the work, at the speed that was measured there with
    others. `default`: nothing was measured there; a rough figure."""
    jobs: list[str]


class Memory(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    peak_bytes: int
    basis: Literal["measured", "model"]
    """`measured`: the most that `jobs` took; `model`: the largest stage of `forecast.memory`."""
    jobs: list[str]


class Change(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    hyperparameters: dict[str, int | str]
    """To set in the spec."""
    baseline: Literal["none"] | None
    """To set in the spec; null: leave it."""
    peak_memory_bytes: int
    """With it."""


class DeviceEstimate(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    device: DeviceClass
    memory: Memory
    fits: bool | None
    """Null: how much memory there is is not known."""
    change: Change | None
    """The smallest that makes it fit; null: it fits, or no change of batch, precision or baseline
    is enough: it takes a larger device."""
    seconds: Seconds


class EstimateDetail(BaseModel):
    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str
    status: State
    created_at: datetime
    finished_at: datetime | None
    spec: CompressionSpec
    forecast: Forecast | None
    """Null until it is ready."""
    error: JobError | None
    """Why there is none: what such a job would fail with."""
    devices: list[DeviceEstimate] = []
    """Those that jobs have run on here, of either kind, and that of the worker that estimates."""


class Compared(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    predicted: float
    """Median over the jobs."""
    actual: float
    ratio: float
    """Predicted to actual, the median over the jobs."""


class Accuracy(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    model: str
    method: str
    device: str
    jobs: int
    peak_memory_bytes: Compared
    training_seconds: Compared | None
    """From what earlier jobs took; null: no step was timed."""
    seconds_basis: dict[str, int]
    """How many of the jobs' times were predicted on which basis."""
    bytes: dict[str, Compared]
    """By format."""


class Accuracies(BaseModel):
    data: list[Accuracy]

"""What finished jobs have taken, as later estimates use it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pst_core.forecast import DeviceClass, WorkForecast
from pst_core.report import Report
from pst_core.spec import CompressionSpec


class Measured(BaseModel):
    """Of one job, kept beside its estimate."""

    device: DeviceClass
    step_seconds: float
    baseline_step_seconds: float | None
    training_seconds: float
    """Of all stages."""
    device_seconds: float
    """Of all attempts."""
    peak_memory_bytes: int
    bytes: dict[str, int]

    @classmethod
    def of(cls, report: Report, device_seconds: float) -> "Measured | None":
        """None where the report does not say on which device it was."""
        if report.device is None:
            return None
        costs = [cost for cost in (report.cost, report.baseline_cost) if cost is not None]
        baseline = report.baseline_cost
        return cls(
            device=report.device,
            step_seconds=report.cost.step_seconds,
            baseline_step_seconds=baseline.step_seconds if baseline else None,
            training_seconds=sum(cost.seconds for cost in costs),
            device_seconds=device_seconds,
            peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
            bytes=dict(report.outcome.bytes),
        )


Shape = tuple[object, ...]


def shape_of(spec: CompressionSpec) -> Shape:
    """What decides how long a job takes, and how much memory: the same for jobs that compare."""
    hyper = spec.resolved_hyperparameters()
    return (
        spec.model,
        spec.dataset.ref,
        spec.task,
        spec.method,
        spec.scope,
        spec.baseline,
        hyper.rank,
        hyper.score_rank,
        hyper.batch_size,
        hyper.splices,
        hyper.accumulation,
        hyper.max_length,
        hyper.precision,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A finished job's.

    Args:
        project_id: Whose it is; of other projects' only rates are used, and no id is told.
        job_id: Of the job.
        spec: What was asked.
        work: What it had to compute.
        measured: What that took.
    """

    project_id: str
    job_id: str
    spec: CompressionSpec
    work: WorkForecast
    measured: Measured

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Measurement":
        """From a row of `queries.measurements`."""
        project_id, job_id, asked, forecast, measured, accepted = row
        spec = CompressionSpec.stored(asked)
        return cls(
            project_id=project_id,
            job_id=job_id,
            # By what it was trained by, where the job is still there to say it.
            spec=spec.trained_by(accepted) if accepted else spec,
            work=WorkForecast.model_validate(forecast["work"]),
            measured=Measured.model_validate(measured),
        )

    @property
    def rate(self) -> float | None:
        """Operations a second, while it trained; None where nothing was timed."""
        if not (self.measured.step_seconds and self.work.step):
            return None
        return self.work.step / self.measured.step_seconds

    def overhead_seconds(self, evaluation: float, rate: float) -> float:
        """What another takes beside its training: loading, scoring, exporting, verifying.

        As long as this one, but for what is scored and answered more, or less.

        Args:
            evaluation: Operations of that in the other; 0: not known.
            rate: Operations a second, of training.
        """
        took = max(0.0, self.measured.device_seconds - self.measured.training_seconds)
        if not (evaluation and self.work.evaluation):
            return took
        # Without gradients it is faster; all that it took at the most.
        seconds = min(1 / rate, took / self.work.evaluation)
        return took + (evaluation - self.work.evaluation) * seconds

"""How long a job will take on a class of devices: as jobs like it took, else by a rate."""

import math
from collections.abc import Sequence
from statistics import median

from app.estimates.measured import Measurement, shape_of
from app.estimates.schemas import Seconds
from pst_core.forecast import DeviceClass, Forecast
from pst_core.spec import CompressionSpec

# Operations a second where nothing has been measured: what half of a small model's products reach.
DEFAULT_RATES = {"cpu": 2e10, "gpu": 1e13}
# What a job takes beside its training: libraries, loading, exporting, verifying.
DEFAULT_OVERHEAD = 40.0


def forecast_seconds(
    spec: CompressionSpec,
    forecast: Forecast,
    device: DeviceClass,
    known: Sequence[Measurement],
    *,
    project_id: str,
) -> Seconds:
    """The time of a job.

    Args:
        spec: What is asked.
        forecast: What it has to compute.
        device: Where.
        known: What jobs have taken, of all projects.
        project_id: Whose jobs may be named.
    """
    here = [each for each in known if each.measured.device.key == device.key]
    alike = same_shape(spec, forecast, here, project_id)
    rate = _rate(spec, alike) or _rate(spec, here) or _default(device)
    if alike:
        step = median(each.measured.step_seconds for each in alike)
        timed = [s for each in alike if (s := each.measured.baseline_step_seconds)]
        baseline = median(timed) if timed else forecast.work.baseline_step / rate
    else:
        step, baseline = forecast.work.step / rate, forecast.work.baseline_step / rate
    training = None
    if forecast.steps is not None and forecast.baseline_steps is not None:
        training = forecast.steps * step + forecast.baseline_steps * baseline
    scoring = forecast.work.evaluation
    others = [each.overhead_seconds(scoring, rate) for each in alike or here]
    beside = median(others) if others else DEFAULT_OVERHEAD + scoring / rate
    return Seconds(
        step=step,
        training=training,
        total=None if training is None else training + beside,
        basis="measured" if alike else "rate" if _rate(spec, here) else "default",
        jobs=[each.job_id for each in alike],
    )


def same_shape(
    spec: CompressionSpec, forecast: Forecast, known: Sequence[Measurement], project_id: str
) -> list[Measurement]:
    """Those of the project's jobs that compare with a spec, and with what it has to compute."""
    shape, step = shape_of(spec), forecast.work.step
    return [
        each
        for each in known
        if each.project_id == project_id
        and shape_of(each.spec) == shape
        # Steps of other splits differ by some padding, those of an earlier release by more.
        and math.isclose(each.work.step, step, rel_tol=0.25)
    ]


def _default(device: DeviceClass) -> float:
    return DEFAULT_RATES[device.kind] * (device.threads if device.kind == "cpu" else 1)


def _rate(spec: CompressionSpec, here: Sequence[Measurement]) -> float | None:
    """Of jobs of the same method and precision; else of the same precision; else of any."""
    precision = spec.resolved_hyperparameters().precision
    halves = [each for each in here if each.spec.resolved_hyperparameters().precision == precision]
    same = [each for each in halves if each.spec.method == spec.method]
    for group in (same, halves, here):
        if rates := [rate for each in group if (rate := each.rate)]:
            return median(rates)
    return None

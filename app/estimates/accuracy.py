"""How estimates compare with what jobs then took."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from app.estimates.measured import Measurement
from app.estimates.schemas import Accuracy, Compared
from app.estimates.timing import forecast_seconds
from pst_core.forecast import Forecast

Job = tuple[Measurement, Forecast]


def compare(jobs: Sequence[Job]) -> list[Accuracy]:
    """By model, method and class of device.

    Args:
        jobs: Of one project, newest first: a time is predicted from what was known before.
    """
    groups: defaultdict[tuple[str, str, str], list[tuple[Job, list[Measurement]]]]
    groups = defaultdict(list)
    for number, (job, forecast) in enumerate(jobs):
        key = (job.spec.model, job.spec.method, job.measured.device.key)
        earlier = [before for before, _ in jobs[number + 1 :]]
        groups[key].append(((job, forecast), earlier))
    return [_compare(*key, group) for key, group in sorted(groups.items())]


def _compare(
    model: str, method: str, device: str, group: Sequence[tuple[Job, list[Measurement]]]
) -> Accuracy:
    timed, bases = [], Counter[str]()
    sizes: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for (job, forecast), earlier in group:
        told = forecast_seconds(
            job.spec, forecast, job.measured.device, earlier, project_id=job.project_id
        )
        bases[told.basis] += 1
        if told.training and job.measured.training_seconds:
            timed.append((told.training, job.measured.training_seconds))
        for name, size in forecast.bytes.items():
            if size.bytes is not None and name in job.measured.bytes:
                sizes[name].append((size.bytes, job.measured.bytes[name]))
    peaks = [
        (forecast.memory[job.measured.device.kind].trained, job.measured.peak_memory_bytes)
        for (job, forecast), _ in group
    ]
    return Accuracy(
        model=model,
        method=method,
        device=device,
        jobs=len(group),
        peak_memory_bytes=_compared(peaks),
        training_seconds=_compared(timed) if timed else None,
        seconds_basis=dict(bases),
        bytes={name: _compared(pairs) for name, pairs in sizes.items()},
    )


def _compared(pairs: Iterable[tuple[float, float]]) -> Compared:
    found = list(pairs)
    return Compared(
        predicted=median(predicted for predicted, _ in found),
        actual=median(actual for _, actual in found),
        ratio=median(predicted / max(actual, 1e-9) for predicted, actual in found),
    )

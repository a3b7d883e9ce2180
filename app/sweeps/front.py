"""What the jobs of a sweep say together: points over their seeds, and which of them are the front.

How that is drawn is in picture.py.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import fmean, stdev

from app.jobs.states import TERMINAL
from app.sweeps.schemas import Front, FrontPoint, SweepJob
from pst_core.report import Estimate
from pst_core.spec import LOWER_IS_BETTER, UNPRUNED, Format, Metric

# The 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom (Fisher & Yates, table III);
# for more of them the last one, which makes intervals a little too wide.
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
COLUMNS = (
    "method", "sparsity", "format", "bytes", "metric", "low", "high", "interval", "seeds",
    "on_front", "jobs",
)  # fmt: skip

Measured = tuple[SweepJob, Estimate, int]


def make_front(jobs: Sequence[SweepJob], metric: Metric, size_of: Format) -> Front:
    """The points of all jobs that have succeeded, and have this format.

    Args:
        jobs: All of a sweep's.
        metric: What they are judged by.
        size_of: The format whose bytes count.
    """

    def cell(measured: Measured) -> tuple[str, float]:
        return measured[0].method, measured[0].sparsity or 0.0

    measured = sorted(
        (
            (job, job.metric, size)
            for job in jobs
            if job.metric is not None and (size := size_in(job, size_of)) is not None
        ),
        key=cell,
    )
    points = [_point(list(group), size_of) for _, group in groupby(measured, cell)]
    higher = metric not in LOWER_IS_BETTER
    marked = [
        point.model_copy(update={"on_front": not _is_dominated(point, points, higher=higher)})
        for point in points
    ]
    return Front(
        metric=metric,
        higher_is_better=higher,
        size_of=size_of,
        complete=all(job.status in TERMINAL for job in jobs),
        points=sorted(marked, key=lambda point: (point.bytes, point.method, point.sparsity or 0)),
    )


def format_of(job: SweepJob, size_of: Format) -> str:
    """The format whose bytes are a job's size: what prunes nothing has only one that counts."""
    return "dense" if job.method in UNPRUNED else size_of


def size_in(job: SweepJob, size_of: Format) -> int | None:
    """The bytes of its weights; None where it has not made the format."""
    return (job.bytes or {}).get(format_of(job, size_of))


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent runs, and its 95 % interval: mean ± t · s / √n (Student 1908).

    Of a single run its own interval, which is over the rows it was measured on.
    """
    if len(estimates) == 1:
        return estimates[0]
    values = [estimate.value for estimate in estimates]
    count, mean = len(values), fmean(values)
    quantile = T_QUANTILES[min(count - 1, len(T_QUANTILES)) - 1]
    half = quantile * stdev(values) / math.sqrt(count)
    return Estimate(value=mean, low=mean - half, high=mean + half)


def _point(measured: Sequence[Measured], size_of: Format) -> FrontPoint:
    jobs, estimates, sizes = zip(*measured, strict=True)
    return FrontPoint(
        method=jobs[0].method,
        sparsity=jobs[0].sparsity,
        format=format_of(jobs[0], size_of),
        bytes=fmean(sizes),
        metric=mean_estimate(estimates),
        interval="rows" if len(jobs) == 1 else "seeds",
        jobs=[job.id for job in jobs],
        on_front=False,
    )


def _is_dominated(point: FrontPoint, points: Iterable[FrontPoint], *, higher: bool) -> bool:
    """Whether another one is as small and as good, and smaller or better."""

    def loss(each: FrontPoint) -> float:
        return -each.metric.value if higher else each.metric.value

    mine = point.bytes, loss(point)
    return any(
        other.bytes <= mine[0] and loss(other) <= mine[1] and (other.bytes, loss(other)) != mine
        for other in points
    )


def as_csv(front: Front) -> str:
    """One row a point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for point in front.points:
        of_metric = (point.metric.value, point.metric.low, point.metric.high)
        told = (point.interval, len(point.jobs), str(point.on_front).lower(), " ".join(point.jobs))
        writer.writerow(
            (point.method, point.sparsity, point.format, point.bytes, *of_metric, *told)
        )
    return text.getvalue()

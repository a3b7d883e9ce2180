"""Which of a sweep's jobs to take: the smallest, or the best, that satisfies what is asked.

Looks at the test split of single runs; what the front says of several seeds is in front.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from app.jobs.states import Status
from app.problems import Problem
from app.sweeps import queries, service
from app.sweeps.front import size_in
from app.sweeps.schemas import Constraints, Picked, PickRequest, SweepDetail
from app.sweeps.service import Result
from pst_core.gate import judge
from pst_core.spec import LOWER_IS_BETTER, Metric


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job that has succeeded, as numbers to choose by."""

    result: Result
    size: int
    value: float
    drop: float | None

    def picked(self) -> Picked:
        return Picked(job=self.result.job, size=self.size, drop=self.drop)


@dataclass(frozen=True, slots=True)
class Bound:
    """One constraint: how far each candidate misses it; nothing or less: it does not."""

    name: str
    asked: float
    missed_by: Callable[[Candidate], float | None]


async def find(session: AsyncSession, project_id: str, sweep_id: str, asked: Constraints) -> Picked:
    """The job of a sweep that satisfies all that is asked.

    Raises:
        Problem: 404, or 409 where none does: which constraint nobody meets, and by how much.
    """
    sweep = await service.get(session, project_id, sweep_id)
    results = await service.results(session, project_id, sweep_id)
    metric: Metric = sweep.metric  # type: ignore[assignment] # checked when it was posted
    return choose(results, metric, asked).picked()


async def store(
    session: AsyncSession, project_id: str, sweep_id: str, asked: PickRequest
) -> SweepDetail:
    """Let the sweep's name lead to a job of it, until another one is picked.

    Raises:
        Problem: 404; 422 where the one named is not of it; 409 where no job is as asked, or the
            one named has not succeeded.
    """
    await service.get(session, project_id, sweep_id)
    constraints = None
    if (job_id := asked.job_id) is None:
        constraints = Constraints.model_validate(asked.model_dump(exclude={"job_id"}))
        job_id = (await find(session, project_id, sweep_id, constraints)).job.id
    status = await session.scalar(queries.pickable(project_id, sweep_id, job_id))
    if status is None:
        raise Problem(
            422,
            "invalid_request",
            "The sweep has no such job.",
            field="job_id",
            remedy=f"GET /sweeps/{sweep_id} lists its jobs.",
        )
    if status != Status.SUCCEEDED:
        raise Problem(
            409,
            "job_not_succeeded",
            f"The job is {status}.",
            field="job_id",
            remedy="Only a job that has succeeded has a checkpoint.",
        )
    told = constraints.model_dump(mode="json", exclude_none=True) if constraints else None
    await session.execute(queries.pick(project_id, sweep_id, job_id, told))
    return await service.show(session, project_id, sweep_id)


def choose(results: Sequence[Result], metric: Metric, asked: Constraints) -> Candidate:
    """The smallest or best candidate; of equals the older, so that the answer is always the same.

    Raises:
        Problem: 409: which constraint nobody meets, and by how much.
    """
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    candidates = list(_candidates(results, metric, asked))
    bounds = _bounds(metric, asked)
    fitting = [each for each in candidates if all(_meets(each, bound) for bound in bounds)]
    if not fitting:
        raise _nothing_fits(candidates, bounds)
    only_bytes = {bound.name for bound in bounds} == {"max_bytes"}
    prefer = asked.prefer or ("best" if only_bytes else "smallest")

    def order(each: Candidate) -> tuple[float, float, str]:
        keys = (each.size, sign * each.value)
        first, second = keys if prefer == "smallest" else keys[::-1]
        return first, second, each.result.job.id

    return min(fitting, key=order)


def _candidates(
    results: Sequence[Result], metric: Metric, asked: Constraints
) -> Sequence[Candidate]:
    found = []
    for result in results:
        job = result.job
        size = size_in(job, asked.size_of)
        if job.metric is not None and size is not None:
            drop = _drop(result, metric, job.metric.value)
            found.append(Candidate(result, size, job.metric.value, drop))
    return found


def _drop(result: Result, metric: Metric, value: float) -> float | None:
    baseline = result.baseline
    if result.job.method == "dense":
        # It is what the others are compared with.
        baseline = value
    if baseline is None:
        return None
    return judge(metric, limit=0, value=value, baseline=baseline).drop


def _bounds(metric: Metric, asked: Constraints) -> list[Bound]:
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    bounds = []
    if (limit := asked.min_metric) is not None:
        least = limit
        bounds.append(Bound("min_metric", least, lambda each: sign * (each.value - least)))
    if (size := asked.max_bytes) is not None:
        most = size
        bounds.append(Bound("max_bytes", most, lambda each: each.size - most))
    if (drop := asked.max_drop) is not None:
        furthest = drop
        bounds.append(
            Bound(
                "max_drop",
                furthest,
                lambda each: None if each.drop is None else each.drop - furthest,
            )
        )
    return bounds


def _meets(candidate: Candidate, bound: Bound) -> bool:
    missed = bound.missed_by(candidate)
    return missed is not None and missed <= 0


def _nothing_fits(candidates: Sequence[Candidate], bounds: Sequence[Bound]) -> Problem:
    field = None
    if not candidates:
        detail = "No job of the sweep has succeeded with a checkpoint of this format yet."
    elif unmet := [b for b in bounds if not any(_meets(each, b) for each in candidates)]:
        field = unmet[0].name
        detail = " ".join(_missed(candidates, bound) for bound in unmet)
    else:
        field = bounds[0].name
        detail = " ".join(_apart(candidates, bounds, bound) for bound in bounds)
    return Problem(
        409,
        "nothing_fits",
        detail,
        field=field,
        remedy="Allow more, wait for the sweep's other jobs, or post more combinations.",
    )


def _missed(candidates: Sequence[Candidate], bound: Bound) -> str:
    missed = [(by, each) for each in candidates if (by := bound.missed_by(each)) is not None]
    if not missed:
        return f"{bound.name}: no job has a baseline to drop from."
    by, nearest = min(missed, key=lambda pair: (pair[0], pair[1].result.job.id))
    return (
        f"{bound.name}: no job meets {bound.asked:g}; {nearest.result.job.id} is nearest, and "
        f"misses it by {by:g}."
    )


def _apart(candidates: Sequence[Candidate], bounds: Sequence[Bound], bound: Bound) -> str:
    """Of those that meet all other constraints: how far the nearest misses this one."""
    others = [other for other in bounds if other is not bound]
    near = [each for each in candidates if all(_meets(each, other) for other in others)]
    if not near:
        return f"{bound.name}: no job meets the others together."
    return _missed(near, bound).replace("no job meets", "none that meets the others meets")

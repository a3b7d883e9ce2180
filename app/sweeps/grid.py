"""The jobs that a sweep is: one for each combination, the yardsticks first.

Nothing is stored here.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.jobs.schemas import JobCreate
from app.problems import Problem, words
from app.sweeps.schemas import MOST_JOBS, SweepCreate
from pst_core.spec import TAUGHT, UNPRUNED

# What a sweep varies: the name in a spec, and in the sweep.
VARIED = {"sparsity": "sparsities", "method": "methods", "seed": "seeds"}
# What the methods that prune nothing have no use for, and what the yardstick itself has none for.
_OF_ZEROS = frozenset({"sparsity", "pattern", "scope", "formats", "value_dtype"})
_OF_OTHERS = frozenset({"include", "exclude", "baseline", "max_drop"})
# Stands for the yardstick's id while it has none.
_SOME_JOB = "job_" + "0" * 32

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """The jobs of one seed, and the dense one that is the baseline of all the others."""

    dense: JobCreate | None
    jobs: tuple[JobCreate, ...]

    def __len__(self) -> int:
        return len(self.jobs) + (self.dense is not None)


def groups(request: SweepCreate) -> list[Group]:
    """All jobs of a sweep, by seed.

    Raises:
        Problem: 422: a field is given twice, does not fit the others, or there are too many jobs.
    """
    for name, varied in (*VARIED.items(), ("baseline", "baseline")):
        if name in request.spec and getattr(request, varied) not in ((), "none"):
            raise _refused(f"spec.{name}", f"The sweep has {varied}: leave it out of the spec.")
    seeds = request.seeds or (request.spec.get("seed", 0),)
    count = len(seeds) * (len(_cells(request)) + (request.baseline == "train"))
    if not 0 < count <= MOST_JOBS:
        raise _refused("spec", f"The sweep would have {count} jobs; it may have 1 to {MOST_JOBS}.")
    return [_group(request, seed) for seed in seeds]


def _group(request: SweepCreate, seed: object) -> Group:
    with_baseline = request.baseline == "train"
    baseline = {"baseline": _SOME_JOB} if with_baseline else {}
    jobs = (
        _parsed(_document(request.spec, method, {"seed": seed, **sparsity}, baseline))
        for method, sparsity in _cells(request)
    )
    dense = _document(request.spec, "dense", {"seed": seed}, {})
    return Group(_parsed(dense) if with_baseline else None, tuple(jobs))


def _cells(request: SweepCreate) -> list[tuple[object, Json]]:
    """Each method with each sparsity; what prunes nothing has none."""
    sparsities: list[Json] = [{"sparsity": each} for each in request.sparsities] or [{}]
    methods = request.methods or (request.spec.get("method", "pst"),)
    return [
        (method, sparsity)
        for method in methods
        for sparsity in ([{}] if _prunes_nothing(method) else sparsities)
        # The yardstick is there anyway.
        if (method, request.baseline) != ("dense", "train")
    ]


def _document(spec: Json, method: object, varied: Json, baseline: Json) -> Json:
    """The request of one job."""
    left_out: frozenset[str] = _OF_ZEROS if _prunes_nothing(method) else frozenset()
    if method == "dense":
        left_out |= _OF_OTHERS
    kept = {name: value for name, value in spec.items() if name not in left_out}
    hyper = kept.get("hyperparameters")
    if method == "dense" and isinstance(hyper, dict):
        # It learns from nobody.
        kept["hyperparameters"] = {
            name: value for name, value in hyper.items() if name not in TAUGHT
        }
    return {**kept, "method": method, **varied, **baseline}


def _prunes_nothing(method: object) -> bool:
    return isinstance(method, str) and method in UNPRUNED


def _parsed(document: Json) -> JobCreate:
    try:
        return JobCreate.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise _refused(".".join(("spec", *map(str, first["loc"]))), words(first)) from error


def _refused(field: str, message: str) -> Problem:
    return Problem(
        422,
        "invalid_request",
        f"{field}: {message}",
        field=field,
        remedy="See POST /jobs in /docs for the fields of a spec; what the sweep varies is not in "
        "its own.",
    )

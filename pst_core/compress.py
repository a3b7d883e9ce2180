"""A compression from spec to checkpoint folders: prepare, train, export. Verifying is verify.py's.

Servers, queues and databases are not known here.
"""

import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from pst_core.batches import Example, tokenize, training_batches
from pst_core.convert import convert, materialize
from pst_core.data import SplitData, load_splits
from pst_core.evaluate import accuracy
from pst_core.events import (
    Emit,
    EvaluationEvent,
    PhaseEvent,
    ProgressEvent,
    ResultEvent,
    Stage,
)
from pst_core.formats.dense import weight_bytes, write_dense
from pst_core.formats.manifest import Manifest, list_files, write_manifest
from pst_core.formats.packed import write_packed
from pst_core.pretrained import load_classifier, load_tokenizer
from pst_core.references import DataSource
from pst_core.report import Cost, Evaluation, Outcome, PrunedMatrix, Report
from pst_core.spec import CompressionSpec
from pst_core.trainer import Run, StepReport, train


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What a spec's references resolved to."""

    model: Path
    dataset: DataSource


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Tokenized data and what both stages share."""

    data: SplitData
    train: list[Example]
    validation: list[Example]
    test: list[Example]
    pad_token: int


@dataclass(frozen=True, slots=True)
class Measured:
    evaluation: Evaluation
    cost: Cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    model: PreTrainedModel
    masks: dict[str, Tensor]
    measured: Measured
    parameters: int
    trainable_parameters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One compression: what to do, with what, and whom to tell."""

    spec: CompressionSpec
    sources: Sources
    emit: Emit
    should_stop: Callable[[], bool] = lambda: False


def compress(job: Job, out_dir: Path) -> Report:
    """Fine-tune, prune and export.

    Args:
        job: The spec with its resolved sources.
        out_dir: Gets one folder a format, ``dense`` and (unless nothing is pruned) ``packed``,
            whether or not the spec publishes both: verifying compares them.

    Returns:
        The report, which was also emitted.

    Raises:
        PstError: The subclass says what was wrong with spec, data, model or training.
        StopRequestedError: ``should_stop`` said so.
    """
    job.emit(PhaseEvent(phase="preparing"))
    prepared = prepare(job.spec, job.sources)
    job.emit(PhaseEvent(phase="training"))
    baseline = _train_baseline(job, prepared) if job.spec.baseline == "train" else None
    main = _train_stage(job, prepared, "main")
    job.emit(PhaseEvent(phase="exporting"))
    report = _export(job, prepared, main, baseline, out_dir)
    job.emit(ResultEvent(report=report))
    return report


def prepare(spec: CompressionSpec, sources: Sources) -> Prepared:
    """Read, split and tokenize the data; the same for the trainer and for who verifies it.

    Raises:
        InvalidDatasetError: With the field or the row at fault.
        UnsupportedModelError: The tokenizer cannot be loaded, or does not fit.
    """
    data = load_splits(spec.dataset, sources.dataset, seed=spec.seed)
    max_length = spec.resolved_hyperparameters().max_length
    tokenizer = load_tokenizer(sources.model, max_length=max_length)
    examples = {
        name: tokenize(rows, data.labels, tokenizer, max_length=max_length)
        for name, rows in data.named().items()
    }
    return Prepared(data=data, pad_token=tokenizer.pad_token_id or 0, **examples)


def _train_baseline(job: Job, prepared: Prepared) -> Measured:
    # The model itself is let go here: its memory is the main stage's.
    return _train_stage(job, prepared, "baseline").measured


def _train_stage(job: Job, prepared: Prepared, stage: Stage) -> Trained:
    hyper = job.spec.resolved_hyperparameters()
    # The same seed gives every stage and attempt the same head.
    model = load_classifier(job.sources.model, prepared.data.labels, seed=job.spec.seed)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sparse = stage == "main" and job.spec.method == "pst"
    layers = convert(model, hyper) if sparse else {}
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total_steps = math.ceil(hyper.epochs * math.ceil(len(prepared.train) / hyper.batch_size))
    batches = training_batches(
        prepared.train,
        batch_size=hyper.batch_size,
        seed=job.spec.seed,
        pad_token=prepared.pad_token,
    )
    cost = train(
        Run(
            model=model,
            layers=layers,
            batches=batches,
            total_steps=total_steps,
            target_sparsity=job.spec.sparsity if sparse and job.spec.sparsity else 0.0,
            learning_rate=hyper.learning_rate if sparse else hyper.dense_learning_rate,
            hyperparameters=hyper,
            report=_progress(job, stage, total_steps),
            should_stop=job.should_stop,
        )
    )
    masks = materialize(model, layers)
    return Trained(
        model=model,
        masks=masks,
        measured=Measured(_evaluate(job, prepared, model, stage), cost),
        parameters=parameters,
        trainable_parameters=trainable,
    )


def _progress(job: Job, stage: Stage, stage_steps: int) -> Callable[[StepReport], None]:
    stages = 2 if job.spec.baseline == "train" else 1
    before = stage_steps if stage == "main" and stages > 1 else 0

    def report(at: StepReport) -> None:
        # The stage still to come is taken to cost as much a step as this one.
        left = stages * stage_steps - before - at.step
        job.emit(
            ProgressEvent(
                stage=stage,
                step=before + at.step,
                total_steps=stages * stage_steps,
                loss=at.loss,
                sparsity=at.sparsity,
                learning_rate=at.learning_rate,
                eta_seconds=at.step_seconds * left,
            )
        )

    return report


def _evaluate(job: Job, prepared: Prepared, model: PreTrainedModel, stage: Stage) -> Evaluation:
    scores = {}
    for split, examples in (("validation", prepared.validation), ("test", prepared.test)):
        if examples:
            scores[split] = accuracy(model, examples, pad_token=prepared.pad_token)
            job.emit(
                EvaluationEvent.model_validate(
                    {"stage": stage, "split": split, "accuracy": scores[split].value}
                )
            )
    return Evaluation(validation=scores.get("validation"), test=scores["test"])


def _export(
    job: Job, prepared: Prepared, main: Trained, baseline: Measured | None, out_dir: Path
) -> Report:
    folders = {"dense": out_dir / "dense"}
    write_dense(main.model, job.sources.model, folders["dense"])
    if main.masks:
        folders["packed"] = out_dir / "packed"
        masks = {name: mask.numpy() for name, mask in main.masks.items()}
        write_packed(folders["dense"], masks, folders["packed"])
    matrices = tuple(_pruned_matrix(name, mask) for name, mask in main.masks.items())
    pruned = sum(matrix.pruned for matrix in matrices)
    entries = sum(math.prod(matrix.shape) for matrix in matrices)
    outcome = Outcome(
        spec=job.spec,
        hyperparameters=job.spec.resolved_hyperparameters(),
        evaluation=main.measured.evaluation,
        baseline=baseline.evaluation if baseline else None,
        sparsity=pruned / entries if entries else 0.0,
        sparsity_overall=pruned / main.parameters,
        matrices=matrices,
        parameters=main.parameters,
        trainable_parameters=main.trainable_parameters,
        bytes={name: weight_bytes(folder) for name, folder in folders.items()},
        data=prepared.data.summary(),
        versions=_versions(),
    )
    for name, folder in folders.items():
        manifest = {"format": name, "outcome": outcome, "files": list_files(folder)}
        write_manifest(folder, Manifest.model_validate(manifest))
    return Report(
        outcome=outcome,
        cost=main.measured.cost,
        baseline_cost=baseline.cost if baseline else None,
    )


def _pruned_matrix(name: str, mask_OI: Tensor) -> PrunedMatrix:
    rows, columns = mask_OI.shape
    pruned = mask_OI.numel() - int(mask_OI.count_nonzero())
    return PrunedMatrix(name=name, shape=(rows, columns), pruned=pruned)


def _versions() -> dict[str, str]:
    names = ("pst-service", "torch", "transformers", "safetensors")
    return {"python": platform.python_version()} | {name: version(name) for name in names}

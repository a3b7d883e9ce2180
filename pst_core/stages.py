"""One stage of a compression: a fresh model, made sparse or not, trained and scored."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn
from transformers import PreTrainedModel

from pst_core.architectures import survey
from pst_core.batches import Batch, Collator, Examples, training_batches
from pst_core.convert import (
    Converted,
    Pruning,
    convert,
    drawn_tensors,
    materialize,
    trained_factors,
)
from pst_core.dataset_spec import SplitName
from pst_core.errors import InvalidDatasetError
from pst_core.events import Emit, EvaluationEvent, Stage
from pst_core.factors import Factors
from pst_core.insight import variance_shares
from pst_core.lora import add_adapters, merge_adapters
from pst_core.masks import NOfM
from pst_core.memory import forget_peak, peak_memory
from pst_core.prepare import Prepared, Sources
from pst_core.progress import Curve, Outlook
from pst_core.recipes import Hyperparameters
from pst_core.report import (
    Cost,
    CurvePoint,
    Evaluation,
    PrunedMatrix,
    VarianceShares,
)
from pst_core.resume import Snapshooter, StageKeeper
from pst_core.snapshots import Snapshots
from pst_core.spec import LOWER_IS_BETTER, UNPRUNED, CompressionSpec, Method
from pst_core.splicing import rows_of_epoch, with_splices
from pst_core.tasks.base import Scored
from pst_core.trainable import adapter_groups, factor_groups, full_groups
from pst_core.trainer import ParameterGroup, Run, train
from pst_core.wanda import calibrate


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One compression: what to do, with what, and whom to tell."""

    spec: CompressionSpec
    sources: Sources
    emit: Emit
    should_stop: Callable[[], bool] = lambda: False
    """Asked between two steps of training; nothing else stops for it."""
    while_training: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered for as long as ``should_stop`` is asked."""
    snapshots: Snapshots | None = None
    """Where to keep what it takes to go on after an end of any kind; None: nowhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What a stage ended with, beside the model.

    Args:
        masks: By key in the state dict, as stored.
        factors: Of the same tensors, as stored; empty but for the method `pst`.
        matrices: The pruned ones.
        skipped: Why other layers were not pruned.
        score_variance: Of the learned scores' terms.
        evaluation: Of the model as it would be exported.
        test: The primary metric on the test split, to be compared with another's.
        cost: Of the training.
        curve: Loss and sparsity by step.
        parameters: Of the model, before anything was added.
        trainable_parameters: Of those and of what was added.
    """

    masks: Mapping[str, Tensor]
    factors: Mapping[str, Factors]
    matrices: tuple[PrunedMatrix, ...]
    skipped: Mapping[str, str]
    score_variance: VarianceShares | None
    evaluation: Evaluation
    test: Scored
    cost: Cost
    curve: tuple[CurvePoint, ...]
    parameters: int
    trainable_parameters: int


def stage_steps(prepared: Prepared, method: Method) -> int:
    """Optimizer steps of one stage; none for a one-shot method."""
    if method == "wanda":
        return 0
    return optimizer_steps(len(prepared.examples["train"]), prepared.task.hyper, method)


def optimizer_steps(examples: int, hyper: Hyperparameters, method: Method) -> int:
    """Those of a training by a method on so many examples of its own."""
    # The dense yardstick trains on nothing spliced.
    spliced = 0 if method in UNPRUNED else hyper.splices * examples
    return math.ceil(hyper.epochs * math.ceil((examples + spliced) / hyper.batch_size))


def run_stage(
    job: Job,
    prepared: Prepared,
    method: Method,
    outlook: Outlook,
    *,
    teacher: Tensor | None = None,
    snapshooter: Snapshooter | None = None,
) -> tuple[PreTrainedModel, Trained]:
    """Train a fresh model by a method and score it; it comes back plain, with its zeros.

    Args:
        job: The compression.
        prepared: Its data.
        method: The job's, or `dense` for its baseline.
        outlook: For the progress that is reported.
        teacher: The logits to distil from, of all that is `to_be_taught`.
        snapshooter: Has what an earlier run kept of this stage, and keeps this one's.

    Raises:
        PstError: The subclass says what was wrong.
        StopRequestedError: The job said so.
    """
    model = _load(job, prepared)
    # What the stage before held is not this one's cost.
    forget_peak(model.device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sparse = (
        Converted({}) if method in UNPRUNED else sparse_layers(model, job.spec, prepared.task.hyper)
    )
    groups = parameter_groups(
        job.spec,
        model,
        sparse,
        method,
        hyper=prepared.task.hyper,
        new_head=prepared.task.has_new_head,
        total_steps=stage_steps(prepared, method),
    )
    trainable = sum(p.numel() for group in groups for p in group.parameters)
    curve = Curve(job.emit, outlook, sparse.layers)
    if method == "wanda":
        cost = _one_shot(job, prepared, model, sparse)
    else:
        run = _run(job, prepared, model, sparse, groups, curve, teacher)
        if snapshooter is not None:
            keeper = StageKeeper(snapshooter, outlook, curve)
            run = _kept(run, job, prepared, teacher, keeper)
        with job.while_training():
            cost = train(run)
    if method == "lora":
        # It is scored, and exported, as the plain model it was.
        merge_adapters(model)
    variance, points = variance_shares(sparse.layers), tuple(curve.points)
    factors = trained_factors(sparse)
    masks, matrices = materialize(model, sparse)
    skipped = sparse.skipped
    # The frozen weights and all that trained beside them are done with.
    del groups, sparse, curve
    evaluation, test = evaluate_splits(job, prepared, model, outlook.stage)
    return model, Trained(
        masks=masks,
        factors=factors,
        matrices=matrices,
        skipped=skipped,
        score_variance=variance,
        evaluation=evaluation,
        test=test,
        cost=cost,
        curve=points,
        parameters=parameters,
        trainable_parameters=trainable,
    )


def check_convertible(job: Job, prepared: Prepared) -> None:
    """Convert a model and let go of it: what cannot be pruned is better known before it trains.

    Raises:
        UnsupportedModelError: The model, a pattern of names or an N:M does not fit.
    """
    if job.spec.method not in UNPRUNED:
        sparse_layers(_load(job, prepared), job.spec, prepared.task.hyper)


def _load(job: Job, prepared: Prepared) -> PreTrainedModel:
    # The same seed gives every stage and attempt the same head.
    return prepared.task.load_model(
        job.sources.model, prepared.data.labels, prepared.tokenizer, seed=job.spec.seed
    )


def sparse_layers(
    model: PreTrainedModel, spec: CompressionSpec, hyper: Hyperparameters
) -> Converted:
    """Put sparse layers in a model as a spec says; raises UnsupportedModelError."""
    n_of_m = None if spec.pattern == "unstructured" else NOfM(*map(int, spec.pattern.split(":")))
    pruning = Pruning(
        method=spec.method,
        scope=spec.scope,
        pattern=n_of_m,
        include=spec.include,
        exclude=spec.exclude,
    )
    return convert(model, pruning, hyper)


def parameter_groups(
    spec: CompressionSpec,
    model: PreTrainedModel,
    sparse: Converted,
    method: Method,
    *,
    hyper: Hyperparameters,
    new_head: bool,
    total_steps: int,
) -> list[ParameterGroup]:
    """Which parameters train, at which rates; all others are frozen."""
    match method:
        case "wanda":
            model.requires_grad_(requires_grad=False)
            return []
        case "pst":
            return factor_groups(model, sparse, hyper, new_head=new_head, total_steps=total_steps)
        case "lora":
            found = survey(model, include=spec.include, exclude=spec.exclude)
            add_adapters(model, found.prunable, hyper)
            return adapter_groups(model, hyper, new_head=new_head)
    return full_groups(model, sparse, hyper, new_head=new_head, total_steps=total_steps)


def _run(
    job: Job,
    prepared: Prepared,
    model: PreTrainedModel,
    sparse: Converted,
    groups: Sequence[ParameterGroup],
    curve: Curve,
    teacher: Tensor | None,
) -> Run:
    task, hyper = prepared.task, prepared.task.hyper
    if hyper.dropout is not None and sparse.layers:
        set_dropout(model, hyper.dropout)
    return Run(
        model=model,
        task=task,
        sparse=sparse,
        groups=groups,
        batches=_batches(job, prepared, model, teacher),
        total_steps=stage_steps(prepared, job.spec.method if sparse.layers else "dense"),
        target_sparsity=(job.spec.sparsity or 0.0) if sparse.layers else 0.0,
        hyper=hyper,
        teacher_logits=None if teacher is None else teacher.to(model.device),
        validate=_validator(prepared, model, sparse),
        report=curve.report,
        should_stop=job.should_stop,
    )


def to_be_taught(job: Job, prepared: Prepared) -> Examples:
    """What a teacher is asked about: the training split, and what the recipe splices of it."""
    examples, hyper = prepared.examples["train"], prepared.task.hyper
    if not hyper.splices:
        return examples
    seed = job.spec.seed
    return with_splices(examples, times=hyper.splices, sets=hyper.splice_epochs, seed=seed)


def _batches(
    job: Job, prepared: Prepared, model: PreTrainedModel, teacher: Tensor | None, start: int = 0
) -> Iterator[Batch]:
    hyper = prepared.task.hyper
    examples, rows_of = prepared.examples["train"], None
    if teacher is not None and hyper.splices:
        own, examples = len(examples), to_be_taught(job, prepared)
        examples.targets[own:] = prepared.task.answers(teacher[own:]).double().numpy()
        rows_of = partial(rows_of_epoch, own=own, times=hyper.splices, sets=hyper.splice_epochs)
    yield from training_batches(
        examples,
        batch_size=hyper.batch_size,
        seed=job.spec.seed,
        collate=Collator.of(prepared.tokenizer, model.config),
        start=start,
        rows_of=rows_of,
    )


def _kept(
    run: Run, job: Job, prepared: Prepared, teacher: Tensor | None, keeper: StageKeeper
) -> Run:
    """The run, from where an earlier one was kept to where it is kept itself."""
    begin = keeper.begin()
    start = begin.numbers.step if begin else 0
    return replace(
        run,
        batches=_batches(job, prepared, run.model, teacher, start),
        drawn=drawn_tensors(run.model, run.sparse, new_head=prepared.task.has_new_head),
        begin=begin,
        keeper=keeper,
    )


def set_dropout(model: PreTrainedModel, share: float) -> None:
    """Give every dropout of a model the same share, be it a module or a module's number."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        for name, value in vars(module).items():
            if name.endswith("dropout") and type(value) in {int, float}:
                setattr(module, name, share)


def _one_shot(job: Job, prepared: Prepared, model: PreTrainedModel, sparse: Converted) -> Cost:
    task, started = prepared.task, time.monotonic()
    examples, size = prepared.examples["train"], task.hyper.batch_size
    collate = Collator.of(prepared.tokenizer, model.config)
    rows = range(min(len(examples), task.hyper.calibration_rows))
    batches = [collate(examples, rows[start : start + size]) for start in rows[::size]]
    calibrate(model, sparse, batches, job.spec.sparsity or 0.0)
    return Cost(
        steps=0,
        seconds=time.monotonic() - started,
        step_seconds=0.0,
        peak_memory_bytes=peak_memory(model.device),
    )


def _validator(
    prepared: Prepared, model: PreTrainedModel, sparse: Converted
) -> Callable[[], float]:
    if prepared.task.hyper.validations and not prepared.examples["validation"]:
        raise InvalidDatasetError(
            "There are no validation rows to score the model on while it trains.",
            field="hyperparameters.validations",
            remedy="Add a validation split, or ask for no validations.",
        )
    sign = -1 if prepared.task.metrics[0] in LOWER_IS_BETTER else 1

    def score() -> float:
        with sparse.frozen():
            return sign * prepared.sample(model, "validation").value()

    return score


def evaluate_splits(
    job: Job, prepared: Prepared, model: PreTrainedModel, stage: Stage
) -> tuple[Evaluation, Scored]:
    """What a stage's model scores on the validation split, where there is one, and the test's."""
    found: dict[str, Scored] = {}
    splits: tuple[SplitName, ...] = ("validation", "test")
    for split in splits:
        if prepared.examples[split]:
            found[split] = prepared.score(model, split)
            at = found[split].scores
            event = {"stage": stage, "split": split, "metric": at.primary, "value": at.value}
            job.emit(EvaluationEvent.model_validate(event))
    validation = found["validation"].scores if "validation" in found else None
    return Evaluation(validation=validation, test=found["test"].scores), found["test"]

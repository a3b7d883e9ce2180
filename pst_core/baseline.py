"""The dense yardstick of a job: trained for it, or taken from a job that has trained one.

What is kept of it is resume.py's; which job may be whose yardstick is comparable.py's.
"""

from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from pst_core.comparable import disagreements
from pst_core.errors import BaselineMismatchError, BaselineNotFoundError
from pst_core.events import AnsweredEvent
from pst_core.formats.manifest import read_manifest
from pst_core.loading import load
from pst_core.prepare import Prepared
from pst_core.pretrained import to_device
from pst_core.progress import Outlook
from pst_core.resume import Snapshooter, Yardstick
from pst_core.stages import Job, check_convertible, evaluate_splits, run_stage, to_be_taught


def train_baseline(
    job: Job, prepared: Prepared, outlook: Outlook, snapshooter: Snapshooter | None
) -> Yardstick:
    """Train all weights on the job's own data, with its seed, epochs and schedule."""
    # Before it has trained for an hour.
    check_convertible(job, prepared)
    model, trained = run_stage(job, prepared, "dense", outlook, snapshooter=snapshooter)
    return Yardstick(
        evaluation=trained.evaluation,
        test=trained.test.sample.measured(),
        cost=trained.cost,
        teacher=_teacher(job, prepared, model),
    )


def measure_baseline(job: Job, prepared: Prepared) -> Yardstick:
    """Score the model that another job has trained; nothing is trained here.

    Raises:
        BaselineNotFoundError: No checkpoint of it was given.
        BaselineMismatchError: It is of another model, other data or another seed.
    """
    folder = job.sources.baseline
    if folder is None:
        raise BaselineNotFoundError(
            f"There is no checkpoint of {job.spec.baseline} here.",
            field="baseline",
            remedy="Jobs are the service's: post the spec there, or ask for baseline: train.",
        )
    _check(job, prepared, folder)
    # As a trained one is scored, whatever it was stored in.
    model = to_device(load(folder)[0].float())
    evaluation, test = evaluate_splits(job, prepared, model, "baseline")
    return Yardstick(
        evaluation=evaluation,
        test=test.sample.measured(),
        cost=None,
        teacher=_teacher(job, prepared, model),
    )


def _check(job: Job, prepared: Prepared, folder: Path) -> None:
    outcome = read_manifest(folder).outcome
    others = list(disagreements(job.spec, outcome.spec))
    # What was at the same place then may be something else now.
    if outcome.data != prepared.data.summary():
        others.append("dataset's rows")
    if others:
        raise BaselineMismatchError(
            f"{job.spec.baseline} is no yardstick for this job: it has another "
            f"{' and another '.join(others)}.",
            field="baseline",
            remedy="Name a dense job with the same of each, or ask for baseline: train.",
        )


def _teacher(job: Job, prepared: Prepared, model: PreTrainedModel) -> Tensor | None:
    if not prepared.task.hyper.distillation:
        return None
    examples = to_be_taught(job, prepared)
    percent = 0

    def answered(rows: int) -> None:
        nonlocal percent
        if 100 * rows // len(examples) > percent:
            percent = 100 * rows // len(examples)
            job.emit(AnsweredEvent(rows=rows, total_rows=len(examples)))

    return prepared.task.teacher_logits(model, examples, prepared.tokenizer, answered)

"""A compression from spec to checkpoint folders: prepare, train, export. Verifying is verify.py's.

Servers, queues and databases are not known here.
"""

import math
import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from transformers import PreTrainedModel

from pst_core.baseline import measure_baseline, train_baseline
from pst_core.benefit import Folders, measure_benefit
from pst_core.benefit_report import Benefit
from pst_core.bootstrap import paired_difference
from pst_core.events import PhaseEvent, ResultEvent
from pst_core.export import Export, check_formats, export
from pst_core.formats.folder import weight_bytes
from pst_core.formats.manifest import Manifest, list_files, write_manifest
from pst_core.formats.streams import ZSTD_VERSION
from pst_core.gate import judge
from pst_core.page.card import write_card
from pst_core.prepare import Prepared, prepare
from pst_core.progress import Outlook
from pst_core.report import Gate, Outcome, Report
from pst_core.resume import Snapshooter, Yardstick
from pst_core.spec import CompressionSpec
from pst_core.stages import Job, Trained, run_stage, stage_steps
from pst_core.surroundings import device_class, identity


def compress(job: Job, out_dir: Path) -> Report:
    """Fine-tune, prune and export.

    Args:
        job: The spec with its resolved sources.
        out_dir: Gets one folder a format, ``dense`` and (unless nothing is pruned) ``packed``
            whether or not the spec publishes them.

    Returns:
        The report, which was also emitted.

    Raises:
        PstError: The subclass says what was wrong with spec, data, model or training.
        StopRequestedError: ``should_stop`` said so.
    """
    job.emit(PhaseEvent(phase="preparing"))
    check_formats(job.spec)
    prepared = prepare(job.spec, job.sources)
    job.emit(prepared.data.event())
    job.emit(PhaseEvent(phase="training"))
    model, main, baseline = _train(job, prepared)
    job.emit(PhaseEvent(phase="exporting"))
    exported = export(job, prepared, model, main, out_dir)
    outcome = _outcome(job, prepared, main, baseline, exported)
    for name, folder in exported.folders.items():
        write_card(folder, outcome, name)
        manifest = {"format": name, "outcome": outcome, "files": list_files(folder)}
        write_manifest(folder, Manifest.model_validate(manifest))
    report = Report(
        outcome=outcome,
        cost=main.cost,
        baseline_cost=baseline.cost if baseline else None,
        curve=main.curve,
        device=device_class(model.device),
        benefit=_benefit(prepared, exported, main) if job.spec.measure_benefit else None,
    )
    job.emit(ResultEvent(report=report))
    return report


def _train(job: Job, prepared: Prepared) -> tuple[PreTrainedModel, Trained, Yardstick | None]:
    snapshooter = _snapshooter(job, prepared)
    steps = stage_steps(prepared, job.spec.method)
    known = snapshooter.yardstick if snapshooter else None
    before, yardstick = 0, None
    if job.spec.baseline == "train":
        before = stage_steps(prepared, "dense")
        outlook = Outlook(stage="baseline", steps_before=0, steps_in_all=before + steps)
        yardstick = known or train_baseline(job, prepared, outlook, snapshooter)
    elif job.spec.baseline_job is not None:
        yardstick = known or measure_baseline(job, prepared)
    if snapshooter is not None:
        snapshooter.yardstick = yardstick
    model, main = run_stage(
        job,
        prepared,
        job.spec.method,
        Outlook(stage="main", steps_before=before, steps_in_all=before + steps),
        teacher=yardstick.teacher if yardstick else None,
        snapshooter=snapshooter,
    )
    # Nothing is to be learned of it any more.
    return model, main, yardstick and replace(yardstick, teacher=None)


def _snapshooter(job: Job, prepared: Prepared) -> Snapshooter | None:
    if job.snapshots is None:
        return None
    run = identity(job.spec, prepared.data.summary().sha256, job.sources.model)
    return Snapshooter(job.snapshots, job.emit, run)


def _outcome(
    job: Job,
    prepared: Prepared,
    main: Trained,
    baseline: Yardstick | None,
    exported: Export,
) -> Outcome:
    pruned = sum(matrix.pruned for matrix in main.matrices)
    entries = sum(math.prod(matrix.shape) for matrix in main.matrices)
    difference = baseline and paired_difference(main.test.sample, baseline.test)
    return Outcome(
        spec=job.spec,
        hyperparameters=prepared.task.hyper,
        evaluation=main.evaluation,
        baseline=baseline.evaluation if baseline else None,
        difference=difference,
        gate=_gate(job.spec, main, baseline),
        sparsity=pruned / entries if entries else 0.0,
        sparsity_overall=pruned / main.parameters,
        matrices=main.matrices,
        skipped=dict(main.skipped),
        score_variance=main.score_variance,
        parameters=main.parameters,
        trainable_parameters=main.trainable_parameters,
        bytes={name: weight_bytes(folder) for name, folder in exported.folders.items()},
        refused=dict(exported.refused),
        data=prepared.data.summary(),
        versions=_versions(),
    )


def _gate(spec: CompressionSpec, main: Trained, baseline: Yardstick | None) -> Gate | None:
    if spec.max_drop is None or baseline is None:
        return None
    return judge(
        spec.metric,
        limit=spec.max_drop,
        value=main.evaluation.test.value,
        baseline=baseline.evaluation.test.value,
    )


def _benefit(prepared: Prepared, exported: Export, main: Trained) -> Benefit:
    folders = Folders(
        dense=exported.folders["dense"],
        packed=exported.folders.get("packed"),
        compact=exported.folders.get("compact"),
        onnx=exported.folders.get("onnx"),
    )
    return measure_benefit(folders, main.masks.keys(), prepared.examples["test"])


def _versions() -> dict[str, str]:
    names = ("pst-service", "torch", "transformers", "safetensors")
    # zstd writes the packed files, and another release of it may write others.
    others = {"python": platform.python_version(), "zstd": ZSTD_VERSION}
    return others | {name: version(name) for name in names}

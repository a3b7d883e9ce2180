"""A compression as a terminal shows it: a progress bar, then a table."""

from pathlib import Path

import transformers
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import pst_core.compress
from pst_core import adapters, evaluation
from pst_core.evaluation import recorded_spec
from pst_core.events import Event, PhaseEvent, ProgressEvent, ResumedEvent, SnapshotRejectedEvent
from pst_core.formats.adapter import is_adapter
from pst_core.prepare import Sources
from pst_core.references import locate_dataset, locate_model
from pst_core.report import Estimate, Evaluation, Gate, Report, Scores
from pst_core.snapshots import Snapshots
from pst_core.spec import CompressionSpec
from pst_core.stages import Job
from pst_core.verify import verify_checkpoint, verify_export

# Whoever calls this may read what they like: relative paths from here, absolute ones from the root.
ROOTS = (Path(), Path("/"))


def compress(spec: CompressionSpec, out: Path, snapshots: Snapshots | None) -> Report:
    """Run a compression with a progress bar, from its newest whole snapshot if there is one."""
    sources = _quiet_sources(spec)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}{task.fields[details]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("preparing", total=1, details="")

        def emit(event: Event) -> None:
            if isinstance(event, PhaseEvent):
                bar.update(task, description=event.phase)
            elif isinstance(event, ProgressEvent):
                details = f"  {event.stage}  loss {event.loss:.3f}  sparsity {event.sparsity:.1%}"
                bar.update(task, completed=event.step, total=event.total_steps, details=details)
            elif isinstance(event, ResumedEvent | SnapshotRejectedEvent):
                bar.console.print(_resumption(event))

        job = Job(spec=spec, sources=sources, emit=emit, snapshots=snapshots)
        return pst_core.compress.compress(job, out)


def _resumption(event: ResumedEvent | SnapshotRejectedEvent) -> str:
    if isinstance(event, SnapshotRejectedEvent):
        return f"{event.name} is not used: {event.reason}"
    differs = f"; the last bits may differ: {', '.join(event.differs)}" if event.differs else ""
    return f"going on from {event.name}, stage {event.stage}{differs}"


def attest(spec: CompressionSpec, out: Path) -> None:
    """Verify what a compression wrote, in this fresh process, and note it there."""
    verify_export(out, spec, _quiet_sources(spec))
    Console(stderr=True).print("verified: files, masks, zeros, packed ≡ dense, score")


def verify(folder: Path, dataset: str | None, base: str | None) -> None:
    """Verify a finished checkpoint on the test split it was made with."""
    _be_quiet()
    spec = recorded_spec(folder)
    model = folder
    if is_adapter(folder):
        model = locate_model(base or spec.model, roots=ROOTS)
    data = locate_dataset(dataset or spec.dataset.ref, roots=ROOTS)
    found = verify_checkpoint(folder, Sources(model=model, dataset=data))
    zeros = "" if found.zeros is None else f"{found.zeros:,} zeros in pruned matrices, "
    Console().print(
        f"verified: files, {len(found.tensors)} tensors, {zeros}{found.test.primary} "
        f"{_estimate(found.test.estimate)} on {found.test.rows} rows"
    )


def evaluate(folder: Path, spec: CompressionSpec | None) -> Scores:
    """Score a checkpoint on the test split of a spec, or of the one it was made by."""
    _be_quiet()
    spec = spec or recorded_spec(folder)
    return evaluation.evaluate(folder, spec, locate_dataset(spec.dataset.ref, roots=ROOTS))


def rebuild(adapter: Path, base: str, out: Path) -> None:
    """Write the dense folder of an adapter, whose base model is a path or a reference."""
    _be_quiet()
    path = Path(base) if Path(base).exists() else locate_model(base, roots=ROOTS)
    adapters.rebuild(adapter, path, out)
    Console(stderr=True).print(f"rebuilt: every tensor is the one that was exported, in {out}")


def show_scores(scores: Scores) -> None:
    """Print each metric with its interval."""
    table = Table(show_header=False, title=f"{scores.rows} rows of the test split")
    for name, estimate in scores.metrics.items():
        table.add_row(name, _estimate(estimate))
    Console().print(table)


def show(report: Report, page: Path) -> None:
    """Print the outcome as a table, and where the whole report is."""
    outcome = report.outcome
    table = Table(show_header=False, title=f"{outcome.spec.model} by {outcome.spec.method}")
    table.add_row(f"{outcome.spec.metric}, dense baseline", _score(outcome.baseline))
    table.add_row(f"{outcome.spec.metric}, this model", _score(outcome.evaluation))
    if outcome.difference is not None:
        table.add_row("difference", _estimate(outcome.difference))
    if outcome.gate is not None:
        table.add_row("gate", _gate(outcome.gate))
    if outcome.spec.sparsity is not None:
        table.add_row("sparsity, asked", f"{outcome.spec.sparsity:.2%}")
        table.add_row("sparsity, counted", f"{outcome.sparsity:.4%}")
    for name, size in outcome.bytes.items():
        table.add_row(f"bytes, {name}", f"{size:,}")
    share = outcome.trainable_parameters / outcome.parameters
    table.add_row("trainable parameters", f"{share:.2%}")
    table.add_row("report", Text(str(page), overflow="fold"))
    Console().print(table)


def _score(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "not measured"
    return f"{_estimate(evaluation.test.estimate)}, n = {evaluation.test.rows}"


def _gate(gate: Gate) -> str:
    kept = "passed" if gate.passed else "missed"
    return f"{kept}: a drop of {gate.drop:.4g}, at most {gate.limit:.4g} allowed"


def _estimate(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g}  (95 %: {estimate.low:.4g} to {estimate.high:.4g})"


def _quiet_sources(spec: CompressionSpec) -> Sources:
    _be_quiet()
    return Sources(
        model=locate_model(spec.model, roots=ROOTS),
        dataset=locate_dataset(spec.dataset.ref, roots=ROOTS),
    )


def _be_quiet() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

"""A compression as a terminal shows it: a progress bar, then a table."""

from pathlib import Path

import transformers
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import pst_core.compress
from pst_core.compress import Job, Sources
from pst_core.events import Event, PhaseEvent, ProgressEvent
from pst_core.references import locate_dataset, locate_model
from pst_core.report import Evaluation, Report
from pst_core.spec import CompressionSpec
from pst_core.verify import verify_export

# Whoever calls this may read what they like: relative paths from here, absolute ones from the root.
ROOTS = (Path(), Path("/"))


def compress(spec: CompressionSpec, out: Path) -> Report:
    """Run a compression with a progress bar."""
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

        return pst_core.compress.compress(Job(spec=spec, sources=sources, emit=emit), out)


def verify(spec: CompressionSpec, out: Path) -> None:
    verify_export(out, spec, _quiet_sources(spec))
    Console(stderr=True).print("verified: files, masks, zeros, packed ≡ dense, accuracy")


def show(report: Report) -> None:
    """Print the outcome as a table."""
    outcome = report.outcome
    table = Table(show_header=False, title=f"{outcome.spec.model} by {outcome.spec.method}")
    table.add_row("accuracy, dense baseline", _accuracy(outcome.baseline))
    table.add_row("accuracy, this model", _accuracy(outcome.evaluation))
    if outcome.spec.sparsity is not None:
        table.add_row("sparsity, asked", f"{outcome.spec.sparsity:.2%}")
        table.add_row("sparsity, counted", f"{outcome.sparsity:.4%}")
    for name, size in outcome.bytes.items():
        table.add_row(f"bytes, {name}", f"{size:,}")
    share = outcome.trainable_parameters / outcome.parameters
    table.add_row("trainable parameters", f"{share:.2%}")
    Console().print(table)


def _accuracy(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "not measured"
    test = evaluation.test
    return f"{test.value:.1%}  (95 %: {test.low:.1%} to {test.high:.1%}, n = {test.total})"


def _quiet_sources(spec: CompressionSpec) -> Sources:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return Sources(
        model=locate_model(spec.model, roots=ROOTS),
        dataset=locate_dataset(spec.dataset.ref, roots=ROOTS),
    )

"""Jobs and downloads while they last: a picture where a terminal shows one, else lines."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from app.client import Client
from app.commands.output import (
    duration,
    is_live,
    percent,
    printable,
    say,
    sparkline,
)
from app.jobs.schemas import JobDetail
from app.metrics.schemas import JobMetricOut

if TYPE_CHECKING:
    from rich.console import Group

POINTS = 200
BAR = 40
Told = Callable[[int, int], None]


class _Display(Protocol):
    def show(self, job: JobDetail) -> None: ...


def goes_on(job_id: str) -> str:
    """What to know of a job that is no longer waited for."""
    return (
        f"{job_id} goes on without this terminal; `pst jobs watch {job_id}` shows it again, "
        f"`pst jobs cancel {job_id}` ends it"
    )


def watch(client: Client, job_id: str) -> JobDetail:
    """Show a job until it has ended."""
    with _live(client) if is_live() else nullcontext(_Lines()) as display:
        for job in client.jobs.changes(job_id):
            display.show(job)
    return job


class _Lines:
    """One for each phase, and for each tenth of the training."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()

    def show(self, job: JobDetail) -> None:
        done = job.progress.fraction if job.progress else 0.0
        now = (job.status, job.phase, job.attempt, int(done * 10))
        if now != self._last:
            self._last = now
            say(f"{job.id}  {standing(job)}")


@contextmanager
def _live(client: Client) -> Iterator[_Display]:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False) as live:

        class Picture:
            def show(self, job: JobDetail) -> None:
                series = list(client.jobs.metrics(job.id, points=POINTS)) if job.progress else []
                live.update(_picture(job, series), refresh=True)

        yield Picture()


def _picture(job: JobDetail, series: list[JobMetricOut]) -> "Group":
    from rich.console import Group
    from rich.text import Text

    lines = [Text(f"{job.id}  {standing(job)}", style="bold")]
    if job.progress:
        filled = round(BAR * job.progress.fraction)
        lines.append(Text.assemble(("━" * filled, "green"), ("─" * (BAR - filled), "dim")))
    main = [point for point in series if point.stage == series[-1].stage]
    for name, values in (
        ("loss", [point.loss for point in main]),
        ("sparsity", [point.sparsity for point in main]),
    ):
        if values:
            lines.append(Text(f"{name:<9}{sparkline(values, BAR)}  {values[-1]:.4g}"))
    return Group(*lines)


def standing(job: JobDetail) -> str:
    """A job in a line."""
    parts = [job.status, job.phase or ""]
    if job.requeue:
        why = job.requeue.message or job.requeue.reason
        parts.append(f"again from {job.requeue.next_try_at:%H:%M:%S} UTC: {why}")
    if job.queue_position:
        parts.append(f"number {job.queue_position} in the queue")
    if job.progress and job.phase:
        progress = job.progress
        parts += [
            percent(progress.fraction),
            f"step {progress.step}/{progress.total_steps}",
            f"loss {progress.loss:.4g}",
            f"sparsity {percent(progress.sparsity)}",
            f"{duration(progress.eta_seconds)} left"
            if progress.step < progress.total_steps
            else "",
        ]
    if job.cancel_requested or job.pause_requested:
        parts.append("to be cancelled" if job.cancel_requested else "to be paused")
    return printable("  ".join(part for part in parts if part))


@contextmanager
def transfer(what: str) -> Iterator[Told]:
    """A bar of bytes, where a terminal shows one; is told how many of how many."""
    if not is_live():
        yield lambda _done, _of: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn(what), *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)

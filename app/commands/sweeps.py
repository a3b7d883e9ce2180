"""``pst sweeps``: several jobs as one: make, follow, compare, pick."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from app.client import Client
from app.client.sweeps import Action
from app.commands.asked import (
    DatasetOption,
    FormatsOption,
    MetadataOption,
    ModelOption,
    PresetOption,
    SetOption,
    SpecOption,
    pairs,
    read_spec,
)
from app.commands.exits import of_sweep
from app.commands.front import show_front
from app.commands.output import emit, moment, percent, say, size, table
from app.commands.session import JsonOption, service
from app.sweeps.schemas import SweepDetail, SweepJob, SweepSummary

sweeps = typer.Typer(no_args_is_help=True, help="Several compressions as one.")

SweepArgument = Annotated[str, typer.Argument(help="The sweep's id, swp_…", show_default=False)]
SizeOption = Annotated[str, typer.Option("--size-of", help="Of which format the bytes count.")]


@sweeps.command()
def create(
    context: typer.Context,
    model: ModelOption = None,
    dataset: DatasetOption = None,
    sparsity: Annotated[list[float] | None, typer.Option(help="Several times.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Several times.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Several times.")] = None,
    preset: PresetOption = None,
    formats: FormatsOption = None,
    spec: SpecOption = None,
    changes: SetOption = None,
    baseline: Annotated[
        Literal["none", "train"], typer.Option(help="train: a dense yardstick for all.")
    ] = "none",
    max_parallel: Annotated[int | None, typer.Option(min=1, help="At once.")] = None,
    metadata: MetadataOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until all jobs have ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Post a sweep; its id alone is printed, or the sweep once it was waited for."""
    options = {"model": model, "dataset": dataset, "preset": preset, "formats": formats}
    body = {
        "spec": read_spec(spec, options, changes or ()),
        "sparsities": sparsity or [],
        "methods": method or [],
        "seeds": seed or [],
        "baseline": baseline,
        "max_parallel": max_parallel,
        "metadata": pairs(metadata or (), "--metadata"),
    }
    with service(context) as client:
        sweep = client.sweeps.create(body)
    if wait:
        _follow(context, sweep.id, as_json=as_json)
    elif as_json:
        emit(sweep)
    else:
        typer.echo(sweep.id)


@sweeps.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many at the most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List sweeps, the newest first."""
    with service(context) as client:
        found = client.sweeps.list(most=limit)
        if as_json:
            for sweep in found:
                emit(sweep)
        else:
            table(("ID", "STATUS", "DONE", "JOBS", "CREATED"), map(_line, found))


@sweeps.command()
def show(
    context: typer.Context,
    sweep_id: SweepArgument,
    size_of: SizeOption = "packed",
    as_json: JsonOption = False,
) -> None:
    """Show a sweep's jobs and its front."""
    with service(context) as client:
        _show(client, client.sweeps.get(sweep_id), size_of, as_json=as_json)


@sweeps.command()
def watch(context: typer.Context, sweep_id: SweepArgument, as_json: JsonOption = False) -> None:
    """Follow a sweep until all its jobs have ended; the exit status tells how."""
    _follow(context, sweep_id, as_json=as_json)


@sweeps.command()
def pick(
    context: typer.Context,
    sweep_id: SweepArgument,
    min_metric: Annotated[float | None, typer.Option(help="The worst value allowed.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Of the weights.")] = None,
    max_drop: Annotated[float | None, typer.Option(min=0, help="Below the baseline.")] = None,
    size_of: SizeOption = "packed",
    prefer: Annotated[
        Literal["smallest", "best"] | None, typer.Option(help="Of those that fit.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="This one, whatever it is.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell which.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Choose the job that the sweep's name leads to; its id is printed."""
    asked: dict[str, Any] = {
        "min_metric": min_metric,
        "max_bytes": max_bytes,
        "max_drop": max_drop,
        "size_of": size_of,
        "prefer": prefer,
    }
    with service(context) as client:
        if dry_run:
            found = client.sweeps.find(sweep_id, asked)
            shown, job_id = found.model_dump_json(), found.job.id
        else:
            sweep = client.sweeps.pick(sweep_id, asked | {"job_id": job})
            shown, job_id = sweep.model_dump_json(), sweep.pick.job_id if sweep.pick else ""
    typer.echo(shown if as_json else job_id)


@sweeps.command()
def cancel(context: typer.Context, sweep_id: SweepArgument, as_json: JsonOption = False) -> None:
    """Stop all its jobs that have not ended."""
    _act(context, sweep_id, "cancel", as_json=as_json)


@sweeps.command()
def pause(context: typer.Context, sweep_id: SweepArgument, as_json: JsonOption = False) -> None:
    """Pause all its jobs that have not ended."""
    _act(context, sweep_id, "pause", as_json=as_json)


@sweeps.command()
def resume(context: typer.Context, sweep_id: SweepArgument, as_json: JsonOption = False) -> None:
    """Queue its paused jobs again."""
    _act(context, sweep_id, "resume", as_json=as_json)


@sweeps.command()
def delete(context: typer.Context, sweep_id: SweepArgument) -> None:
    """Delete a sweep and its jobs with all that they stored."""
    with service(context) as client:
        client.sweeps.delete(sweep_id)


def _act(context: typer.Context, sweep_id: str, action: Action, *, as_json: bool) -> None:
    with service(context) as client:
        sweep = client.sweeps.act(sweep_id, action)
    if as_json:
        emit(sweep)
    else:
        typer.echo(f"{sweep.id}  {_counts(sweep)}")


def _follow(context: typer.Context, sweep_id: str, *, as_json: bool) -> None:
    goes_on = f"{sweep_id} goes on without this terminal; `pst sweeps watch {sweep_id}` shows it"
    with service(context, goes_on=goes_on) as client:
        last = ""
        for sweep in client.sweeps.changes(sweep_id):
            line = f"{sweep.id}  {_counts(sweep)}  {percent(round(sweep.fraction, 1))}"
            if line != last:
                say(last := line)
        _show(client, sweep, "packed", as_json=as_json)
    if code := of_sweep(sweep.status):
        raise typer.Exit(code)


def _show(client: Client, sweep: SweepDetail, size_of: str, *, as_json: bool) -> None:
    if as_json:
        emit(sweep)
        return
    typer.echo(f"{sweep.id}  {_counts(sweep)}")
    head = ("JOB", "STATUS", "DONE", "METHOD", "SPARSITY", "SEED", sweep.metric.upper(), "BYTES")
    table(head, [_row(job) for job in sweep.jobs])
    typer.echo("")
    show_front(client.sweeps.front(sweep.id, size_of))
    if sweep.pick:
        typer.echo(f"picked: {sweep.pick.job_id}")


def _counts(sweep: SweepSummary) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in sweep.counts.items() if count)
    return f"{sweep.status}: {counts}"


def _row(job: SweepJob) -> Sequence[str]:
    metric = f"{job.metric.value:.4g}" if job.metric else ""
    sizes = ", ".join(f"{name} {size(count)}" for name, count in (job.bytes or {}).items())
    gate = " (gate missed)" if job.gate and not job.gate.passed else ""
    sparsity, done = percent(job.sparsity), percent(job.fraction)
    return (
        *(job.id, job.status, done, job.method, sparsity, str(job.seed)),
        *(metric + gate, sizes),
    )


def _line(sweep: SweepSummary) -> Sequence[str]:
    jobs = str(sum(sweep.counts.values()))
    return sweep.id, sweep.status, percent(sweep.fraction), jobs, moment(sweep.created_at)

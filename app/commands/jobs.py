"""``pst jobs``: post, list, look, follow and act. What a job leaves is fetched in results.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from app.client import Client
from app.client.jobs import Action
from app.commands.asked import (
    DatasetOption,
    FormatsOption,
    MetadataOption,
    MethodOption,
    ModelOption,
    PresetOption,
    SetOption,
    SparsityOption,
    SpecOption,
    pairs,
    read_spec,
)
from app.commands.exits import of_job
from app.commands.output import emit, moment, percent, say, table
from app.commands.progress import goes_on, standing, watch
from app.commands.results import download_into, folder_for, show_job
from app.commands.session import JobArgument, JsonOption, service
from app.jobs.schemas import JobDetail, JobSummary
from app.jobs.states import Status

jobs = typer.Typer(no_args_is_help=True, help="Compressions: post, follow, download.")

WaitOption = Annotated[
    bool, typer.Option("--wait", help="Until it has ended; the exit status tells how.")
]
DownloadOption = Annotated[
    Path | None,
    typer.Option("--download", help="Wait, and unpack the checkpoint into this folder."),
]


@jobs.command()
def create(
    context: typer.Context,
    model: ModelOption = None,
    dataset: DatasetOption = None,
    sparsity: SparsityOption = None,
    method: MethodOption = None,
    preset: PresetOption = None,
    formats: FormatsOption = None,
    spec: SpecOption = None,
    changes: SetOption = None,
    metadata: MetadataOption = None,
    wait: WaitOption = False,
    download: DownloadOption = None,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Check it, and store nothing.")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Sent again under it within a day, it is the same job.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Post a job; its id alone is printed, or the job once it was waited for."""
    options = {
        "model": model,
        "dataset": dataset,
        "sparsity": sparsity,
        "method": method,
        "preset": preset,
        "formats": formats,
    }
    body = read_spec(spec, options, changes or (), metadata or ())
    with service(context) as client:
        if validate_only:
            resolved = client.jobs.validate(body)
            typer.echo(resolved.model_dump_json(indent=None if as_json else 2))
            return
        folder = folder_for(download)
        job = client.jobs.create(body, idempotency_key=idempotency_key)
    if wait or folder:
        _follow(context, job.id, folder, as_json=as_json)
    elif as_json:
        emit(job)
    else:
        typer.echo(job.id)


@jobs.command("list")
def list_(
    context: typer.Context,
    status: Annotated[list[Status] | None, typer.Option(help="May be given several times.")] = None,
    model: Annotated[str | None, typer.Option(help="As it was posted.")] = None,
    method: Annotated[str | None, typer.Option(help="Of the compression.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Of this sweep alone.")] = None,
    metadata: MetadataOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at the most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    given = {"status": status, "model": model, "method": method, "sweep": sweep}
    filters = {name: value for name, value in given.items() if value}
    own = pairs(metadata or (), "--metadata")
    filters |= {f"metadata.{name}": value for name, value in own.items()}
    with service(context) as client:
        found = client.jobs.list(filters, most=limit)
        if as_json:
            for job in found:
                emit(job)
        else:
            head = ("ID", "STATUS", "DONE", "METHOD", "SPARSITY", "CREATED", "MODEL")
            table(head, map(_row, found))


@jobs.command()
def get(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show one job: where it stands, or what came of it."""
    with service(context) as client:
        _show(client.jobs.get(job_id), as_json=as_json)


@jobs.command("watch")
def watch_command(
    context: typer.Context,
    job_id: JobArgument,
    download: DownloadOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a job until it has ended; the exit status tells how."""
    _follow(context, job_id, folder_for(download), as_json=as_json)


@jobs.command()
def cancel(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Stop a job for good."""
    _act(context, job_id, "cancel", as_json=as_json)


@jobs.command()
def pause(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Save a job's state and give its device to another."""
    _act(context, job_id, "pause", as_json=as_json)


@jobs.command()
def resume(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Queue a paused job again; it goes on where it was."""
    _act(context, job_id, "resume", as_json=as_json)


@jobs.command()
def retry(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Run a failed or cancelled job again."""
    _act(context, job_id, "retry", as_json=as_json)


@jobs.command()
def delete(context: typer.Context, job_ids: Annotated[list[str], typer.Argument()]) -> None:
    """Delete jobs with all that they stored."""
    with service(context) as client:
        for job_id in job_ids:
            client.jobs.delete(job_id)


def _act(context: typer.Context, job_id: str, action: Action, *, as_json: bool) -> None:
    with service(context) as client:
        job = client.jobs.act(job_id, action)
        if as_json:
            emit(job)
        else:
            typer.echo(f"{job.id}  {standing(job)}")


def _follow(context: typer.Context, job_id: str, folder: Path | None, *, as_json: bool) -> None:
    with service(context, goes_on=goes_on(job_id)) as client:
        job = watch(client, job_id)
        _show(job, as_json=as_json)
        if folder and job.status == Status.SUCCEEDED:
            _download_all(client, job, folder)
    if code := of_job(job):
        raise typer.Exit(code)


def _download_all(client: Client, job: JobDetail, folder: Path) -> None:
    # A format that could not be made is told by the report, and is no reason to give up the others.
    for artifact in client.jobs.artifacts(job.id):
        place = download_into(client, job.id, folder, artifact.format, unpack=True).path
        say(f"{artifact.format} is in {place}")


def _show(job: JobDetail, *, as_json: bool) -> None:
    if as_json:
        emit(job)
    else:
        show_job(job)


def _row(job: JobSummary) -> Sequence[str]:
    done = percent(job.progress.fraction) if job.progress else ""
    spec = job.spec
    sparsity = percent(spec.sparsity)
    return (job.id, job.status, done, spec.method, sparsity, moment(job.created_at), spec.model)

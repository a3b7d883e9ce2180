"""``pst jobs``: what a job tells and leaves: its log, events, report and checkpoints."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from app.client import Client, Downloaded
from app.commands.output import duration, emit, facts, moment, percent, printable, size
from app.commands.progress import goes_on, standing, transfer
from app.commands.session import JobArgument, JsonOption, ending, service
from app.jobs.schemas import JobDetail
from pst_core.report import Estimate, Evaluation, Gate, Outcome, Report


def logs(
    context: typer.Context,
    job_id: JobArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="The last lines alone.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what the job's trainers have printed."""
    with service(context, goes_on=goes_on(job_id) if follow else "") as client:
        if follow:
            chunks = client.jobs.follow_log(job_id, tail=tail)
        else:
            chunks = iter([client.jobs.log(job_id, tail=tail).encode()])
        for line in _lines(chunks):
            typer.echo(_as_json(line) if as_json else printable(line) if _is_seen() else line)


def events(
    context: typer.Context,
    job_id: JobArgument,
    after: Annotated[int, typer.Option(min=0, help="The number of the last one you have.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Print what happens to a job, from its first event until it has ended."""
    with service(context, goes_on=goes_on(job_id)) as client:
        for event in client.jobs.events(job_id, after=after):
            if as_json:
                emit(event)
            else:
                line = f"{event.seq}  {moment(event.created_at)}  {event.type}  {_told(event.data)}"
                typer.echo(printable(line))


def _told(data: Mapping[str, object]) -> str:
    """What an event says, for people."""
    pairs = (
        f"{name}: {_told(value) if isinstance(value, dict) else value}"
        for name, value in data.items()
        if value is not None
    )
    return ", ".join(pairs)


def report(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show what came out: scores, sparsity, sizes, cost."""
    with service(context) as client:
        found = client.jobs.report(job_id)
    if as_json:
        emit(found)
    else:
        facts([*_outcome(found.outcome), *_cost(found)])


def download(
    context: typer.Context,
    job_id: JobArgument,
    target: Annotated[Path, typer.Option("--to", help="A folder, or the file to write.")] = Path(),
    format_name: Annotated[
        str | None, typer.Option("--format", help="Default: the first that was asked for.")
    ] = None,
    unpack: Annotated[
        bool, typer.Option("--unpack", help="Leave the folder in place of the archive.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a checkpoint; goes on where it broke off, and keeps nothing but what was published."""
    with service(context) as client:
        found = download_into(client, job_id, target, format_name, unpack=unpack)
    if as_json:
        shown = {"path": str(found.path), "format": found.format}
        typer.echo(json.dumps(shown | {"size": found.size, "sha256": found.sha256}))
    else:
        typer.echo(found.path)


def download_into(
    client: Client, job_id: str, target: Path, format_name: str | None, *, unpack: bool
) -> Downloaded:
    with transfer(format_name or "checkpoint") as told:
        return client.jobs.download(
            job_id, target, format_name=format_name, unpack=unpack, told=told
        )


def folder_for(folder: Path | None) -> Path | None:
    """A folder for downloads, made before hours are spent on what goes into it."""
    with ending():
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    return folder


def show_job(job: JobDetail) -> None:
    """A job for people."""
    spec, error = job.spec, job.error
    facts(
        [
            ("id", job.id),
            ("status", standing(job)),
            ("model", spec.model),
            ("dataset", spec.dataset.ref),
            ("method", f"{spec.method}, {spec.pattern}"),
            ("sparsity asked", percent(spec.sparsity)),
            ("created", moment(job.created_at)),
            ("finished", moment(job.finished_at)),
            ("attempt", str(job.attempt) if job.attempt > 1 else None),
            ("metadata", " ".join(f"{name}={value}" for name, value in job.metadata.items())),
            ("error", f"{error.code}: {error.message}" if error else None),
            ("field", error.field if error else None),
            ("remedy", error.remedy if error else None),
        ]
    )
    if job.result:
        facts(_outcome(job.result.outcome))


def _outcome(outcome: Outcome) -> Iterator[tuple[str, str | None]]:
    metric = outcome.spec.metric
    yield metric, _score(outcome.evaluation)
    yield f"{metric}, dense", _score(outcome.baseline) if outcome.baseline else "not measured"
    yield "difference", _estimate(outcome.difference) if outcome.difference else None
    yield "gate", _gate(outcome.gate) if outcome.gate else None
    yield "sparsity", f"{percent(outcome.sparsity)} of {len(outcome.matrices)} matrices"
    share = outcome.trainable_parameters / max(outcome.parameters, 1)
    yield "trainable", f"{percent(share)} of {outcome.parameters:,} parameters"
    for name, count in outcome.bytes.items():
        yield f"bytes, {name}", f"{size(count)}"
    for name, reason in outcome.refused.items():
        yield f"no {name}", reason


def _cost(found: Report) -> Iterator[tuple[str, str | None]]:
    yield "training", f"{found.cost.steps} steps in {duration(found.cost.seconds)}"
    yield "peak memory", size(found.cost.peak_memory_bytes)


def _gate(gate: Gate) -> str:
    kept = "passed" if gate.passed else "MISSED"
    return f"{kept}: a drop of {gate.drop:.4g}, at most {gate.limit:.4g} allowed"


def _score(evaluation: Evaluation) -> str:
    return f"{_estimate(evaluation.test.estimate)}, n = {evaluation.test.rows}"


def _estimate(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} (95 %: {estimate.low:.4g} to {estimate.high:.4g})"


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    left = b""
    for chunk in chunks:
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if left:
        yield left.decode(errors="replace")


def _as_json(line: str) -> str:
    return json.dumps({"line": line})


def _is_seen() -> bool:
    return sys.stdout.isatty()

"""``pst datasets``: upload files of rows, and see what is in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from app.commands.exits import Exit
from app.commands.output import emit, facts, moment, say, size, table
from app.commands.progress import transfer
from app.commands.session import JsonOption, service
from app.datasets.schemas import DatasetDetail, DatasetSummary

datasets = typer.Typer(no_args_is_help=True, help="Files of rows to train on.")

DatasetArgument = Annotated[str, typer.Argument(help="The dataset's id, ds_…", show_default=False)]


@datasets.command()
def upload(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="CSV, TSV, JSON lines, Parquet; or .gz"),
    ],
    name: Annotated[str | None, typer.Option(help="Default: the file's.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it was checked.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a file; its id alone is printed, or the dataset once it was checked."""
    with service(context) as client:
        with transfer(path.name) as told:
            found = client.datasets.upload(path, name, told=told)
        if wait:
            found = client.datasets.wait(found.id)
    if as_json:
        emit(found)
    elif wait:
        _show(found)
    else:
        typer.echo(found.id)
    if found.status == "invalid":
        raise typer.Exit(Exit.USAGE)


@datasets.command("list")
def list_(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="The versions of this one alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at the most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List datasets, the newest first."""
    with service(context) as client:
        found = client.datasets.list(name=name, most=limit)
        if as_json:
            for dataset in found:
                emit(dataset)
        else:
            table(("ID", "STATUS", "KIND", "SIZE", "CREATED", "NAME"), map(_row, found))


@datasets.command()
def show(context: typer.Context, dataset_id: DatasetArgument, as_json: JsonOption = False) -> None:
    """Show one dataset: whether it can be used, and what is in it."""
    with service(context) as client:
        found = client.datasets.get(dataset_id)
    if as_json:
        emit(found)
    else:
        _show(found)


@datasets.command()
def delete(context: typer.Context, dataset_id: DatasetArgument) -> None:
    """Delete a dataset that no job needs any more."""
    with service(context) as client:
        client.datasets.delete(dataset_id)


def _show(found: DatasetDetail) -> None:
    profile, error = found.profile, found.error
    facts(
        [
            ("id", found.id),
            ("name", found.name),
            ("status", found.status),
            ("kind", f"{found.format}{', gzip' if found.gzip else ''}"),
            ("size", size(found.size) if found.size is not None else None),
            ("sha256", found.sha256),
            ("rows", f"{profile.rows:,}" if profile else None),
            ("columns", ", ".join(each.name for each in profile.columns) if profile else None),
        ]
    )
    if error:
        say(f"{found.name}: {error.message}")
        facts([("remedy", error.remedy)])


def _row(dataset: DatasetSummary) -> Sequence[str]:
    bytes_ = size(dataset.size) if dataset.size is not None else ""
    made = moment(dataset.created_at)
    return (dataset.id, dataset.status, dataset.format, bytes_, made, dataset.name)

"""``python -m pst_core``: compress, verify, rebuild and inspect without any server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from pst_core.bench.commands import cli as bench
from pst_core.errors import PstError
from pst_core.spec import CompressionSpec

SNAPSHOT_SECONDS = 300
cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cli.add_typer(bench, name="bench")

Folder = Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False)]
SpecFile = Annotated[Path, typer.Argument(metavar="SPEC.json", exists=True, dir_okay=False)]


@cli.command()
def compress(
    spec_file: SpecFile,
    out: Annotated[Path, typer.Argument(metavar="OUT")],
    snapshots: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Keep what is trained there, and go on from it after a crash.",
        ),
    ] = None,
) -> None:
    """Fine-tune, prune, export to OUT and verify, on this machine."""
    spec = _read_spec(spec_file)
    _require_new(out)
    # Only now: it takes seconds to load torch, and a mistyped spec should not have to wait.
    from pst_core import terminal
    from pst_core.snapshots import Snapshots

    kept = Snapshots(folder=snapshots, every_seconds=SNAPSHOT_SECONDS) if snapshots else None
    report = terminal.compress(spec, out, kept)
    # A fresh process: it can only know what was written.
    command = [sys.executable, "-P", "-m", "pst_core", "attest", str(spec_file), str(out)]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(1)
    from pst_core.page.write import PAGE, write_report

    write_report(report, out / "report")
    terminal.show(report, out / "report" / PAGE)


@cli.command(hidden=True)
def attest(spec_file: SpecFile, out: Annotated[Path, typer.Argument(metavar="OUT")]) -> None:
    """Open what `compress` wrote, count its zeros, compare the formats and evaluate again."""
    spec = _read_spec(spec_file)
    from pst_core import terminal

    terminal.attest(spec, out)


@cli.command()
def verify(
    folder: Folder,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Where the data is now, if not where it was."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Where an adapter's model is now, if not where it was."),
    ] = None,
) -> None:
    """Check a checkpoint against its pst.json: files, tensors, masks, zeros and score."""
    from pst_core import terminal

    terminal.verify(folder, dataset, base)


@cli.command()
def unpack(
    folder: Folder, out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")]
) -> None:
    """Write a packed checkpoint as the plain dense one that any Hugging Face client opens."""
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise typer.BadParameter(f"{out} is not empty: choose a new folder", param_hint="OUT")
    from pst_core.loading import unpack_checkpoint

    unpack_checkpoint(folder, out)


@cli.command()
def evaluate(
    folder: Folder,
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="[SPEC.json]", exists=True, dir_okay=False)
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a checkpoint on the test split it was made with, or on that of SPEC.json."""
    spec = _read_spec(spec_file) if spec_file else None
    from pst_core import terminal

    scores = terminal.evaluate(folder, spec)
    if as_json:
        typer.echo(scores.model_dump_json())
    else:
        terminal.show_scores(scores)


@cli.command()
def rebuild(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", exists=True, file_okay=False)],
    base: Annotated[str, typer.Argument(metavar="BASE")],
    out: Annotated[Path, typer.Argument(metavar="OUT")],
) -> None:
    """Write to OUT the dense folder that an adapter was made of, bit for bit.

    BASE is the model that it was made from: a folder, a GGUF file, or a reference (pkg:, file:).
    """
    _require_new(out)
    from pst_core import terminal

    terminal.rebuild(adapter, base, out)


@cli.command()
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Count the zeros of every tensor in a checkpoint folder, packed or not, whoever made it."""
    from pst_core import inspection, inspection_table

    found = inspection.inspect(folder)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        inspection_table.show(found)
    found.require_claim()


def _require_new(out: Path) -> None:
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise typer.BadParameter(f"{out} is not empty: choose a new folder", param_hint="OUT")


def _read_spec(path: Path) -> CompressionSpec:
    try:
        return CompressionSpec.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        for item in error.errors():
            field = ".".join(str(part) for part in item["loc"])
            typer.echo(f"{path}: {field}: {item['msg']}", err=True)
    except (ValueError, RecursionError) as error:
        typer.echo(f"{path} is not JSON: {error}", err=True)
    raise SystemExit(2)


def main() -> None:
    # Threads that spin while they wait make training many times slower on a shared machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli()
    except PstError as error:
        typer.echo(f"pst_core: {f'{error.field}: ' if error.field else ''}{error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()

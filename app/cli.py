"""The ``pst`` command: the client's commands, and what runs an installation.

Each command calls one function elsewhere. What only the operator's need is imported by those
alone: nobody waits for a database driver to list jobs.
"""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands import catalog, results
from app.commands.api_keys import api_keys
from app.commands.datasets import datasets
from app.commands.jobs import jobs
from app.commands.login import login
from app.commands.profiles import Chosen
from app.commands.sweeps import sweeps
from app.projects.cli import keys, projects

if TYPE_CHECKING:
    from app.settings import Settings

SERVICE = "On the machine of the service"
YEAR = 365 * 24 * 3600
JOBS_QUEUE, MAINTENANCE_QUEUE = "jobs", "maintenance"

cli = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compress transformer language models by sparse fine-tuning, as a service.",
)
db = typer.Typer(no_args_is_help=True, help="The database schema.")
jobs.command()(results.logs)
jobs.command()(results.events)
jobs.command()(results.report)
jobs.command()(results.download)
cli.add_typer(jobs, name="jobs")
cli.add_typer(datasets, name="datasets")
cli.add_typer(sweeps, name="sweeps")
cli.add_typer(api_keys, name="api-keys")
cli.command()(login)
cli.command()(catalog.estimate)
cli.command()(catalog.models)
cli.command()(catalog.methods)
cli.add_typer(db, name="db", rich_help_panel=SERVICE)
cli.add_typer(keys, name="keys", rich_help_panel=SERVICE)
cli.add_typer(projects, name="projects", rich_help_panel=SERVICE)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder for all data. Default: PST_DATA, else ./pst-data."),
]
HostOption = Annotated[str, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
DevicesOption = Annotated[
    str, typer.Option(help="auto, cpu, or cuda:0,cuda:1: one job at a time on each.")
]


def main() -> None:
    cli()


def show_version(asked: bool) -> None:
    if asked:
        typer.echo(version("pst-service"))
        raise typer.Exit


@cli.callback()
def choose(
    context: typer.Context,
    profile: Annotated[
        str | None, typer.Option(help="Of `pst login`. Default: PST_PROFILE, else default.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="The service's. Default: PST_URL, else the profile's.")
    ] = None,
    patience: Annotated[
        float | None,
        # Without a bound it would take `inf`.
        typer.Option(
            min=0, max=YEAR, help="Seconds for which an outage is waited out. Default: 120."
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    context.obj = Chosen(profile, url, patience)


@cli.command("serve", rich_help_panel=SERVICE)
def serve_command(
    data: DataOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    devices: DevicesOption = "auto",
) -> None:
    """Run everything in this terminal: API, workers, beat, and embedded servers where needed."""
    from app.db import SchemaError
    from app.embedded import EmbeddedError
    from app.serve import ServeError, serve
    from app.storage import StorageSettingsError

    chosen = _resolve_devices(devices)
    try:
        serve(_settings(data), host=host, port=port, devices=chosen, say=typer.echo)
    except (EmbeddedError, SchemaError, ServeError, StorageSettingsError) as error:
        raise _gives_up(error) from None


@cli.command(rich_help_panel=SERVICE)
def api(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    fd: Annotated[int | None, typer.Option(hidden=True, help="A listening socket.")] = None,
) -> None:
    """Run the API alone."""
    import uvicorn

    from app import logs, schema
    from app.connections import SERVER
    from app.main import create_app
    from app.server import Server
    from app.telemetry.listener import Role, listening

    with _backends() as settings:
        logs.configure(settings)
        schema.check_at_start(settings.database_url or "")
        app = create_app(settings)
        # It is ours to say how and what is logged.
        config = uvicorn.Config(
            app, host=host, port=port, log_config=None, access_log=False, **SERVER
        )
        sockets = None if fd is None else [socket.socket(fileno=fd)]
        with listening(settings, app.state.registry, Role.API):
            Server(app, config).run(sockets)


@cli.command(rich_help_panel=SERVICE)
def worker(
    devices: DevicesOption = "auto",
    queues: Annotated[
        str, typer.Option(help=f"{JOBS_QUEUE} trains; {MAINTENANCE_QUEUE} sweeps.")
    ] = JOBS_QUEUE,
) -> None:
    """Run a worker alone, for one of the queues."""
    if queues == MAINTENANCE_QUEUE:
        _become("worker", MAINTENANCE_QUEUE)
    if queues == JOBS_QUEUE:
        _become("worker", JOBS_QUEUE, "--devices", _resolve_devices(devices))
    raise typer.BadParameter(
        f"{queues!r} is neither {JOBS_QUEUE} nor {MAINTENANCE_QUEUE}: a busy device must never "
        "hold up maintenance, so each queue has workers of its own",
        param_hint="--queues",
    )


@cli.command(rich_help_panel=SERVICE)
def beat() -> None:
    """Run the clock that asks for maintenance; one is enough, none is survived."""
    _become("worker", "beat")


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the database schema to this release."""
    from app.db import upgrade

    with _backends() as settings:
        upgrade(settings.database_url or "")


def _settings(data: Path | None = None) -> "Settings":
    from app.settings import SettingsError, read_settings

    try:
        return read_settings() if data is None else read_settings(data=data)
    except SettingsError as error:
        raise _gives_up(error) from None


@contextmanager
def _backends() -> Iterator["Settings"]:
    from app.backends import running_backends
    from app.db import SchemaError
    from app.embedded import EmbeddedError
    from app.storage import StorageSettingsError

    try:
        with running_backends(_settings()) as settings:
            yield settings
    except (EmbeddedError, SchemaError, StorageSettingsError) as error:
        raise _gives_up(error) from None


def _gives_up(error: Exception) -> typer.Exit:
    typer.echo(f"pst: {error}", err=True)
    return typer.Exit(1)


def _become(*module_and_arguments: str) -> None:
    """Turn this process into another of ours; embedded servers it started stay its children."""
    from app.backends import environment

    with _backends() as settings:
        command = [sys.executable, "-P", "-m", *module_and_arguments]
        os.execve(command[0], command, os.environ | environment(settings))


def _resolve_devices(devices: str) -> str:
    """What `auto` means here, told without torch: NVIDIA's driver lists its devices in /proc."""
    if devices != "auto":
        return devices
    gpus = Path("/proc/driver/nvidia/gpus")
    count = len(list(gpus.iterdir())) if gpus.is_dir() else 0
    return ",".join(f"cuda:{index}" for index in range(count)) or "cpu"

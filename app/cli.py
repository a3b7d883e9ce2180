"""The ``pst`` command: what runs an installation. Each command calls one function elsewhere."""

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from app import logs, schema
from app.backends import environment, running_backends
from app.connections import SERVER
from app.db import SchemaError, upgrade
from app.embedded import EmbeddedError
from app.main import create_app
from app.projects.cli import keys, projects
from app.queue import JOBS_QUEUE, MAINTENANCE_QUEUE
from app.serve import ServeError, serve
from app.server import Server
from app.settings import Settings
from app.telemetry.listener import Role, listening

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compress transformer language models by sparse fine-tuning, as a service.",
)
db = typer.Typer(no_args_is_help=True, help="The database schema.")
cli.add_typer(db, name="db")
cli.add_typer(keys, name="keys")
cli.add_typer(projects, name="projects")

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
    try:
        cli()
    except (EmbeddedError, SchemaError, ServeError) as error:
        typer.echo(f"pst: {error}", err=True)
        raise SystemExit(1) from None


@cli.command("serve")
def serve_command(
    data: DataOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    devices: DevicesOption = "auto",
) -> None:
    """Run everything in this terminal: API, workers, beat, and embedded servers where needed."""
    serve(
        _settings(data),
        host=host,
        port=port,
        devices=_resolve_devices(devices),
        say=typer.echo,
    )


@cli.command()
def api(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    fd: Annotated[int | None, typer.Option(hidden=True, help="A listening socket.")] = None,
) -> None:
    """Run the API alone."""
    with running_backends(_settings()) as settings:
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


@cli.command()
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


@cli.command()
def beat() -> None:
    """Run the clock that asks for maintenance; one is enough, none is survived."""
    _become("worker", "beat")


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the database schema to this release."""
    with running_backends(_settings()) as settings:
        upgrade(settings.database_url or "")


def _settings(data: Path | None = None) -> Settings:
    return Settings() if data is None else Settings(data=data)


def _become(*module_and_arguments: str) -> None:
    """Turn this process into another of ours; embedded servers it started stay its children."""
    with running_backends(_settings()) as settings:
        command = [sys.executable, "-P", "-m", *module_and_arguments]
        os.execve(command[0], command, os.environ | environment(settings))


def _resolve_devices(devices: str) -> str:
    """What `auto` means here, told without torch: NVIDIA's driver lists its devices in /proc."""
    if devices != "auto":
        return devices
    gpus = Path("/proc/driver/nvidia/gpus")
    count = len(list(gpus.iterdir())) if gpus.is_dir() else 0
    return ",".join(f"cuda:{index}" for index in range(count)) or "cpu"

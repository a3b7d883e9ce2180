"""``pst keys`` and ``pst projects``: an operator's way to any project, its keys and its quotas.

The database is imported by the commands alone: the client's, beside them, need none.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from app.projects.schemas import DAYS_30, GRACE, YEARS_10, KeyCreated, KeyOut
from app.projects.scopes import ORDINARY, Scope

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.projects.service import NewKey

keys = typer.Typer(
    no_args_is_help=True,
    help="API keys of any project, straight in the database; over HTTP: `pst api-keys`.",
)
projects = typer.Typer(no_args_is_help=True, help="Projects and their quotas.")

DEFAULT_PROJECT = "default"
MOST_KEYS = 10_000
# As the API has them.
MOST_DAYS, MOST_GRACE_HOURS = YEARS_10 / (24 * 3600), DAYS_30 / 3600

ProjectOption = Annotated[str, typer.Option("--project", help="Its name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, an object a line.")]
QuotaOption = Annotated[
    int | None, typer.Option(min=0, help="Default: the installation's, of its settings.")
]
KeyArgument = Annotated[str, typer.Argument(help="The key's id; `pst keys list` shows it.")]
NameOption = Annotated[str, typer.Option(help="What the key is for.")]
ScopesOption = Annotated[
    list[Scope] | None,
    typer.Option("--scope", help="May be given several times. Default: all but admin."),
]
DaysOption = Annotated[
    float | None,
    typer.Option(
        "--expires-in-days",
        min=0.0,
        max=MOST_DAYS,
        help="Default: it ends when it is revoked.",
    ),
]
GraceOption = Annotated[
    float,
    typer.Option(
        "--grace-hours",
        min=0.0,
        max=MOST_GRACE_HOURS,
        help="How long the key stays valid beside its successor.",
    ),
]


@keys.command("create")
def create(
    name: NameOption,
    project: Annotated[str, typer.Option(help="Made if there is none.")] = DEFAULT_PROJECT,
    scope: ScopesOption = None,
    expires_in_days: DaysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key and show it, once."""
    from app.projects import service

    lifetime = None if expires_in_days is None else timedelta(days=expires_in_days)
    with _database() as session:
        new = service.create_key(
            session, name=name, project=project, scopes=scope or ORDINARY, lifetime=lifetime
        )
    _show(new, project, as_json=as_json)


@keys.command("list")
def list_(project: ProjectOption = DEFAULT_PROJECT, as_json: JsonOption = False) -> None:
    """Show a project's keys, those that ended too."""
    from app.projects import service

    with _database() as session:
        project_id = service.find_project(session, project)
        rows = service.list_keys(session, project_id, limit=MOST_KEYS)
    for key in map(KeyOut.model_validate, rows):
        if as_json:
            typer.echo(key.model_dump_json())
        else:
            ends = f"until {key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "until revoked"
            state = ends if key.active else "ended"
            typer.echo(f"{key.id}  {state}  {' '.join(key.scopes)}  {key.name}")


@keys.command("rotate")
def rotate(
    key_id: KeyArgument,
    grace_hours: GraceOption = GRACE / timedelta(hours=1),
    project: ProjectOption = DEFAULT_PROJECT,
    as_json: JsonOption = False,
) -> None:
    """Make a key's successor and show it, once."""
    from app.projects import service

    with _database() as session:
        project_id = service.find_project(session, project)
        new = service.rotate_key(session, project_id, key_id, grace=timedelta(hours=grace_hours))
    _show(new, project, as_json=as_json)


@keys.command("revoke")
def revoke(key_id: KeyArgument, project: ProjectOption = DEFAULT_PROJECT) -> None:
    """End a key, everywhere within five seconds."""
    from app.projects import service

    with _database() as session:
        service.revoke_key(session, service.find_project(session, project), key_id)


@projects.command("list")
def list_projects() -> None:
    """Show the projects, with the quotas of their own, as JSON, an object a line."""
    from app.projects import service

    with _database() as session:
        rows = service.list_projects(session)
    for row in rows:
        typer.echo(json.dumps(row._asdict()))


@projects.command("limit")
def limit(
    name: Annotated[str, typer.Argument(help="Of the project.")],
    queued_jobs: QuotaOption = None,
    running_jobs: QuotaOption = None,
    stored_bytes: QuotaOption = None,
) -> None:
    """Give a project quotas of its own; what is not named here is the installation's again."""
    from app.projects import service

    with _database() as session:
        service.limit_project(
            session,
            name,
            max_queued_jobs=queued_jobs,
            max_running_jobs=running_jobs,
            max_stored_bytes=stored_bytes,
        )


@contextmanager
def _database() -> Iterator["Session"]:
    from sqlalchemy.orm import Session

    from app.backends import running_backends
    from app.db import SchemaError, sync_engine
    from app.embedded import EmbeddedError
    from app.problems import Problem
    from app.schema import check
    from app.settings import SettingsError, read_settings

    try:
        chosen = read_settings()
        if chosen.database_url is None and not (chosen.data / "postgres").exists():
            typer.echo(
                f"pst: no service has run in {chosen.data.resolve()}: run this in the folder of "
                "`pst serve`, or set PST_DATA to what it keeps its data in",
                err=True,
            )
            raise typer.Exit(1)
        with (
            running_backends(chosen) as settings,
            Session(sync_engine(settings.database_url or "")) as session,
            session.begin(),
        ):
            check(session.connection())
            yield session
    except Problem as problem:
        typer.echo(f"pst: {problem.detail}", err=True)
        raise typer.Exit(1) from None
    except (EmbeddedError, SchemaError, SettingsError) as error:
        typer.echo(f"pst: {error}", err=True)
        raise typer.Exit(1) from None


def _show(new: "NewKey", project: str, *, as_json: bool) -> None:
    if as_json:
        shown = KeyCreated.model_validate({**new.row._asdict(), "key": new.key})
        typer.echo(json.dumps({**shown.model_dump(mode="json"), "project": project}))
    else:
        typer.echo(f"{new.key}\nIt is shown only now.")

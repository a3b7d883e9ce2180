"""``pst api-keys``: the keys of one's own project, over HTTP; ``pst keys`` is the operator's."""

from datetime import timedelta
from typing import Annotated

import typer

from app.commands.output import emit, moment, say, table
from app.commands.session import JsonOption, service
from app.projects.cli import DaysOption, GraceOption, NameOption, ScopesOption
from app.projects.schemas import GRACE, KeyCreated
from app.projects.scopes import ORDINARY

api_keys = typer.Typer(
    no_args_is_help=True, help="Keys of your project; yours needs the scope admin."
)

KeyArgument = Annotated[str, typer.Argument(help="The key's id; `pst api-keys list` shows it.")]


@api_keys.command()
def create(
    context: typer.Context,
    name: NameOption,
    scope: ScopesOption = None,
    expires_in_days: DaysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it, once."""
    seconds = None
    if expires_in_days is not None:
        seconds = round(timedelta(days=expires_in_days).total_seconds())
    with service(context) as client:
        new = client.keys.create(name, scope or ORDINARY, seconds=seconds)
    _show(new, as_json=as_json)


@api_keys.command("list")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the project's keys, those that ended too."""
    with service(context) as client:
        found = client.keys.list()
        if as_json:
            for key in found:
                emit(key)
            return
        rows = [
            (key.id, "active" if key.active else "ended", moment(key.expires_at), key.name)
            for key in found
        ]
    table(("ID", "STATE", "UNTIL", "NAME"), rows)


@api_keys.command()
def rotate(
    context: typer.Context,
    key_id: KeyArgument,
    grace_hours: GraceOption = GRACE / timedelta(hours=1),
    as_json: JsonOption = False,
) -> None:
    """Make a key's successor and show it, once."""
    with service(context) as client:
        grace = round(timedelta(hours=grace_hours).total_seconds())
        new = client.keys.rotate(key_id, grace)
    _show(new, as_json=as_json)


@api_keys.command()
def revoke(context: typer.Context, key_id: KeyArgument) -> None:
    """End a key, everywhere within five seconds."""
    with service(context) as client:
        client.keys.revoke(key_id)


def _show(new: KeyCreated, *, as_json: bool) -> None:
    if as_json:
        emit(new)
        return
    typer.echo(new.key)
    say("it is shown only now")

"""``pst login``: keep an address and a key for the commands to come."""

import os
import sys
from typing import Annotated

import typer

from app.client import Client, RefusedError
from app.client.client import DEFAULT_URL
from app.commands.exits import Exit
from app.commands.output import say
from app.commands.profiles import (
    DEFAULT_PROFILE,
    URL_VARIABLE,
    Access,
    Chosen,
    write_profile,
)
from app.commands.session import ending, patience_of

FORBIDDEN = 403


def login(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="The service's address.")] = None,
    profile: Annotated[str | None, typer.Option(help="Under which name.")] = None,
) -> None:
    """Ask for an API key (or read it from stdin), try it, and keep it in the profile file."""
    before = context.obj if isinstance(context.obj, Chosen) else Chosen()
    address = url or before.url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    name = profile or before.profile or DEFAULT_PROFILE
    # Never an argument: those are seen by all processes, and kept by the shell.
    key = typer.prompt("API key", hide_input=True, err=True) if _asks() else sys.stdin.readline()
    access = Access(address.rstrip("/"), key.strip())
    if not access.key:
        say("no key was given")
        raise typer.Exit(Exit.USAGE)
    with ending():
        try:
            with Client(access.url, access.key, patience=patience_of(before)) as client:
                list(client.jobs.list(most=1))
        except RefusedError as error:
            # It is known, and may do other things.
            if error.status != FORBIDDEN:
                raise
        path = write_profile(name, access)
    say(f"the profile {name} for {access.url} is in {path}")


def _asks() -> bool:
    return sys.stdin.isatty()

"""What all of the client's commands share: the connection, and how errors end them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated

import typer

from app.client import Client, ClientError, Patience, RefusedError
from app.commands.exits import Exit, of_error
from app.commands.output import printable, say
from app.commands.profiles import Chosen, find_access, is_open_to_others, profile_file

JsonOption = Annotated[
    bool, typer.Option("--json", help="JSON alone on stdout; of lists, an object a line.")
]
# For a completion nobody waits.
HASTE = Patience(first=0.0, outage=0.0)
COMPLETIONS = 30
KEY_REMEDY = (
    "Set PST_API_KEY to the whole key, or run `pst login`; where the service runs, "
    "`pst keys create` makes one."
)


@contextmanager
def service(context: typer.Context, *, goes_on: str = "") -> Iterator[Client]:
    """The service that is asked; what goes wrong with it ends the command.

    Args:
        context: Of the command.
        goes_on: What to say at Ctrl-C.
    """
    with ending(goes_on=goes_on):
        chosen = context.obj if isinstance(context.obj, Chosen) else Chosen()
        access = find_access(chosen)
        if is_open_to_others():
            say(f"others may read the keys in {profile_file()}: chmod 600 it")
        with Client(access.url, access.key, patience=patience_of(chosen)) as client:
            yield client


def patience_of(chosen: Chosen) -> Patience:
    ordinary = Patience()
    if chosen.patience is None:
        return ordinary
    return Patience(first=min(ordinary.first, chosen.patience), outage=chosen.patience)


@contextmanager
def ending(*, goes_on: str = "") -> Iterator[None]:
    """Errors are told with their remedy, and become exit statuses."""
    try:
        yield
    except ClientError as error:
        tell(error)
        raise typer.Exit(of_error(error)) from None
    except BrokenPipeError:
        # Who reads has enough; Python would complain once more as it closes its output.
        sys.stdout = None
        raise typer.Exit(Exit.ERROR) from None
    except OSError as error:
        say(str(error))
        raise typer.Exit(Exit.ERROR) from None
    except KeyboardInterrupt:
        say(goes_on or "interrupted")
        raise typer.Exit(Exit.INTERRUPTED) from None


def tell(error: ClientError) -> None:
    """Say what went wrong, where, and what to do."""
    say(str(error))
    if isinstance(error, RefusedError):
        for each in error.errors:
            if each.message not in str(error):
                typer.echo(printable(f"  {each.field}: {each.message}"), err=True)
            elif each.field not in str(error):
                typer.echo(printable(f"  field: {each.field}"), err=True)
    is_of_key = isinstance(error, RefusedError) and error.status == HTTPStatus.UNAUTHORIZED
    # Here nobody writes headers.
    if remedy := KEY_REMEDY if is_of_key else error.remedy:
        typer.echo(printable(f"  remedy: {remedy}"), err=True)


def complete_job(incomplete: str) -> list[str]:
    """Job ids for the shell; none where the service does not answer at once."""
    try:
        access = find_access(Chosen())
        with Client(access.url, access.key, patience=HASTE) as client:
            found = [job.id for job in client.jobs.list(most=COMPLETIONS)]
    except ClientError:
        return []
    return [job_id for job_id in found if job_id.startswith(incomplete)]


JobArgument = Annotated[
    str, typer.Argument(help="The job's id.", autocompletion=complete_job, show_default=False)
]

"""The database and broker of an installation: those the settings name, else embedded ones."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from app.embedded import start_postgres, start_valkey
from app.settings import Settings


@contextmanager
def running_backends(settings: Settings) -> Iterator[Settings]:
    """The settings with both URLs set.

    What is embedded is started here, or joined where another process of this data folder runs it,
    and ends with the process that started it.

    Raises:
        EmbeddedError: An embedded server cannot be had; the message says what to do.
    """
    with ExitStack() as stack:
        urls = {}
        if settings.database_url is None:
            server = stack.enter_context(start_postgres(settings.data / "postgres"))
            urls["database_url"] = server.url
        if settings.broker_url is None:
            server = stack.enter_context(start_valkey(settings.data / "valkey"))
            urls["broker_url"] = server.url
        yield settings.model_copy(update=urls)


def environment(settings: Settings) -> dict[str, str]:
    """The variables with which another process of ours finds the same installation."""
    return {
        "PST_DATA": str(settings.data),
        "PST_DATABASE_URL": settings.database_url or "",
        "PST_BROKER_URL": settings.broker_url or "",
    }

"""Has a process log as the settings say. Called once, before it does anything worth a record."""

import logging
import sys
import threading
from types import TracebackType

from app.logs.formats import JsonFormatter, TextFormatter
from app.logs.redaction import Redactor, secrets_of
from app.settings import Settings

logger = logging.getLogger(__name__)

OURS = ("app", "worker", "pst_core", "migrations", "__main__", "py.warnings")


def configure(settings: Settings) -> None:
    """Log to stderr, each record in a line, and so what ends the process or a thread.

    Other people's packages tell warnings alone: at INFO some tell URLs and arguments.
    """
    redact = Redactor(secrets_of(settings))
    handler = logging.StreamHandler(sys.stderr)
    as_text = settings.log_format == "text" or (settings.log_format is None and sys.stderr.isatty())
    handler.setFormatter(TextFormatter(redact) if as_text else JsonFormatter(redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
    logging.captureWarnings(capture=True)
    sys.excepthook = _ended
    threading.excepthook = _thread_ended


def _ended(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("the process ends", exc_info=(kind, error, traceback))


def _thread_ended(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not issubclass(arguments.exc_type, SystemExit):
        name = arguments.thread.name if arguments.thread else "?"
        error = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
        logger.error("the thread %s ends", name, exc_info=error)

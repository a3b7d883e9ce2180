"""Where Prometheus asks: a port of its own in each process, off unless one is set.

Why not a route of the API: docs/decisions/0024-metrics-on-a-port-of-their-own.md.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from prometheus_client import CollectorRegistry, start_http_server

from app.settings import Settings

logger = logging.getLogger(__name__)


class Role(IntEnum):
    """What a process is: its port is so far from the one that is set."""

    API = 0
    JOBS = 1
    MAINTENANCE = 2


@contextmanager
def listening(settings: Settings, registry: CollectorRegistry, role: Role) -> Iterator[int | None]:
    """Answer scrapes on a thread; gives the port, None where nobody listens.

    A port that is taken costs the metrics, never the service.
    """
    if settings.metrics_port is None:
        yield None
        return
    port = settings.metrics_port + role
    try:
        server, thread = start_http_server(port, settings.metrics_host, registry)
    except OSError as error:
        logger.error(  # noqa: TRY400 -- the reason is all there is to tell
            "no metrics: cannot listen on %s port %d: %s; set another PST_METRICS_PORT",
            settings.metrics_host,
            port,
            error.strerror,
        )
        yield None
        return
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

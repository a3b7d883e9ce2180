"""What an API process tells: of its requests, streams and connections, and what all know."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import QueuePool
from starlette.datastructures import State

from app.settings import Settings
from app.telemetry.registry import new_registry
from app.telemetry.state import StateCollector


def api_registry(settings: Settings, state: State) -> CollectorRegistry:
    """What is asked of ``/metrics``; its requests are counted by who sees them.

    Args:
        settings: With the database's URL.
        state: Of the app, with its engine and its streams.
    """
    registry = new_registry(settings)
    registry.register(StateCollector(settings.database_url or ""))
    registry.register(_ProcessState(state))
    return registry


class _ProcessState:
    def __init__(self, state: State) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "pst_streams_open", "Streams of events and logs.", self._state.feeds.count
        )
        pool = self._state.engine.pool
        if isinstance(pool, QueuePool):
            yield GaugeMetricFamily(
                "pst_database_connections_in_use", "Of this process's pool.", pool.checkedout()
            )
            yield GaugeMetricFamily(
                "pst_database_connections_max", "That its pool may have.", pool.size()
            )

"""Tells what the database knows, read once for all scrapes of some seconds.

All API processes tell the same, so a dashboard takes the greatest and adds none up.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import CompoundSelect, Engine, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from app.artifacts.tables import Kind
from app.db import CONNECT_ARGS
from app.jobs.states import TERMINAL, Status
from app.telemetry import queries

logger = logging.getLogger(__name__)

LIVE_SECONDS = 5.0
KEPT_SECONDS = 60.0
# A scrape waits no longer, and PostgreSQL works no longer for one.
BOUNDS = {
    "connect_timeout": 2,
    "options": "-c statement_timeout=2s -c default_transaction_read_only=on",
}
DEVICES = ("any", "cpu", "gpu")

Values = Mapping[str, Mapping[str | None, float]]


@dataclass(slots=True)
class Reading:
    """What a statement has told, for as long as that is new enough."""

    statement: CompoundSelect[Any]
    seconds: float
    due: float = 0.0
    values: Values = field(default_factory=dict)

    def read(self, engine: Engine) -> None:
        now = time.monotonic()
        if now < self.due:
            return
        # Whatever comes of it: one that is away is not asked more often.
        self.due, self.values = now + self.seconds, {}
        values: dict[str, dict[str | None, float]] = defaultdict(dict)
        with engine.connect() as connection:
            for name, label, value in connection.execute(self.statement):
                values[name][label] = value
        self.values = values


class StateCollector:
    """Registered with a registry, which calls ``collect`` at each scrape.

    Args:
        url: Of the database. Connections are its own: a busy pool must not hide that it is busy.
    """

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, poolclass=NullPool, connect_args=CONNECT_ARGS | BOUNDS)
        self._lock = threading.Lock()
        self._up = False
        self._live = Reading(queries.live(), LIVE_SECONDS)
        self._kept = Reading(queries.kept(), KEPT_SECONDS)

    def describe(self) -> Iterable[Metric]:
        """Nothing: to be registered must not ask the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            self._read()
            yield GaugeMetricFamily("pst_database_up", "Whether it answered.", self._up)
            yield from self._families()

    def _read(self) -> None:
        try:
            for reading in (self._live, self._kept):
                if time.monotonic() >= reading.due:
                    reading.read(self._engine)
                    self._up = True
        except SQLAlchemyError as error:
            self._up = False
            logger.warning("metrics: the database did not answer: %s", type(error).__name__)

    def _families(self) -> Iterator[Metric]:
        live, kept = self._live.values, self._kept.values
        jobs = GaugeMetricFamily("pst_jobs", "Jobs that are not deleted.", labels=["state"])
        for values, states in ((live, queries.LIVE), (kept, sorted(TERMINAL))):
            if values:
                _fill(jobs, values[queries.JOBS], states)
        yield jobs
        if live:
            age = GaugeMetricFamily(
                "pst_queue_oldest_age_seconds",
                "How long the oldest job that could be claimed has waited, by the device it needs.",
                labels=["device"],
            )
            _fill(age, live[queries.QUEUE_AGE], DEVICES)
            yield age
            for name, what, key in (
                ("pst_webhook_deliveries_due", "Not sent yet.", queries.DELIVERIES_DUE),
                ("pst_webhook_oldest_due_age_seconds", "Overdue so long.", queries.DELIVERY_AGE),
            ):
                yield GaugeMetricFamily(name, what, live[key][None])
        if kept:
            stored = GaugeMetricFamily(
                "pst_stored_bytes", "By the rows of what is stored.", labels=["kind"]
            )
            _fill(stored, kept[queries.STORED_BYTES], (*Kind, "dataset"))
            yield stored


def _fill(
    family: GaugeMetricFamily, values: Mapping[str | None, float], labels: Iterable[str | Status]
) -> None:
    """One sample a label: what there is none of is told as 0, or no alert could resolve."""
    for label in labels:
        family.add_metric([str(label)], values.get(label, 0.0))

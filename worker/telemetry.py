"""What workers count: of attempts what their supervisors tell, of maintenance what is done here."""

import logging
import time
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import ValidationError

from app import kinds
from worker.observing import OBSERVATION, Began, Ended, PhaseOver, Stepped

logger = logging.getLogger(__name__)

PHASE_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600)
LOST = "lost"  # an outcome: somebody else may have the job by now
# Why jobs go back to the queue, beside the classes of failures.
REASONS = frozenset({"", "worker_stopped", "trainer_stopped"})


class AttemptMetrics:
    """Of the jobs worker, whose supervisors tell it a line each time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "pst_attempts",
            "Attempts that ended, by the move they made of their job.",
            ["outcome", "reason"],
            registry=registry,
        )
        self.lease_losses = Counter(
            "pst_lease_losses", "Attempts that lost their lease.", registry=registry
        )
        self.crashes = Counter(
            "pst_supervisor_failures", "Supervisors that ended badly.", registry=registry
        )
        self.phases = Histogram(
            "pst_phase_duration_seconds",
            "Of an attempt's phases.",
            ["phase"],
            buckets=PHASE_BUCKETS,
            registry=registry,
        )
        self.steps = Counter("pst_training_steps", "Steps.", ["stage"], registry=registry)
        self.speed = Gauge("pst_training_steps_per_second", "Now.", ["device"], registry=registry)
        self.busy = Gauge(
            "pst_device_busy", "Whether a job is on it.", ["device"], registry=registry
        )


class Listener:
    """Hears one supervisor from its start to its end."""

    def __init__(self, metrics: AttemptMetrics) -> None:
        self._metrics = metrics
        self._device: str | None = None

    @property
    def began(self) -> bool:
        """Whether it found a device and a job."""
        return self._device is not None

    def hear(self, line: bytes) -> None:
        try:
            told = OBSERVATION.validate_json(line)
        except ValidationError:
            logger.warning("a supervisor printed what is no observation")
            return
        metrics = self._metrics
        match told:
            case Began(device=device):
                self._device = device
                metrics.busy.labels(device).set(1)
            case PhaseOver(phase=phase, seconds=seconds):
                metrics.phases.labels(phase).observe(seconds)
                self._still()
            case Stepped(stage=stage, steps=steps, seconds=seconds):
                metrics.steps.labels(stage).inc(steps)
                if self._device is not None:
                    metrics.speed.labels(self._device).set(steps / seconds)
            case Ended(outcome=outcome, reason=reason):
                # What a trainer calls its failure must not make series.
                known = reason in REASONS or reason in kinds.KINDS
                metrics.attempts.labels(outcome, reason if known else "other").inc()
                if outcome == LOST:
                    metrics.lease_losses.inc()

    def ended(self, status: int, *, lost: bool) -> None:
        """It is gone, whatever it has told last."""
        if lost:
            self._metrics.attempts.labels(LOST, "").inc()
            self._metrics.lease_losses.inc()
        elif status != 0:
            self._metrics.crashes.inc()
        self._still()
        if self._device is not None:
            self._metrics.busy.labels(self._device).set(0)

    def _still(self) -> None:
        if self._device is not None:
            with suppress(KeyError):
                self._metrics.speed.remove(self._device)


class MaintenanceMetrics:
    """Of the maintenance worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.deliveries = Counter(
            "pst_webhook_attempts",
            "Webhooks sent, by what became of it.",
            ["outcome"],
            registry=registry,
        )
        self.sending = Histogram(
            "pst_webhook_attempt_duration_seconds", "Of one.", registry=registry
        )
        self.expired = Counter(
            "pst_expired_leases",
            "Found by sweeps, by the move they made of the job.",
            ["event"],
            registry=registry,
        )
        self.swept = Gauge(
            "pst_last_sweep_timestamp_seconds", "When one was last done.", registry=registry
        )

    def note_sweep(self) -> None:
        self.swept.set(time.time())

"""What every process of ours tells of itself: its release, its resources, its disk."""

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from app.settings import Settings
from app.telemetry.host import DiskCollector


def new_registry(settings: Settings) -> CollectorRegistry:
    """With what each process of ours tells."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(DiskCollector(settings.data))
    release = Gauge("pst_build_info", "1; its label says which.", ["version"], registry=registry)
    release.labels(version("pst-service")).set(1)
    return registry

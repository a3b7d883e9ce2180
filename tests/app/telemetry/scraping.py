"""What a scrape tells, by Prometheus' own parser."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families


def families(registry: CollectorRegistry) -> dict[str, Metric]:
    return {family.name: family for family in parsed(generate_latest(registry).decode())}


def parsed(text: str) -> Iterator[Metric]:
    yield from text_string_to_metric_families(text)


def samples(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    """The values of all samples of that name, by the values of their labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in families(registry).values()
        for sample in family.samples
        if sample.name == name
    }

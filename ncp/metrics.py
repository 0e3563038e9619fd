"""What manager and node agent measure alike, for Prometheus. What only one of them counts is declared beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ncp.kube.reflector import Reflector, running

LATENCY_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Seconds. The promises are 15 and 40 ms, so the steps are fine there."""


class ApiCollector(Collector):
    """How the copies of Kubernetes objects fare: one row for each resource that is watched."""

    def __init__(self, reflectors: Callable[[], Iterable[Reflector]] = lambda: list(running)):
        self._reflectors = reflectors

    def collect(self) -> Iterator[Metric]:
        """Read every running reflector."""
        labels = ["resource"]
        objects = GaugeMetricFamily("ncp_api_objects", "Objects held", labels=labels)
        silence = GaugeMetricFamily(
            "ncp_api_silence_seconds", "Time since the server last said something", labels=labels
        )
        synced = GaugeMetricFamily("ncp_api_synced", "1 after the first full list", labels=labels)
        relists = CounterMetricFamily("ncp_api_relists", "Full lists", labels=labels)
        restarts = CounterMetricFamily("ncp_api_watch_restarts", "Watches that ended", labels=labels)
        errors = CounterMetricFamily("ncp_api_handler_errors", "Changes whose handler failed", labels=labels)
        now = time.monotonic()
        for reflector in self._reflectors():
            name = [reflector.resource.plural]
            objects.add_metric(name, len(reflector.store))
            if reflector.last_contact:
                silence.add_metric(name, now - reflector.last_contact)
            synced.add_metric(name, reflector.synced.is_set())
            relists.add_metric(name, reflector.relists)
            restarts.add_metric(name, reflector.watch_restarts)
            errors.add_metric(name, reflector.handler_errors)
        yield from (objects, silence, synced, relists, restarts, errors)


class Reading(Collector):
    """A gauge whose values are read when Prometheus asks, by label value (``{"": 3}`` without a label)."""

    def __init__(self, name: str, meaning: str, read: Callable[[], Mapping[str, float]], *, label: str = ""):
        self._name, self._meaning, self._read, self._label = name, meaning, read, label

    def collect(self) -> Iterator[Metric]:
        """Call ``read`` once."""
        labels = [self._label] if self._label else []
        family = GaugeMetricFamily(self._name, self._meaning, labels=labels)
        for key, value in self._read().items():
            family.add_metric([key] if self._label else [], value)
        yield family

    def describe(self) -> Iterable[Metric]:
        """Name only, so that registering does not read."""
        return [GaugeMetricFamily(self._name, self._meaning)]


def queue_depth(read: Callable[[], float], registry: CollectorRegistry = REGISTRY) -> None:
    """``ncp_queue_depth``: keys waiting to be worked on."""
    registry.register(Reading("ncp_queue_depth", "Keys waiting to be worked on", lambda: {"": read()}))


def flows_per_table(read: Callable[[], Mapping[str, float]], registry: CollectorRegistry = REGISTRY) -> None:
    """``ncp_flows{table}``: flows that should be on the switch, by table name."""
    registry.register(Reading("ncp_flows", "Flows of the program, by table", read, label="table"))


def event_to_ack(registry: CollectorRegistry = REGISTRY) -> Histogram:
    """``ncp_event_to_ack_seconds``: from an event seen to the switch's acknowledgement of its flows."""
    return Histogram(
        "ncp_event_to_ack_seconds",
        "From an event seen to the switch's acknowledgement of its flows",
        buckets=LATENCY_BUCKETS,
        registry=registry,
    )

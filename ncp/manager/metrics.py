"""What the manager counts, for Prometheus: addresses as gauges read from the books, work as counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry


class Usage(NamedTuple):
    """Addresses of one namespace and family."""

    namespace: str
    family: int
    free: int
    held: int
    resting: int


class BlockUsage(NamedTuple):
    """Subnets of one block. Custom subnets beside the grid are not counted."""

    block: str
    subnets: int
    used: int


class PoolUsage(NamedTuple):
    """Addresses of one pool and family."""

    pool: str
    family: int
    free: int
    held: int
    resting: int


class Stats(NamedTuple):
    """What the books hold, at one moment."""

    namespaces: tuple[Usage, ...] = ()
    blocks: tuple[BlockUsage, ...] = ()
    pods: int = 0
    waiting: int = 0
    vnis: int = 0
    pools: tuple[PoolUsage, ...] = ()
    waiting_services: int = 0
    external: tuple[PoolUsage, ...] = ()
    waiting_outside: int = 0


class Meters:
    """The manager's metrics. A registry of its own keeps several managers of one process apart (tests)."""

    def __init__(self, stats: Callable[[], Stats], registry: CollectorRegistry = REGISTRY):
        self.registry = registry
        self.leader = Gauge("ncp_manager_leader", "1 while this replica leads", registry=registry)
        self.decisions = Counter("ncp_manager_decisions_total", "Objects written", ["kind"], registry=registry)
        self.refused = Counter(
            "ncp_manager_writes_refused_total",
            "Writes the API refused or did not answer",
            ["reason"],
            registry=registry,
        )
        self.latency = Histogram(
            "ncp_manager_decision_seconds",
            "From a change seen to its decision written",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            registry=registry,
        )
        self._addresses = _Addresses(stats)
        registry.register(self._addresses)

    def close(self) -> None:
        """Take the metrics out of the registry."""
        for each in (self.leader, self.decisions, self.refused, self.latency, self._addresses):
            self.registry.unregister(each)


class _Addresses(Collector):
    def __init__(self, stats: Callable[[], Stats]):
        self._stats = stats

    def collect(self) -> Iterator[GaugeMetricFamily]:
        stats = self._stats()
        addresses = GaugeMetricFamily(
            "ncp_manager_addresses", "Pod addresses by state", labels=["namespace", "family", "state"]
        )
        for usage in stats.namespaces:
            for state, count in (("free", usage.free), ("held", usage.held), ("resting", usage.resting)):
                addresses.add_metric([usage.namespace, str(usage.family), state], count)
        subnets = GaugeMetricFamily("ncp_manager_subnets", "Subnets of each block", labels=["block", "state"])
        for block in stats.blocks:
            subnets.add_metric([block.block, "used"], block.used)
            subnets.add_metric([block.block, "free"], block.subnets - block.used)
        yield addresses
        yield _by_pool("ncp_manager_virtual_addresses", "Addresses of load balancers by state", stats.pools)
        yield _by_pool("ncp_manager_external_addresses", "Addresses pods have outside by state", stats.external)
        yield subnets
        yield GaugeMetricFamily("ncp_manager_ports", "Pods that have a port", value=stats.pods)
        yield GaugeMetricFamily("ncp_manager_waiting_pods", "Pods that wait for an address", value=stats.waiting)
        yield GaugeMetricFamily(
            "ncp_manager_waiting_services",
            "Services of type LoadBalancer that wait for an address",
            value=stats.waiting_services,
        )
        yield GaugeMetricFamily(
            "ncp_manager_waiting_outside",
            "Namespaces, services and bindings that lack an address outside",
            value=stats.waiting_outside,
        )
        yield GaugeMetricFamily("ncp_manager_vnis", "Logical switches", value=stats.vnis)


def _by_pool(name: str, text: str, pools: tuple[PoolUsage, ...]) -> GaugeMetricFamily:
    found = GaugeMetricFamily(name, text, labels=["pool", "family", "state"])
    for pool in pools:
        for state, count in (("free", pool.free), ("held", pool.held), ("resting", pool.resting)):
            found.add_metric([pool.pool, str(pool.family), state], count)
    return found

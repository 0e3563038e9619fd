"""How long policies took to be enforced, as Prometheus reads it from a node."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from ncp.node.metrics import RECENT, NodeMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> NodeMetrics:
    return NodeMetrics("node1", registry)


def quantile(registry: CollectorRegistry, which: str) -> float | None:
    return registry.get_sample_value("ncp_policy_enforcement_quantile_seconds", {"quantile": which})


def latest(registry: CollectorRegistry, policy: str) -> float | None:
    return registry.get_sample_value("ncp_policy_enforcement_latest_seconds", {"policy": policy})


def test_before_the_first_there_are_no_quantiles(registry: CollectorRegistry, metrics: NodeMetrics):
    assert quantile(registry, "0.5") is None
    assert registry.get_sample_value("ncp_policy_enforcement_seconds_count") == 0


@pytest.mark.parametrize(
    ("seconds", "median", "highest"),
    [([3], 3, 3), ([9, 1], 1, 9), ([5, 1, 9], 5, 9), (range(100, 0, -1), 50, 99), (range(200), 99, 197)],
    ids=["one", "two", "three", "a hundred", "two hundred"],
)
def test_quantiles_are_of_times_that_were_measured(
    registry: CollectorRegistry, metrics: NodeMetrics, seconds: range, median: float, highest: float
):
    """The least of them that half, and 99 in a hundred, do not exceed."""
    for each in seconds:
        metrics.enforced("NetworkPolicy/red/deny", float(each))
    assert (quantile(registry, "0.5"), quantile(registry, "0.99")) == (median, highest)


def test_quantiles_are_of_the_latest_and_the_histogram_of_all(registry: CollectorRegistry, metrics: NodeMetrics):
    for each in [60.0] * 500 + [0.004] * RECENT:
        metrics.enforced("NetworkPolicy/red/deny", each)
    assert (quantile(registry, "0.5"), quantile(registry, "0.99")) == (0.004, 0.004)
    assert registry.get_sample_value("ncp_policy_enforcement_seconds_count") == RECENT + 500
    assert registry.get_sample_value("ncp_policy_enforcement_seconds_bucket", {"le": "0.005"}) == RECENT


def test_each_policys_latest_is_there_while_it_is_about_a_pod_here(registry: CollectorRegistry, metrics: NodeMetrics):
    for policy, seconds in (("NetworkPolicy/red/a", 0.5), ("NetworkPolicy/red/b", 0.25), ("NetworkPolicy/red/a", 2.0)):
        metrics.enforced(policy, seconds)
    metrics.enforces({"NetworkPolicy/red/a": 2, "NetworkPolicy/red/b": 1})
    assert (latest(registry, "NetworkPolicy/red/a"), latest(registry, "NetworkPolicy/red/b")) == (2.0, 0.25)
    metrics.enforces({"NetworkPolicy/red/a": 2})
    assert (latest(registry, "NetworkPolicy/red/a"), latest(registry, "NetworkPolicy/red/b")) == (2.0, None)
    assert quantile(registry, "0.5") == 0.5, "what was measured stays measured"

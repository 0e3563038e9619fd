"""What each ``baseline_policy_type`` lets pods reach."""

from __future__ import annotations

import pytest

from firewall import baseline
from firewall.order import Priorities
from tests.firewall.cast import (
    EVERYBODY,
    NAMESPACES,
    PODS,
    ask,
    cluster_policy,
    having,
    network_policy,
    receivers,
    security_policy,
    senders,
)

OWN = {"red/api", "red/db"}
BEYOND = {"outside", "node1", "node2"}


def baselines(kind):
    return [baseline.section(kind, namespace) for namespace in NAMESPACES]


@pytest.mark.parametrize(
    ("kind", "incoming", "outgoing"),
    [
        ("allow_cluster", EVERYBODY - {"red/web"}, EVERYBODY - {"red/web"}),
        ("allow_namespace", OWN | BEYOND, OWN | BEYOND),
        ("allow_namespace_strict", OWN | BEYOND, OWN | {"node1"}),
    ],
)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", None])
def test_a_baseline_gives_its_connectivity_matrix(kind, incoming, outgoing, family, protocol):
    assert senders(baselines(kind), "red/web", protocol, family=family) == incoming
    assert receivers(baselines(kind), "red/web", protocol, family=family) == outgoing


@pytest.mark.parametrize(
    ("kind", "from_", "to", "cause"),
    [
        ("allow_cluster", "red/web", "blue/web", "Baseline red/allow_cluster egress rule 1 (to any pod)"),
        ("allow_namespace", "red/web", "red/api", "Baseline red/allow_namespace egress rule 2 (to the namespace)"),
        ("allow_namespace", "red/web", "blue/web", "Baseline red/allow_namespace egress rule 3 (to other namespaces)"),
        ("allow_namespace_strict", "red/web", "outside",
         "Baseline red/allow_namespace_strict egress rule 3 (to anything else)"),
    ],
)  # fmt: skip
def test_a_baseline_names_its_rule(kind, from_, to, cause):
    assert str(ask(baselines(kind), from_, to).causes[0]) == cause


@pytest.mark.parametrize("kind", ["allow_namespace", "allow_namespace_strict"])
def test_a_namespace_is_kept_from_others_by_its_own_section_alone(kind):
    section = [baseline.section(kind, "red")]
    assert ask(section, "blue/web", "red/web").direction == "ingress"
    assert ask(section, "red/web", "blue/web").direction == "egress"
    assert ask(section, "blue/web", "green/web").allowed


@pytest.mark.parametrize(
    "above",
    [
        network_policy(ingress=[{"from": [{"namespaceSelector": {}}]}]),
        cluster_policy(ingress=[{"action": "Accept", "from": [{"namespaces": {}}]}]),
        cluster_policy(ingress=[{"action": "Accept", "from": [{"namespaces": {}}]}], tier="Baseline"),
        security_policy(rules=[{"action": "Allow", "direction": "In"}]),
        security_policy(priority=98, rules=[{"action": "Allow", "direction": "In"}]),
    ],
    ids=lambda section: f"{section.source.kind}-{section.tier}-{section.priority}",
)
def test_every_other_policy_that_allows_stands_above_the_baseline(above):
    section = baseline.section("allow_namespace", "red")
    assert not ask([section], "blue/web", "red/web").allowed
    assert ask([section, above], "blue/web", "red/web").allowed


def test_a_security_policy_from_the_baseline_priority_on_decides_only_what_the_baseline_leaves():
    below = security_policy(priority=99, rules=[{"action": "Drop", "direction": "In"}])
    assert senders([*baselines("allow_cluster"), below], "red/web") == PODS - {"red/web"} | {"node1"}
    moved = Priorities(top_section_priority=10, baseline_section_priority=100)
    assert senders([*baselines("allow_cluster"), below], "red/web", priorities=moved) == {"node1"}


def test_isolation_by_a_network_policy_is_not_opened_by_the_baseline():
    sections = [*baselines("allow_cluster"), network_policy(podSelector=having(app="web"))]
    assert senders(sections, "red/web") == {"node1"}

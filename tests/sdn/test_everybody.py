"""Policies for all pods: flows that speak of everybody at once, and everyone who asks about one pod hears of them."""

from __future__ import annotations

from immutables import Map

from firewall import clusterpolicy, networkpolicy
from firewall.rules import Identity
from sdn.conntrack import Tracked, forbidden
from sdn.pipeline.tables import is_firewall
from sdn.program import Program, build
from tests.sdn import worlds

DENY = clusterpolicy.section(
    {
        "metadata": {"name": "no-metadata"},
        "spec": {
            "tier": "Admin",
            "priority": 1,
            "subject": {"namespaces": {}},
            "egress": [{"action": "Deny", "to": [{"networks": ["169.254.169.254/32"]}]}],
            "ingress": [{"action": "Deny", "from": [{"pods": {"namespaceSelector": {}, "podSelector": {}}}]}],
        },
    }
)


def world(*sections, pods: int = 4):
    """Pods of red on node1, no two with the same labels."""
    ports = {}
    for number in range(pods):
        name = f"red/x{number}"
        port = worlds.port("red", "a", "node1", offset=20 + number)
        ports[name] = worlds.rename(port, name, Identity("red", (("n", str(number)),)))
    return worlds.world().replace(ports=Map(ports), sections=Map({each.key: each for each in sections}))


def compiled(intent) -> Program:
    return build(intent, "node1", 7, worlds.attachments(intent, "node1"))


def rules(program: Program) -> int:
    return sum(is_firewall(entry.flow.table) for entry in program.entries())


def test_a_policy_for_all_pods_is_as_many_flows_however_many_there_are():
    counts = [rules(compiled(world(DENY, pods=n))) - rules(compiled(world(pods=n))) for n in (4, 40)]
    assert counts[0] == counts[1] > 0


def test_it_is_nobodys_where_no_pod_is_here():
    assert rules(compiled(world(DENY, pods=0))) == rules(compiled(world(pods=0)))


def test_a_pod_with_a_policy_of_its_own_is_still_isolated():
    own = networkpolicy.section(
        {"metadata": {"name": "own", "namespace": "red"}, "spec": {"podSelector": {"matchLabels": {"n": "1"}}}}
    )
    program = compiled(world(DENY, own))
    pod = world().ports["red/x1"].identity
    assert {each.section for each in program.rules.about(pod)} == {DENY.key, own.key}
    assert {each.section for each in program.rules.about(world().ports["red/x2"].identity)} == {DENY.key}
    assert any(entry.flow.origin.detail == "isolates ingress" for entry in program.entries())


def test_connections_that_it_forbids_are_found():
    intent = world(DENY)
    program = compiled(intent)
    source, destination = (intent.ports[name].addresses[0] for name in ("red/x0", "red/x1"))
    zone = worlds.attachments(intent, "node1")["red/x1"]
    tracked = Tracked(zone, "tcp", source, destination, 40000, 80, destination)
    found = list(forbidden([tracked], intent, program.rules, {zone: "red/x1"}))
    assert [(each.tracked, each.port) for each in found] == [(tracked, "red/x1")]

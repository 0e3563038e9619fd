"""What holds whatever policies say, many policies on one pod, and who is named as the cause."""

from __future__ import annotations

import pytest

from firewall import baseline
from firewall.rules import Source
from firewall.verdict import Cause, Connection, judge, world
from tests.firewall.cast import (
    ADDRESSES,
    EVERYBODY,
    NAMESPACES,
    PODS,
    WORKLOADS,
    address,
    ask,
    cluster_policy,
    having,
    network_policy,
    receivers,
    security_policy,
    senders,
)

WEB = having(app="web")
ISOLATED = network_policy("closed", policyTypes=["Ingress", "Egress"])
DENIES = [{"action": "Deny", "from": [{"namespaces": {}}]}]
DENIED = cluster_policy(
    "never",
    ingress=DENIES,
    egress=[{"action": "Deny", "to": [{"networks": ["0.0.0.0/0", "::/0"]}]}],
)
FROM_DB = {"action": "Drop", "direction": "In", "sources": [{"podSelector": having(app="db")}]}
DROPPED = security_policy("never", rules=[{"action": "Drop", "direction": way} for way in ("In", "Out")])


def isolation(name, direction="ingress", namespace="red"):
    return Cause(Source("NetworkPolicy", namespace, name), direction)


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", None])
@pytest.mark.parametrize("family", [4, 6])
def test_without_policies_everything_is_allowed_and_nobody_decided(protocol, family):
    for pod in PODS:
        assert senders([], pod, protocol, family=family) == EVERYBODY - {pod}
        assert receivers([], pod, protocol, family=family) == EVERYBODY - {pod}
    verdict = ask([], "red/web", "blue/web", protocol, family=family)
    assert (verdict.action, verdict.causes, verdict.direction) == ("allow", (), None)


def test_what_passes_by_our_pods_is_not_ours_to_decide():
    verdict = ask([ISOLATED, DENIED], "outside", "node1")
    assert (verdict.allowed, verdict.causes, verdict.why) == (True, (), "no pod of ours is at either end")


@pytest.mark.parametrize("sections", [[ISOLATED], [DENIED], [DROPPED], [ISOLATED, DENIED, DROPPED]])
@pytest.mark.parametrize("family", [4, 6])
def test_a_pods_own_node_always_reaches_it_and_another_node_does_not(sections, family):
    assert ask(sections, "node1", "red/web", family=family).allowed
    assert ask(sections, "node2", "red/api", family=family).allowed
    if sections != [DENIED]:  # which is about pods
        assert not ask(sections, "node2", "red/web", family=family).allowed
        assert not ask(sections, "node1", "red/api", family=family).allowed


@pytest.mark.parametrize("sections", [[ISOLATED], [DENIED], [DROPPED], [ISOLATED, DENIED, DROPPED]])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", None])
def test_a_pod_always_reaches_itself(sections, family, protocol):
    assert ask(sections, "red/web", "red/web", protocol, family=family).allowed


def test_a_pod_reaches_its_own_node_whatever_network_policies_say_and_no_other():
    assert receivers([ISOLATED], "red/web") == {"node1"}
    assert receivers([ISOLATED], "red/api") == {"node2"}
    assert receivers([ISOLATED], "red/web", None, 0, family=6) == {"node1"}


def test_a_policy_above_network_policies_may_keep_a_pod_from_its_own_node():
    assert receivers([DENIED], "red/web") == set()
    assert receivers([DROPPED], "red/web") == set()


def test_a_policy_below_network_policies_does_not_keep_a_pod_from_its_own_node():
    last = cluster_policy("last", tier="Baseline", egress=[{"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}])
    between = security_policy(priority=50, rules=[{"action": "Drop", "direction": "Out"}])
    assert receivers([last], "red/web") == {"node1"}
    assert receivers([between], "red/web") == {"node1"}


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ({"podSelector": {}}, False),
        ({"namespaceSelector": {}}, False),
        ({"namespaceSelector": {}, "podSelector": {}}, False),
        ({"ipBlock": {"cidr": "192.168.50.12/32"}}, True),
        ({"ipBlock": {"cidr": "192.168.50.11/32"}}, False),
    ],
)
def test_a_host_network_pod_is_its_node_and_a_peer_by_block_alone(peer, allowed):
    section = network_policy(podSelector=WEB, ingress=[{"from": [peer]}], egress=[{"to": [peer]}])
    assert ask([section], "node2", "red/web").allowed is allowed
    assert ask([section], "red/web", "node2").allowed is allowed


@pytest.mark.parametrize("sender", ["@10.4.1.99", "@10.4.0.0", "@10.4.255.255", "@fd00:10:4::99"])
def test_a_sender_with_a_pods_address_that_no_pod_has_is_dropped(sender):
    everything = network_policy(ingress=[{}])
    verdict = ask([everything], sender, "red/web", family=6 if "::" in sender else 4)
    assert (verdict.action, verdict.direction, verdict.causes) == ("drop", "ingress", ())
    assert "no pod has it" in verdict.why


@pytest.mark.parametrize(
    ("section", "closed"),
    [
        (network_policy(podSelector=WEB, ingress=[{}]), True),
        (network_policy(podSelector=WEB), True),
        (network_policy(podSelector=WEB, egress=[{}], policyTypes=["Egress"]), False),
        (network_policy(podSelector=having(app="db")), False),
        (network_policy(namespace="blue"), False),
        (cluster_policy(ingress=[{"action": "Deny", "from": [{"namespaces": having(team="none")}]}]), True),
        (cluster_policy(egress=[{"action": "Deny", "to": [{"namespaces": {}}]}]), False),
        (cluster_policy(subject={"namespaces": having(team="b")}, ingress=DENIES), False),
        (security_policy(rules=[FROM_DB]), True),
        (security_policy(rules=[{"action": "Drop", "direction": "Out"}, FROM_DB]), True),
        (security_policy(rules=[{**FROM_DB, "appliedTo": [{"podSelector": WEB}]}]), True),
        (security_policy(rules=[{**FROM_DB, "appliedTo": [{"podSelector": having(app="db")}]}]), False),
        (security_policy(appliedTo=[{"podSelector": having(app="db")}], rules=[FROM_DB]), False),
        (baseline.section("allow_cluster", "red"), True),
        (baseline.section("allow_cluster", "blue"), False),
    ],
)
def test_such_a_sender_is_kept_only_from_pods_whose_ingress_a_policy_is_about(section, closed):
    elsewhere = network_policy("elsewhere", namespace="green")
    verdict = ask([elsewhere, section], "@10.4.1.99", "red/web")
    assert (verdict.allowed, verdict.causes) == (not closed, ())


@pytest.mark.parametrize("other", ["@10.3.255.255", "@10.5.0.0"])
def test_beyond_the_pods_blocks_an_unknown_sender_is_somebody_outside(other):
    assert ask([network_policy(ingress=[{}])], other, "red/web").allowed


def test_a_world_may_do_without_nodes_and_blocks():
    where = world([ISOLATED], WORKLOADS, NAMESPACES)
    ends = (address(ADDRESSES["node1"][0]), address(ADDRESSES["red/web"][0]))
    assert not judge(where, Connection(*ends, "tcp", 80)).allowed
    assert not judge(where, Connection(*reversed(ends), "tcp", 80)).allowed


def test_a_receiver_that_no_pod_is_counts_as_outside():
    section = network_policy(podSelector=WEB, egress=[{"to": [{"ipBlock": {"cidr": "10.4.1.99/32"}}]}])
    assert ask([section], "red/web", "@10.4.1.99").allowed
    assert not ask([section], "red/web", "@10.4.1.98").allowed


def test_what_one_policy_allows_no_other_takes_away():
    sections = [
        network_policy("closed", podSelector=WEB),
        network_policy("api", podSelector=WEB, ingress=[{"from": [{"podSelector": having(app="api")}]}]),
        network_policy("blue", ingress=[{"from": [{"namespaceSelector": having(team="b")}], "ports": [{"port": 80}]}]),
        network_policy("db", podSelector=having(app="db"), ingress=[{}]),
    ]
    assert senders(sections, "red/web", "tcp", 80) == {"node1", "red/api", "blue/web", "blue/job"}
    assert senders(sections, "red/web", "tcp", 81) == {"node1", "red/api"}
    assert senders(sections, "red/api", "tcp", 81) == {"node2"}
    assert senders(sections, "red/db", "tcp", 81) == EVERYBODY - {"red/db"}


def test_a_rule_opens_only_the_pods_its_policy_selects():
    sections = [ISOLATED, network_policy(podSelector=having(app="api"), ingress=[{}], policyTypes=["Ingress"])]
    assert senders(sections, "red/web") == {"node1"}
    assert ask(sections, "outside", "red/api").allowed


def test_isolation_names_every_policy_that_isolates_and_no_other():
    sections = [
        network_policy("b", podSelector=WEB, ingress=[{"ports": [{"port": 81}]}]),
        network_policy("a"),
        network_policy("egress-only", policyTypes=["Egress"], egress=[{}]),
        network_policy("of-another-pod", podSelector=having(app="db")),
        network_policy("of-another-namespace", namespace="blue", policyTypes=["Ingress"]),
    ]
    verdict = ask(sections, "outside", "red/web")
    assert (verdict.action, verdict.direction) == ("drop", "ingress")
    assert verdict.causes == (isolation("a"), isolation("b"))
    assert verdict.why == "NetworkPolicy red/a isolates ingress and NetworkPolicy red/b isolates ingress"


def test_the_sender_is_asked_first_and_then_the_receiver():
    out, into = network_policy("out", policyTypes=["Egress"]), network_policy("in", namespace="blue")
    both = ask([out, into], "red/web", "blue/web")
    assert (both.direction, both.causes) == ("egress", (isolation("out", "egress"),))
    receiver = ask([into], "red/web", "blue/web")
    assert (receiver.direction, receiver.causes) == ("ingress", (isolation("in", "ingress", "blue"),))
    assert not ask([out], "red/web", "blue/web").allowed


def test_an_allowed_connection_names_the_rules_at_both_its_ends():
    out = network_policy("out", policyTypes=["Egress"], egress=[{"ports": [{"port": 9}]}, {}])
    one = network_policy("one", namespace="blue", ingress=[{"from": [{"namespaceSelector": {}}]}])
    two = network_policy("two", namespace="blue", ingress=[{"ports": [{"port": 80}]}])
    verdict = ask([two, out, one], "red/web", "blue/web")
    assert verdict.causes == (
        Cause(Source("NetworkPolicy", "red", "out"), "egress", 1),
        Cause(Source("NetworkPolicy", "blue", "one"), "ingress", 0),
        Cause(Source("NetworkPolicy", "blue", "two"), "ingress", 0),
    )
    assert verdict.direction is None


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (Cause(Source("NetworkPolicy", "red", "a"), "egress"), "NetworkPolicy red/a isolates egress"),
        (Cause(Source("NetworkPolicy", "red", "a"), "ingress", 2), "NetworkPolicy red/a ingress rule 2"),
        (Cause(Source("ClusterNetworkPolicy", "", "c"), "egress", 0, "no ssh"),
         "ClusterNetworkPolicy c egress rule 0 (no ssh)"),
    ],
)  # fmt: skip
def test_a_cause_says_which_rule_of_which_policy(cause, text):
    assert str(cause) == text

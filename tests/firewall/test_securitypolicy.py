"""What a SecurityPolicy says of targets, peers, ports and actions; of its place among others see test_tiers.py."""

from __future__ import annotations

import pytest

from firewall.rules import Source
from firewall.verdict import Cause
from tests.firewall.cast import EVERYBODY, PODS, ask, having, receivers, security_policy, senders

WEB, API, DB = having(app="web"), having(app="api"), having(app="db")
RED, BLUE = {"red/web", "red/api", "red/db"}, {"blue/web", "blue/job"}


@pytest.mark.parametrize(("word", "action"), [("Allow", "allow"), ("Drop", "drop"), ("Reject", "reject")])
@pytest.mark.parametrize(
    ("way", "direction"), [("In", "ingress"), ("Ingress", "ingress"), ("Out", "egress"), ("Egress", "egress")]
)
def test_a_rule_says_what_becomes_of_a_connection_in_its_direction(word, action, way, direction):
    section = security_policy(appliedTo=[{"podSelector": WEB}], rules=[{"action": word, "direction": way, "name": "r"}])
    ends = [("outside", "red/web"), ("red/web", "outside")]
    matched, other = ends if direction == "ingress" else ends[::-1]
    verdict = ask([section], *matched)
    assert (verdict.action, verdict.allowed) == (action, action == "allow")
    assert verdict.direction == (None if action == "allow" else direction)
    assert verdict.causes == (Cause(Source("SecurityPolicy", "red", "sp"), direction, 0, "r"),)
    assert ask([section], *other).causes == ()


@pytest.mark.parametrize(
    ("peers", "dropped"),
    [
        (None, EVERYBODY),
        ([], EVERYBODY),
        ([{"podSelector": {}}], RED),
        ([{"podSelector": API}], {"red/api"}),
        ([{"namespaceSelector": having(team="b")}], BLUE),
        ([{"namespaceSelector": {}}], PODS),
        ([{"namespaceSelector": having(team="b"), "podSelector": WEB}], {"blue/web"}),
        ([{"podSelector": API}, {"namespaceSelector": having(team="b")}], {"red/api", *BLUE}),
        ([{"ipBlocks": [{"cidr": "203.0.113.0/24"}]}], {"outside"}),
        ([{"ipBlocks": [{"cidr": "203.0.113.0/24"}, {"cidr": "192.168.50.12/32"}]}], {"outside", "node2"}),
        ([{"ipBlocks": [{"cidr": "10.4.2.0/24"}]}], BLUE),
        ([{"ipBlocks": [{"cidr": "203.0.113.0/24"}], "podSelector": DB}], {"outside", "red/db"}),
        ([{"vmSelector": having(app="web")}], set()),
        ([{"vmSelector": {}}, {"podSelector": DB}], {"red/db"}),
    ],
)
@pytest.mark.parametrize("names", [("sources", "destinations"), ("from", "to")])
def test_peers_are_alternatives_under_either_name(peers, dropped, names):
    into = security_policy(rules=[{"action": "Drop", "direction": "In", names[0]: peers}])
    out = security_policy(rules=[{"action": "Drop", "direction": "Out", names[1]: peers}])
    assert senders([into], "red/web") == EVERYBODY - {"red/web"} - (dropped - {"node1"})  # its own node
    assert receivers([out], "red/web") == EVERYBODY - {"red/web"} - dropped


@pytest.mark.parametrize(
    ("policy_level", "rule_level", "dropped"),
    [
        (None, None, RED),
        ([], [], RED),
        ([{"podSelector": WEB}], None, {"red/web"}),
        ([{"podSelector": {}}], None, RED),
        ([{"podSelector": WEB}, {"podSelector": DB}], None, {"red/web", "red/db"}),
        (None, [{"podSelector": API}], {"red/api"}),
        (None, [{"podSelector": API}, {"podSelector": DB}], {"red/api", "red/db"}),
        ([{"podSelector": WEB}], [{"podSelector": API}], {"red/web"}),
        ([{"podSelector": {}}], [{"podSelector": API}], RED),
        ([{"vmSelector": {}}], [{"podSelector": API}], set()),
        (None, [{"vmSelector": {}}], set()),
        ([{"vmSelector": {}}, {"podSelector": API}], None, {"red/api"}),
    ],
)
def test_a_rules_targets_count_where_the_policy_has_none(policy_level, rule_level, dropped):
    rule = {"action": "Drop", "direction": "In", "appliedTo": rule_level}
    section = security_policy(appliedTo=policy_level, rules=[rule])
    assert not section.fault
    assert {pod for pod in PODS if not ask([section], "outside", pod).allowed} == dropped


def test_each_rule_of_a_policy_may_have_its_own_targets():
    section = security_policy(
        rules=[
            {"action": "Allow", "direction": "In", "appliedTo": [{"podSelector": WEB}]},
            {"action": "Drop", "direction": "In"},
            {"action": "Reject", "direction": "Out", "appliedTo": [{"podSelector": DB}]},
        ]
    )
    actions = {pod: ask([section], "outside", pod).action for pod in sorted(RED)}
    assert actions == {"red/api": "drop", "red/db": "drop", "red/web": "allow"}
    assert {pod: ask([section], pod, "outside").action for pod in sorted(RED)} == {
        "red/api": "allow", "red/db": "reject", "red/web": "allow",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ports", "dropped", "others"),
    [
        (None, [("tcp", 1), ("udp", 1), ("sctp", 1), (None, 0)], []),
        ([], [("tcp", 1), ("udp", 1), ("sctp", 1), (None, 0)], []),
        ([{"port": 80}], [("tcp", 80)], [("tcp", 79), ("tcp", 81), ("udp", 80), (None, 80)]),
        ([{"protocol": "UDP"}], [("udp", 1), ("udp", 65535)], [("tcp", 1), ("sctp", 1), (None, 0)]),
        ([{"protocol": "SCTP", "port": 7}], [("sctp", 7)], [("tcp", 7), ("udp", 7)]),
        ([{"port": 80, "endPort": 90}], [("tcp", 80), ("tcp", 90)], [("tcp", 79), ("tcp", 91), ("udp", 85)]),
        ([{"port": "http"}], [("tcp", 8080)], [("tcp", 80), ("udp", 8080)]),
        ([{"port": "dns"}], [], [("udp", 53), ("tcp", 53)]),
        ([{"port": "dns", "protocol": "UDP"}], [("udp", 53)], [("tcp", 53)]),
        ([{"port": 80}, {"port": "http"}], [("tcp", 80), ("tcp", 8080)], [("tcp", 81)]),
    ],
)
def test_ports_are_of_a_protocol_and_without_them_it_is_every_protocol(ports, dropped, others):
    section = security_policy(rules=[{"action": "Drop", "direction": "In", "ports": ports}])
    assert [each for each in dropped + others if not ask([section], "outside", "red/web", *each).allowed] == dropped


def test_a_named_port_on_the_way_out_is_the_receivers():
    section = security_policy(rules=[{"action": "Drop", "direction": "Out", "ports": [{"port": "http"}]}])
    assert receivers([section], "red/web", "tcp", 80) == EVERYBODY - {"red/web", "red/api"}
    assert receivers([section], "red/web", "tcp", 8081) == EVERYBODY - {"red/web", "blue/web"}


def test_rules_are_asked_in_their_order_and_counted_over_both_directions():
    section = security_policy(
        rules=[
            {"action": "Drop", "direction": "Out", "ports": [{"port": 25}]},
            {"action": "Allow", "direction": "In", "sources": [{"podSelector": API}]},
            {"action": "Reject", "direction": "In", "sources": [{"podSelector": {}}]},
            {"action": "Allow", "direction": "In"},
        ]
    )
    found = {who: ask([section], who, "red/web").causes[0].rule for who in ("red/api", "red/db", "outside")}
    assert found == {"red/api": 1, "red/db": 2, "outside": 3}
    assert ask([section], "red/web", "outside", "tcp", 25).causes[0].rule == 0
    assert {(rule.direction, rule.name) for rule in section.rules} == {("egress", ""), ("ingress", "")}


def test_a_policy_is_about_pods_of_its_own_namespace_only():
    section = security_policy(namespace="blue", rules=[{"action": "Drop", "direction": "In"}])
    assert {pod for pod in PODS if not ask([section], "outside", pod).allowed} == BLUE


@pytest.mark.parametrize("rules", [None, []])
def test_a_policy_without_rules_does_nothing(rules):
    section = security_policy(rules=rules)
    assert (section.fault, section.rules, section.isolates, section.priority) == ("", (), frozenset(), 0)
    assert senders([section], "red/web") == EVERYBODY - {"red/web"}

"""What a NetworkPolicy says of peers and directions; of ports see test_ports.py, of many policies test_verdict.py."""

from __future__ import annotations

import pytest

from firewall.rules import Source
from tests.firewall.cast import EVERYBODY, PODS, ask, having, network_policy, receivers, senders

WEB = having(app="web")
OWN_NODE = {"node1"}  # of red/web: it always reaches it, and is reached by it
OTHERS = EVERYBODY - {"red/web"}
RED, BLUE, GREEN = {"red/api", "red/db"}, {"blue/web", "blue/job"}, {"green/web"}


@pytest.mark.parametrize(
    ("spec", "isolates"),
    [
        ({}, {"ingress"}),
        ({"ingress": []}, {"ingress"}),
        ({"ingress": [{}]}, {"ingress"}),
        ({"egress": []}, {"ingress"}),
        ({"egress": None, "policyTypes": None}, {"ingress"}),
        ({"egress": [{}]}, {"ingress", "egress"}),
        ({"ingress": [{}], "egress": [{}], "policyTypes": []}, {"ingress", "egress"}),
        ({"policyTypes": ["Ingress"]}, {"ingress"}),
        ({"policyTypes": ["Egress"]}, {"egress"}),
        ({"policyTypes": ["Egress", "Ingress"]}, {"ingress", "egress"}),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, {"ingress"}),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, {"egress"}),
    ],
)
def test_the_policy_types_say_what_is_isolated_and_without_them_the_rules_do(spec, isolates):
    section = network_policy(**spec)
    assert not section.fault
    assert section.isolates == isolates
    assert {rule.direction for rule in section.rules} <= isolates


@pytest.mark.parametrize(
    ("spec", "incoming", "outgoing"),
    [
        ({"policyTypes": ["Ingress"]}, OWN_NODE, OTHERS),
        ({"policyTypes": ["Egress"]}, OTHERS, OWN_NODE),
        ({"policyTypes": ["Ingress", "Egress"]}, OWN_NODE, OWN_NODE),
        ({"policyTypes": ["Ingress"], "egress": [{"to": [{"podSelector": {}}]}]}, OWN_NODE, OTHERS),
        ({"policyTypes": ["Ingress", "Egress"], "ingress": [{}]}, OTHERS, OWN_NODE),
        ({"policyTypes": ["Ingress", "Egress"], "egress": [{}]}, OWN_NODE, OTHERS),
    ],
)
def test_only_an_isolated_direction_is_closed_and_only_its_rules_open_it(spec, incoming, outgoing):
    section = network_policy(podSelector=WEB, **spec)
    assert senders([section], "red/web") == incoming
    assert receivers([section], "red/web") == outgoing


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        (None, OWN_NODE),
        ([], OWN_NODE),
        ([{}], OTHERS),
        ([{"from": None}], OTHERS),
        ([{"from": []}], OTHERS),
        ([{"from": [], "ports": []}], OTHERS),
        ([{"from": [{"podSelector": {}}]}], OWN_NODE | RED),
        ([{"from": [{"namespaceSelector": {}}]}], OWN_NODE | PODS - {"red/web"}),
        ([{"from": [{"podSelector": {}, "namespaceSelector": {}}]}], OWN_NODE | PODS - {"red/web"}),
        ([{"from": [{"podSelector": {}, "namespaceSelector": None, "ipBlock": None}]}], OWN_NODE | RED),
    ],
)
def test_a_missing_or_empty_list_of_peers_is_anybody_and_an_empty_selector_is_pods(rules, allowed):
    assert senders([network_policy(podSelector=WEB, ingress=rules)], "red/web") == allowed


@pytest.mark.parametrize(
    ("peers", "allowed"),
    [
        ([{"podSelector": having(app="api")}], {"red/api"}),
        ([{"namespaceSelector": having(team="b")}], BLUE),
        ([{"namespaceSelector": having(team="b"), "podSelector": WEB}], {"blue/web"}),
        ([{"namespaceSelector": having(team="b")}, {"podSelector": having(app="api")}], {*BLUE, "red/api"}),
        ([{"namespaceSelector": having(env="prod"), "podSelector": having(stage="back")}], RED),
        ([{"namespaceSelector": {}, "podSelector": WEB}], {"blue/web", "green/web"}),
        ([{"podSelector": having(app="web", stage="back")}], set()),
        (
            [{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}],
            GREEN,
        ),
        (
            [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]},
              "namespaceSelector": having(env="prod")}],
            {"red/api", *BLUE},
        ),
        ([{"ipBlock": {"cidr": "203.0.113.0/24"}}], {"outside"}),
        ([{"ipBlock": {"cidr": "10.4.2.0/24"}}], BLUE),
        ([{"ipBlock": {"cidr": "10.4.2.0/24", "except": ["10.4.2.3/32"]}}, {"podSelector": having(app="db")}],
         {"blue/web", "red/db"}),
        ([{"ipBlock": {"cidr": "10.4.2.0/24", "except": ["10.4.2.3/32"]}}, {"ipBlock": {"cidr": "10.4.2.3/32"}}], BLUE),
        ([{"ipBlock": {"cidr": "0.0.0.0/0"}}], OTHERS),
        ([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.4.0.0/16"]}}], {"outside", "node2"}),
        ([{"ipBlock": {"cidr": "::/0"}}], set()),
    ],
)  # fmt: skip
def test_peers_are_alternatives_and_what_one_peer_says_holds_together(peers, allowed):
    ingress = network_policy(podSelector=WEB, ingress=[{"from": peers}])
    assert senders([ingress], "red/web") == OWN_NODE | allowed
    egress = network_policy(podSelector=WEB, egress=[{"to": peers}], policyTypes=["Egress"])
    assert receivers([egress], "red/web") == OWN_NODE | allowed


def test_a_block_of_one_family_says_nothing_of_the_other():
    section = network_policy(podSelector=WEB, ingress=[{"from": [{"ipBlock": {"cidr": "2001:db8::/32"}}]}])
    assert senders([section], "red/web", family=6) == OWN_NODE | {"outside"}
    assert senders([section], "red/web", family=4) == OWN_NODE


@pytest.mark.parametrize(
    ("cidr", "but", "allowed", "refused"),
    [
        ("203.0.112.0/23", "203.0.113.64/26",
         ["203.0.112.0", "203.0.113.63", "203.0.113.128", "203.0.113.255"],
         ["203.0.111.255", "203.0.113.64", "203.0.113.127", "203.0.114.0"]),
        ("2001:db8::/32", "2001:db8:8::/48",
         ["2001:db8::", "2001:db8:7:ffff:ffff:ffff:ffff:ffff", "2001:db8:9::",
          "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
         ["2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8:8::", "2001:db8:8:ffff:ffff:ffff:ffff:ffff",
          "2001:db9::"]),
    ],
)  # fmt: skip
def test_a_block_reaches_to_its_first_and_last_address_and_so_do_its_exceptions(cidr, but, allowed, refused):
    family = 6 if ":" in cidr else 4
    block = [{"ipBlock": {"cidr": cidr, "except": [but]}}]
    section = network_policy(podSelector=WEB, ingress=[{"from": block}], egress=[{"to": block}])
    for text in allowed + refused:
        for ends in ((f"@{text}", "red/web"), ("red/web", f"@{text}")):
            assert ask([section], *ends, family=family).allowed is (text in allowed), ends


@pytest.mark.parametrize(
    ("selector", "isolated"),
    [
        ({}, {"red/web", "red/api", "red/db"}),
        (None, {"red/web", "red/api", "red/db"}),
        (having(app="web"), {"red/web"}),
        (having(stage="back"), RED),
        ({"matchExpressions": [{"key": "stage", "operator": "Exists"}]}, {"red/web", "red/api", "red/db"}),
        (having(app="none"), set()),
    ],
)
def test_a_policy_is_about_pods_of_its_own_namespace_only(selector, isolated):
    section = network_policy(podSelector=selector)
    assert {pod for pod in PODS if not ask([section], "outside", pod).allowed} == isolated


def test_labels_of_a_policys_own_namespace_are_not_asked_for_a_peer_by_pod_alone():
    blue = network_policy(namespace="blue", podSelector=WEB, ingress=[{"from": [{"podSelector": WEB}]}])
    assert senders([blue], "blue/web") == {"node2"}


def test_rules_are_alternatives_and_each_is_counted_within_its_direction():
    section = network_policy(
        podSelector=WEB,
        ingress=[{"from": [{"podSelector": having(app="db")}]}, {"from": [{"namespaceSelector": having(team="b")}]}],
        egress=[{"to": [{"podSelector": having(app="db")}]}],
    )
    assert senders([section], "red/web") == OWN_NODE | {"red/db", *BLUE}
    assert receivers([section], "red/web") == OWN_NODE | {"red/db"}
    assert [(rule.direction, rule.index) for rule in section.rules] == [("ingress", 0), ("ingress", 1), ("egress", 0)]


def test_a_section_knows_the_object_it_is_from():
    section = network_policy("np", namespace="red")
    assert section.source == Source("NetworkPolicy", "red", "np")
    assert (str(section.source), section.key, section.tier) == (
        "NetworkPolicy red/np", "NetworkPolicy/red/np", "NetworkPolicy",
    )  # fmt: skip

"""What a ClusterNetworkPolicy says of subjects, peers and protocols; of tiers see test_tiers.py."""

from __future__ import annotations

import pytest

from firewall.rules import Source
from firewall.verdict import Cause
from tests.firewall.cast import EVERYBODY, PODS, ask, cluster_policy, having, network_policy, receivers, senders

ANYBODY = [{"namespaces": {}}]
RED, BLUE = {"red/web", "red/api", "red/db"}, {"blue/web", "blue/job"}


@pytest.mark.parametrize(
    ("subject", "selected"),
    [
        ({"namespaces": {}}, PODS),
        ({"namespaces": having(team="b")}, BLUE),
        ({"namespaces": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}, {"green/web"}),
        ({"pods": {"podSelector": {}}}, PODS),
        ({"pods": {"podSelector": having(app="web")}}, {"red/web", "blue/web", "green/web"}),
        ({"pods": {"namespaceSelector": having(team="b"), "podSelector": having(app="web")}}, {"blue/web"}),
        ({"namespaces": having(team="c")}, set()),
    ],
)  # fmt: skip
def test_the_subject_is_whole_namespaces_or_pods_of_some(subject, selected):
    section = cluster_policy(subject=subject, ingress=[{"action": "Deny", "from": ANYBODY}])
    refused = {pod for pod in PODS if not ask([section], "blue/job" if pod != "blue/job" else "red/db", pod).allowed}
    assert refused == selected


@pytest.mark.parametrize(
    ("peers", "denied"),
    [
        ([{"namespaces": {}}], PODS - {"red/web"}),
        ([{"namespaces": having(team="b")}], BLUE),
        ([{"pods": {"podSelector": having(app="web")}}], {"blue/web", "green/web"}),
        ([{"pods": {"namespaceSelector": having(team="b"), "podSelector": having(app="web")}}], {"blue/web"}),
        ([{"pods": {"namespaceSelector": {}, "podSelector": {}}}], PODS - {"red/web"}),
        ([{"namespaces": having(team="b")}, {"pods": {"podSelector": having(app="api")}}], {*BLUE, "red/api"}),
        ([{"namespaces": having(team="c")}], set()),
    ],
)
def test_peers_are_pods_in_both_directions_and_alternatives(peers, denied):
    section = cluster_policy(
        ingress=[{"action": "Deny", "from": peers}], subject={"pods": {"podSelector": having(stage="front")}}
    )
    assert senders([section], "red/web") == EVERYBODY - {"red/web"} - denied
    section = cluster_policy(egress=[{"action": "Deny", "to": peers}])
    assert receivers([section], "red/web") == EVERYBODY - {"red/web"} - denied


@pytest.mark.parametrize(
    ("networks", "family", "denied"),
    [
        (["203.0.113.0/24"], 4, {"outside"}),
        (["203.0.113.0/24"], 6, set()),
        (["192.168.50.0/24", "203.0.113.9/32"], 4, {"node1", "node2", "outside"}),
        (["10.4.2.0/24"], 4, BLUE),
        (["0.0.0.0/0"], 4, EVERYBODY - {"red/web"}),
        (["0.0.0.0/0"], 6, set()),
        (["::/0"], 6, EVERYBODY - {"red/web"}),
        (["2001:db8::/32", "fd00:10:4:2::/64"], 6, {"outside", *BLUE}),
    ],
)
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", None])
def test_networks_count_every_address_pods_too_and_every_protocol(networks, family, denied, protocol):
    section = cluster_policy(egress=[{"action": "Deny", "to": [{"networks": networks}]}])
    assert receivers([section], "red/web", protocol, family=family) == EVERYBODY - {"red/web"} - denied


@pytest.mark.parametrize(
    ("protocols", "denied", "others"),
    [
        ([{"tcp": {"destinationPort": {"number": 80}}}], [("tcp", 80)], [("tcp", 79), ("tcp", 81), ("udp", 80)]),
        ([{"tcp": {"destinationPort": {"number": 1}}}], [("tcp", 1)], [("tcp", 2)]),
        ([{"tcp": {"destinationPort": {"number": 65535}}}], [("tcp", 65535)], [("tcp", 65534)]),
        ([{"udp": {"destinationPort": {"number": 53}}}], [("udp", 53)], [("udp", 54), ("tcp", 53), ("sctp", 53)]),
        ([{"sctp": {"destinationPort": {"number": 7}}}], [("sctp", 7)], [("sctp", 8), ("tcp", 7), ("udp", 7)]),
        (
            [{"tcp": {"destinationPort": {"range": {"start": 80, "end": 90}}}}],
            [("tcp", 80), ("tcp", 90)],
            [("tcp", 79), ("tcp", 91), ("udp", 85), (None, 85)],
        ),
        (
            [{"tcp": {"destinationPort": {"range": {"start": 1, "end": 65535}}}}],
            [("tcp", 1), ("tcp", 65535)],
            [("udp", 1), ("sctp", 1), (None, 0)],
        ),
        (
            [{"tcp": {"destinationPort": {"number": 80}}}, {"udp": {"destinationPort": {"number": 53}}}],
            [("tcp", 80), ("udp", 53)],
            [("tcp", 53), ("udp", 80)],
        ),
        ([{"destinationNamedPort": "http"}], [("tcp", 8081)], [("udp", 8081), ("tcp", 8080), (None, 8081)]),
        ([{"destinationNamedPort": "dns"}], [("tcp", 5353), ("udp", 5353)], [("sctp", 5353), ("udp", 53)]),
        ([{"destinationNamedPort": "gone"}], [], [("tcp", 8081), ("tcp", 80)]),
        (None, [("tcp", 1), ("udp", 65535), ("sctp", 7), (None, 0)], []),
    ],
)  # fmt: skip
def test_protocols_are_alternatives_and_without_them_it_is_every_protocol(protocols, denied, others):
    rule = {"action": "Deny", "protocols": protocols}
    into = cluster_policy(subject={"namespaces": having(team="b")}, ingress=[rule | {"from": ANYBODY}])
    out = cluster_policy(egress=[rule | {"to": ANYBODY}])
    for section in (into, out):
        refused = [each for each in denied + others if not ask([section], "red/web", "blue/web", *each).allowed]
        assert refused == denied


def test_a_policy_without_rules_for_a_direction_does_not_touch_it():
    web = {"pods": {"namespaceSelector": having(team="a"), "podSelector": having(app="web")}}
    into = cluster_policy(subject=web, ingress=[{"action": "Deny", "from": ANYBODY}])
    assert receivers([into], "red/web") == EVERYBODY - {"red/web"}
    out = cluster_policy(subject=web, egress=[{"action": "Deny", "to": ANYBODY}])
    assert senders([out], "red/web") == EVERYBODY - {"red/web"}
    nothing = cluster_policy()
    assert (nothing.fault, nothing.rules) == ("", ())


def test_what_egress_accepts_ingress_still_decides():
    sections = [
        cluster_policy(egress=[{"action": "Accept", "to": ANYBODY}]),
        cluster_policy("into", subject={"namespaces": having(team="b")}, ingress=[{"action": "Deny", "from": ANYBODY}]),
        network_policy("green", namespace="green"),
    ]
    denied, isolated = (ask(sections, "red/web", to) for to in ("blue/web", "green/web"))
    assert (denied.action, denied.direction, denied.causes[0].source.name) == ("drop", "ingress", "into")
    assert (isolated.action, isolated.direction, isolated.causes[0].source.name) == ("drop", "ingress", "green")


def test_the_first_rule_that_matches_decides_and_is_named():
    def rule(action, name, **labels):
        return {"action": action, "name": name, "from": [{"pods": {"podSelector": having(**labels)}}]}

    section = cluster_policy(
        ingress=[rule("Accept", "api", app="api"), rule("Deny", "back", stage="back"), rule("Accept", "db", app="db")]
    )
    assert ask([section], "red/api", "red/web").allowed
    verdict = ask([section], "red/db", "red/web")
    assert verdict.causes == (Cause(Source("ClusterNetworkPolicy", "", "cnp"), "ingress", 1, "back"),)
    assert str(verdict.causes[0]) == "ClusterNetworkPolicy cnp ingress rule 1 (back)"


def test_rules_of_the_two_directions_are_counted_apart():
    section = cluster_policy(ingress=[{"action": "Deny", "from": ANYBODY}], egress=[{"action": "Deny", "to": ANYBODY}])
    assert [(r.direction, r.index, r.name) for r in section.rules] == [("ingress", 0, ""), ("egress", 0, "")]


def test_twenty_five_rules_in_each_direction_are_allowed():
    none = {"namespaces": having(team="none")}
    section = cluster_policy(
        ingress=[{"action": "Accept", "from": [none]}] * 24 + [{"action": "Deny", "from": ANYBODY}],
        egress=[{"action": "Accept", "to": [none]}] * 25,
    )
    assert (section.fault, len(section.rules)) == ("", 50)
    assert ask([section], "blue/job", "red/web").causes[0].rule == 24


UNKNOWN_PEERS = [
    {}, {"nodes": having(zone="a")}, {"domainNames": ["example.com"]}, {"namespaces": {}, "pods": {"podSelector": {}}},
]  # fmt: skip
UNKNOWN_PROTOCOLS = [
    {}, {"icmp": {}}, {"destinationNamedPort": 80}, {"http": {"path": "/"}},
    {"tcp": {"destinationPort": {"list": [80, 81]}}},
    {"tcp": {"destinationPort": {"number": 80}}, "udp": {"destinationPort": {"number": 80}}},
]  # fmt: skip
UNKNOWN = [
    *[("egress", {"to": [each]}) for each in UNKNOWN_PEERS],
    *[("ingress", {"from": [each]}) for each in [*UNKNOWN_PEERS, {"networks": ["0.0.0.0/0"]}]],
    *[("egress", {"to": ANYBODY, "protocols": [each]}) for each in UNKNOWN_PROTOCOLS],
    *[("ingress", {"from": ANYBODY, "protocols": [each]}) for each in UNKNOWN_PROTOCOLS],
]


@pytest.mark.parametrize(("direction", "unknown"), UNKNOWN)
def test_accept_with_a_kind_of_peer_or_protocol_that_is_not_known_matches_nothing(direction, unknown):
    section = cluster_policy(**{direction: [{"action": "Accept", **unknown}]})
    isolated = network_policy(policyTypes=["Ingress", "Egress"])
    assert not section.fault
    assert senders([section, isolated], "red/web") == {"node1"}
    assert receivers([section, isolated], "red/web") == {"node1"}


@pytest.mark.parametrize("action", ["Deny", "Pass"])
@pytest.mark.parametrize(("direction", "unknown"), UNKNOWN)
def test_deny_or_pass_with_a_kind_of_peer_or_protocol_that_is_not_known_denies_all(action, direction, unknown):
    section = cluster_policy(**{direction: [{"action": action, **unknown}]})
    allowing = network_policy(ingress=[{}], egress=[{}])
    assert not section.fault
    for protocol in ("tcp", "udp", "sctp", None):
        if direction == "ingress":
            assert senders([section, allowing], "red/web", protocol) == {"node1"}
            assert "outside" in receivers([section, allowing], "red/web", protocol)
        else:
            assert receivers([section, allowing], "red/web", protocol) == set()
            assert "outside" in senders([section, allowing], "red/web", protocol)


def test_a_known_peer_beside_an_unknown_one_does_not_keep_a_denial_small():
    rule = {"action": "Deny", "to": [{"namespaces": having(team="b")}, {"nodes": {}}]}
    assert receivers([cluster_policy(egress=[rule])], "red/web") == set()


def test_a_rule_above_one_that_fails_closed_still_decides_first():
    section = cluster_policy(
        egress=[
            {"action": "Accept", "to": [{"namespaces": having(team="b")}]},
            {"action": "Deny", "to": [{"nodes": {}}]},
        ]
    )
    assert receivers([section], "red/web") == BLUE

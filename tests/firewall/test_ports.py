"""Ports of NetworkPolicies: protocols, ranges and names."""

from __future__ import annotations

import pytest

from tests.firewall.cast import ask, having, network_policy, receivers, senders

ICMP = None


def allows(ports, protocol, port, *, to="red/web"):
    """Whether an ingress rule with these ports lets blue/job in."""
    section = network_policy(namespace=to.partition("/")[0], ingress=[{"ports": ports}])
    assert not section.fault
    return ask([section], "blue/job" if to != "blue/job" else "blue/web", to, protocol, port).allowed


@pytest.mark.parametrize(
    ("port", "allowed", "refused"),
    [
        ({"port": 80}, [("tcp", 80)], [("tcp", 79), ("tcp", 81), ("udp", 80), ("sctp", 80), (ICMP, 0), (ICMP, 80)]),
        ({"port": 53, "protocol": "UDP"}, [("udp", 53)], [("udp", 54), ("tcp", 53), ("sctp", 53), (ICMP, 53)]),
        ({"port": 7, "protocol": "SCTP"}, [("sctp", 7)], [("sctp", 8), ("tcp", 7), ("udp", 7), (ICMP, 7)]),
        ({"protocol": "TCP"}, [("tcp", 1), ("tcp", 65535)], [("udp", 1), ("sctp", 1), (ICMP, 0)]),
        ({"protocol": "UDP"}, [("udp", 1), ("udp", 65535)], [("tcp", 1), ("sctp", 1), (ICMP, 0)]),
        ({"protocol": "SCTP"}, [("sctp", 1), ("sctp", 65535)], [("tcp", 1), ("udp", 1), (ICMP, 0)]),
        ({}, [("tcp", 1), ("tcp", 65535)], [("udp", 1), ("sctp", 1), (ICMP, 0)]),
        ({"port": 1, "endPort": 1}, [("tcp", 1)], [("tcp", 2)]),
        ({"port": 80, "endPort": 80}, [("tcp", 80)], [("tcp", 79), ("tcp", 81)]),
        (
            {"port": 80, "endPort": 90},
            [("tcp", 80), ("tcp", 85), ("tcp", 90)],
            [("tcp", 79), ("tcp", 91), ("udp", 85), ("sctp", 85), (ICMP, 85)],
        ),
        ({"port": 1, "endPort": 65535}, [("tcp", 1), ("tcp", 65535)], [("udp", 1), (ICMP, 1)]),
        ({"port": 65535}, [("tcp", 65535)], [("tcp", 65534)]),
        ({"port": 5, "endPort": 6, "protocol": "SCTP"}, [("sctp", 5), ("sctp", 6)], [("sctp", 4), ("sctp", 7)]),
    ],
)  # fmt: skip
def test_a_port_is_of_one_protocol_and_a_range_holds_both_its_ends(port, allowed, refused):
    assert {each: allows([port], *each) for each in allowed + refused} == {
        **dict.fromkeys(allowed, True),
        **dict.fromkeys(refused, False),
    }


@pytest.mark.parametrize("ports", [None, []])
@pytest.mark.parametrize(("protocol", "port"), [("tcp", 80), ("udp", 53), ("sctp", 7), (ICMP, 0)])
def test_a_rule_without_ports_is_about_every_protocol(ports, protocol, port):
    assert allows(ports, protocol, port)


def test_ports_are_alternatives():
    ports = [{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": "http"}]
    asked = [("tcp", 80), ("udp", 53), ("tcp", 8080), ("tcp", 53), ("udp", 80)]
    assert [allows(ports, *each) for each in asked] == [True, True, True, False, False]


def test_peers_and_ports_of_a_rule_must_both_match_and_rules_do_not_lend_each_other_theirs():
    section = network_policy(
        podSelector=having(app="web"),
        ingress=[
            {"from": [{"podSelector": having(app="api")}], "ports": [{"port": 80}]},
            {"from": [{"podSelector": having(app="db")}], "ports": [{"port": 81}]},
        ],
    )
    assert senders([section], "red/web", "tcp", 80) == {"node1", "red/api"}
    assert senders([section], "red/web", "tcp", 81) == {"node1", "red/db"}
    assert senders([section], "red/web", ICMP, 0) == {"node1"}


@pytest.mark.parametrize(
    ("port", "to", "allowed", "refused"),
    [
        ({"port": "http"}, "red/web", [("tcp", 8080)], [("tcp", 80), ("udp", 8080), ("sctp", 8080), (ICMP, 8080)]),
        ({"port": "http"}, "red/api", [("tcp", 80)], [("tcp", 8080)]),
        ({"port": "http"}, "blue/web", [("tcp", 8081)], [("tcp", 80), ("tcp", 8080)]),
        ({"port": "http"}, "red/db", [], [("tcp", 80), ("tcp", 8080)]),
        ({"port": "http", "protocol": "UDP"}, "red/web", [], [("tcp", 8080), ("udp", 8080)]),
        ({"port": "dns", "protocol": "UDP"}, "red/web", [("udp", 53)], [("tcp", 53)]),
        ({"port": "dns"}, "red/web", [], [("udp", 53), ("tcp", 53)]),
        ({"port": "dns"}, "red/api", [("tcp", 53)], [("udp", 53)]),
        ({"port": "dns"}, "blue/web", [("tcp", 5353)], [("udp", 5353)]),
        ({"port": "dns", "protocol": "UDP"}, "blue/web", [("udp", 5353)], [("tcp", 5353)]),
        ({"port": "nothing"}, "red/web", [], [("tcp", 8080), ("udp", 53)]),
    ],
)
def test_a_named_port_is_the_receivers_port_of_that_name_and_protocol(port, to, allowed, refused):
    found = {each: allows([port], *each, to=to) for each in allowed + refused}
    assert found == {**dict.fromkeys(allowed, True), **dict.fromkeys(refused, False)}


@pytest.mark.parametrize(
    ("number", "reached"),
    [(80, {"red/api"}), (8081, {"blue/web"}), (8080, set()), (443, set())],
)
def test_on_the_way_out_a_named_port_is_another_on_every_receiver(number, reached):
    section = network_policy(
        podSelector=having(app="web"), policyTypes=["Egress"],
        egress=[{"to": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}],
    )  # fmt: skip
    assert receivers([section], "red/web", "tcp", number) == {"node1"} | reached


@pytest.mark.parametrize("to", [[], [{"ipBlock": {"cidr": "0.0.0.0/0"}}]])
def test_a_named_port_is_on_no_node_and_nowhere_outside_but_on_a_pod_that_a_block_names(to):
    section = network_policy(
        podSelector=having(app="web"), policyTypes=["Egress"], egress=[{"to": to, "ports": [{"port": "http"}]}]
    )
    assert receivers([section], "red/web", "tcp", 80) == {"node1", "red/api"}
    assert receivers([section], "red/web", "tcp", 8081) == {"node1", "blue/web"}


def test_on_the_way_out_numbers_count_at_the_destination_whoever_it_is():
    section = network_policy(policyTypes=["Egress"], egress=[{"ports": [{"port": 443, "endPort": 445}]}])
    assert "outside" in receivers([section], "red/web", "tcp", 445)
    assert receivers([section], "red/web", "tcp", 446) == {"node1"}

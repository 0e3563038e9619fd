"""What holds of any policies: their order does not matter, a rule only adds, and a second reading of the API agrees."""

from __future__ import annotations

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from firewall import baseline
from tests.firewall.cast import (
    ADDRESSES,
    EVERYBODY,
    NAMESPACES,
    WORKLOADS,
    ask,
    cluster_policy,
    having,
    network_policy,
    security_policy,
)

SELECTORS = [
    {},
    having(app="web"),
    having(stage="back"),
    {"matchExpressions": [{"key": "stage", "operator": "DoesNotExist"}]},
]
SPACES = [{}, having(team="a"), having(env="prod"), {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}]
BLOCKS = [
    {"cidr": "0.0.0.0/0", "except": ["10.4.2.0/24", "192.168.50.12/32"]},
    {"cidr": "10.4.0.0/16", "except": ["10.4.1.0/24"]},
    {"cidr": "203.0.113.9/32"},
    {"cidr": "::/0"},
]
PORTS = [{"port": 80}, {"protocol": "UDP"}, {"port": "http"}, {"port": 8080, "endPort": 8090}, {"port": "dns"}]

peers = st.one_of(
    st.builds(lambda pods: {"podSelector": pods}, st.sampled_from(SELECTORS)),
    st.builds(lambda spaces: {"namespaceSelector": spaces}, st.sampled_from(SPACES)),
    st.builds(
        lambda pods, spaces: {"podSelector": pods, "namespaceSelector": spaces},
        st.sampled_from(SELECTORS),
        st.sampled_from(SPACES),
    ),
    st.builds(lambda block: {"ipBlock": block}, st.sampled_from(BLOCKS)),
)
openings = st.builds(
    lambda who, ports: (who, ports), st.lists(peers, max_size=2), st.lists(st.sampled_from(PORTS), max_size=2)
)
specs = st.fixed_dictionaries(
    {
        "podSelector": st.sampled_from(SELECTORS),
        "ingress": st.lists(openings.map(lambda o: {"from": o[0], "ports": o[1]}), max_size=2),
        "egress": st.lists(openings.map(lambda o: {"to": o[0], "ports": o[1]}), max_size=2),
        "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
    }
)
policies = st.tuples(st.sampled_from(sorted(NAMESPACES)), specs)
connections = st.tuples(
    st.sampled_from(sorted(EVERYBODY)),
    st.sampled_from(sorted(EVERYBODY)),
    st.sampled_from([("tcp", 80), ("tcp", 8080), ("tcp", 8081), ("tcp", 53), ("udp", 53), ("sctp", 80), (None, 0)]),
    st.sampled_from((4, 6)),
)
asked = st.lists(connections, min_size=1, max_size=5)


def verdict(sections, connection):
    source, destination, what, family = connection
    return ask(sections, source, destination, *what, family=family)


def read(written):
    return [network_policy(f"np{n}", namespace=namespace, **spec) for n, (namespace, spec) in enumerate(written)]


@given(st.lists(policies, min_size=1, max_size=4), st.data(), openings, st.booleans(), asked)
@settings(deadline=None, max_examples=60)
def test_one_more_rule_never_turns_allowed_into_dropped(written, data, opening, at_egress, questions):
    index = data.draw(st.integers(0, len(written) - 1))
    namespace, spec = written[index]
    direction, side = ("egress", "to") if at_egress else ("ingress", "from")
    richer = {**spec, direction: [*spec[direction], {side: opening[0], "ports": opening[1]}]}
    before, after = read(written), read([*written[:index], (namespace, richer), *written[index + 1 :]])
    for each in questions:
        assert verdict(after, each).allowed or not verdict(before, each).allowed


@given(st.lists(policies, max_size=3), policies, asked)
@settings(deadline=None, max_examples=60)
def test_one_more_policy_on_pods_that_are_isolated_already_never_turns_allowed_into_dropped(written, added, questions):
    isolating = [(namespace, {"policyTypes": ["Ingress", "Egress"]}) for namespace in NAMESPACES]
    before, after = read([*isolating, *written]), read([*isolating, *written, added])
    for each in questions:
        assert verdict(after, each).allowed or not verdict(before, each).allowed


def cluster_rule(direction, action, who):
    return {direction: [{"action": action, "from" if direction == "ingress" else "to": [{"namespaces": who}]}]}


cluster_policies = st.builds(
    lambda tier, priority, spec: {"tier": tier, "priority": priority, **spec},
    st.sampled_from(["Admin", "Baseline"]),
    st.integers(0, 1),
    st.builds(
        cluster_rule,
        st.sampled_from(["ingress", "egress"]),
        st.sampled_from(["Accept", "Deny", "Pass"]),
        st.sampled_from(SPACES),
    ),
)
security_policies = st.builds(
    lambda priority, action, way: {"priority": priority, "rules": [{"action": action, "direction": way}]},
    st.sampled_from([0, 10, 99]),
    st.sampled_from(["Allow", "Drop", "Reject"]),
    st.sampled_from(["In", "Out"]),
)


@given(
    st.lists(policies, max_size=3), st.lists(cluster_policies, max_size=3), st.lists(security_policies, max_size=2),
    st.booleans(), st.data(), asked,
)  # fmt: skip
@settings(deadline=None)
def test_the_order_in_which_sections_are_given_does_not_matter(nps, cnps, sps, based, data, questions):
    sections = [
        *read(nps),
        *(cluster_policy(f"cnp{n}", **spec) for n, spec in enumerate(cnps)),
        *(security_policy(f"sp{n}", **spec) for n, spec in enumerate(sps)),
        *(baseline.section("allow_namespace", namespace) for namespace in NAMESPACES if based),
    ]
    shuffled = data.draw(st.permutations(sections))
    for each in questions:
        assert verdict(sections, each) == verdict(shuffled, each)


PODS = {each.name: each.identity for each in WORKLOADS}
NODE_OF = {each.name: each.node for each in WORKLOADS}


def selects(selector, labels):
    """The selectors above, and no others."""
    for each in selector.get("matchExpressions", []):
        if each["key"] in labels:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer, namespace, who, family):
    """Whether one of the cast is who a peer of a policy in a namespace means."""
    if "ipBlock" in peer:
        at = ipaddress.ip_address(ADDRESSES[who][family == 6])
        within, *but = [
            ipaddress.ip_network(each) for each in (peer["ipBlock"]["cidr"], *peer["ipBlock"].get("except", []))
        ]
        return at in within and not any(at in each for each in but)
    if who not in PODS:
        return False
    home = PODS[who].namespace
    if "namespaceSelector" in peer:
        home_is_meant = selects(peer["namespaceSelector"], dict(NAMESPACES[home]))
    else:
        home_is_meant = home == namespace
    return home_is_meant and selects(peer.get("podSelector", {}), dict(PODS[who].labels))


def is_port(port, receiver, what):
    protocol, number = what
    if protocol != port.get("protocol", "TCP").lower():
        return False
    if isinstance(port.get("port"), str):
        return (port["port"], protocol, number) in (PODS[receiver].ports if receiver in PODS else ())
    return port.get("port", 0) <= number <= port.get("endPort", port.get("port", 65535))


def may(written, connection, direction):
    """One end's view: not isolated, or let by any rule of any policy that isolates it."""
    source, destination, what, family = connection
    own, other = (destination, source) if direction == "Ingress" else (source, destination)
    if own not in PODS or own == other or other == NODE_OF[own]:
        return True
    found = [
        (namespace, spec)
        for namespace, spec in written
        if namespace == PODS[own].namespace and direction in spec["policyTypes"]
        and selects(spec["podSelector"], dict(PODS[own].labels))
    ]  # fmt: skip
    return not found or any(
        (not who or any(is_peer(each, namespace, other, family) for each in who))
        and (not rule["ports"] or any(is_port(each, destination, what) for each in rule["ports"]))
        for namespace, spec in found
        for rule in spec[direction.lower()]
        for who in [rule["from" if direction == "Ingress" else "to"]]
    )


@given(st.lists(policies, max_size=4), asked)
@settings(deadline=None)
def test_the_oracle_agrees_with_a_second_reading_of_network_policies(written, questions):
    sections = read(written)
    assert not [each.fault for each in sections if each.fault]
    for each in questions:
        expected = may(written, each, "Egress") and may(written, each, "Ingress")
        assert verdict(sections, each).allowed is expected, each

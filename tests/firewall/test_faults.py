"""Policies that cannot be understood: they say which field and value, and close what they select."""

from __future__ import annotations

import itertools

import pytest

from tests.firewall.cast import (
    EVERYBODY,
    PODS,
    ask,
    cluster_policy,
    having,
    network_policy,
    receivers,
    security_policy,
    senders,
)

WEB = having(app="web")
ANYBODY = [{"namespaces": {}}]
RED = {"red/web", "red/api", "red/db"}


def expression(operator, *values):
    return {"matchExpressions": [{"key": "app", "operator": operator, "values": list(values)}]}


def into(**rule):
    return {"ingress": [{}, rule]}


def peer(**fields):
    return into(**{"from": [{"podSelector": {}}, fields]})


def ports(**fields):
    return into(ports=[{"port": 80}, fields])


HERE, PEER, PORT = "spec.ingress[1]", "spec.ingress[1].from[1]", "spec.ingress[1].ports[1]"
NETWORK_POLICIES = [
    ({"podSelector": expression("Like", "x")}, "spec.podSelector.matchExpressions[0].operator: 'Like'"),
    ({"podSelector": expression("In")}, "spec.podSelector.matchExpressions[0].values: []"),
    ({"podSelector": expression("Exists", "x")}, "spec.podSelector.matchExpressions[0].values: ['x']"),
    ({"podSelector": "app=web"}, "spec.podSelector: 'app=web'"),
    ({"policyTypes": ["Ingress", "Both"]}, "spec.policyTypes[1]: 'Both'"),
    ({"policyTypes": "Ingress"}, "spec.policyTypes: 'Ingress'"),
    ({"ingress": {"from": []}}, "spec.ingress: {'from': []}"),
    ({"ingress": ["any"]}, "spec.ingress[0]: 'any'"),
    (into(**{"from": "any"}), f"{HERE}.from: 'any'"),
    (into(ports=80), f"{HERE}.ports: 80"),
    (peer(), f"{PEER}: says nobody"),
    (peer(vmSelector={}), f"{PEER}: says nobody"),
    (peer(podSelector=expression("NotIn")), f"{PEER}.podSelector.matchExpressions[0].values: []"),
    (peer(namespaceSelector=expression("in", "x")), f"{PEER}.namespaceSelector.matchExpressions[0].operator: 'in'"),
    (peer(ipBlock={"cidr": "10.0.0.0/8"}, podSelector={}), f"{PEER}: ipBlock stands beside podSelector"),
    (peer(ipBlock={"cidr": "10.0.0.0/8"}, namespaceSelector={}), f"{PEER}: ipBlock stands beside namespaceSelector"),
    (peer(ipBlock={"cidr": "10.0.0.0/33"}), f"{PEER}.ipBlock.cidr: '10.0.0.0/33'"),
    (peer(ipBlock={"cidr": "10.0.0.1"}), f"{PEER}.ipBlock.cidr: '10.0.0.1'"),
    (peer(ipBlock={"except": []}), f"{PEER}.ipBlock.cidr: None"),
    (peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["11.0.0.0/24"]}), f"{PEER}.ipBlock.except[0]: '11.0.0.0/24'"),
    (peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["0.0.0.0/0"]}), f"{PEER}.ipBlock.except[0]: '0.0.0.0/0'"),
    (peer(ipBlock={"cidr": "::/0", "except": ["10.0.0.0/8"]}), f"{PEER}.ipBlock.except[0]: '10.0.0.0/8'"),
    (ports(port=80, endPort=79), f"{PORT}.endPort: 79 is below port 80"),
    (ports(port=80, endPort=65536), f"{PORT}.endPort: 65536"),
    (ports(port="http", endPort=90), f"{PORT}.endPort: 90"),
    (ports(endPort=90), f"{PORT}.endPort: 90"),
    (ports(port=0), f"{PORT}.port: 0"),
    (ports(port=65536), f"{PORT}.port: 65536"),
    (ports(port=True), f"{PORT}.port: True"),
    (ports(port=80.5), f"{PORT}.port: 80.5"),
    (ports(port=80, protocol="ICMP"), f"{PORT}.protocol: 'ICMP'"),
    (ports(port=80, protocol="tcp"), f"{PORT}.protocol: 'tcp'"),
    (ports(port=80, protocol=6), f"{PORT}.protocol: 6"),
    ({"egress": [{"to": [{}]}]}, "spec.egress[0].to[0]: says nobody"),
    ({"egress": [{"ports": [{"port": -1}]}]}, "spec.egress[0].ports[0].port: -1"),
    ({"egress": [{"ports": [{"port": -1}]}], "policyTypes": ["Ingress"]}, "spec.egress[0].ports[0].port: -1"),
]  # fmt: skip


def rule(**changes):
    return {"ingress": [{"action": "Accept", "from": ANYBODY}, {"action": "Accept", "from": ANYBODY, **changes}]}


def out(**changes):
    return {"egress": [{"action": "Accept", "to": ANYBODY, **changes}]}


CLUSTER_POLICIES = [
    ({"tier": "Application"}, "spec.tier: 'Application'"),
    ({"tier": "admin"}, "spec.tier: 'admin'"),
    ({"tier": None}, "spec.tier: None"),
    ({"priority": -1}, "spec.priority: -1"),
    ({"priority": 1001}, "spec.priority: 1001"),
    ({"priority": None}, "spec.priority: None"),
    ({"priority": "10"}, "spec.priority: '10'"),
    ({"priority": True}, "spec.priority: True"),
    ({"subject": None}, "spec.subject: []"),
    ({"subject": {"nodes": {}}}, "spec.subject: ['nodes']"),
    ({"subject": {"namespaces": {}, "pods": {"podSelector": {}}}}, "spec.subject: ['namespaces', 'pods']"),
    ({"subject": {"namespaces": expression("In")}}, "spec.subject.namespaces.matchExpressions[0].values: []"),
    ({"ingress": [{"action": "Accept", "from": ANYBODY}] * 26}, "spec.ingress: 26 rules"),
    ({"egress": [{"action": "Accept", "to": ANYBODY}] * 26}, "spec.egress: 26 rules"),
    ({"ingress": {}}, "spec.ingress: {}"),
    (rule(action="Allow"), "spec.ingress[1].action: 'Allow'"),
    (rule(action=None), "spec.ingress[1].action: None"),
    (rule(**{"from": []}), "spec.ingress[1].from: names nobody"),
    (rule(**{"from": None}), "spec.ingress[1].from: names nobody"),
    (rule(**{"from": ["any"]}), "spec.ingress[1].from[0]: 'any'"),
    (rule(**{"from": [{"namespaces": expression("Exists", "x")}]}),
     "spec.ingress[1].from[0].namespaces.matchExpressions[0].values: ['x']"),
    (rule(**{"from": [{"pods": {"podSelector": expression("Like", "x")}}]}),
     "spec.ingress[1].from[0].pods.podSelector.matchExpressions[0].operator: 'Like'"),
    (rule(protocols="tcp"), "spec.ingress[1].protocols: 'tcp'"),
    (rule(protocols=[{"tcp": {"destinationPort": {"number": 0}}}]),
     "spec.ingress[1].protocols[0].tcp.destinationPort.number: 0"),
    (rule(protocols=[{"udp": {"destinationPort": {"number": 65536}}}]),
     "spec.ingress[1].protocols[0].udp.destinationPort.number: 65536"),
    (rule(protocols=[{"sctp": {"destinationPort": {"range": {"start": 9, "end": 8}}}}]),
     "spec.ingress[1].protocols[0].sctp.destinationPort.range.end: 8"),
    (rule(protocols=[{"tcp": {"destinationPort": {"range": {"end": 8}}}}]),
     "spec.ingress[1].protocols[0].tcp.destinationPort.range.start: None"),
    (rule(protocols=[{"tcp": {"destinationPort": {"range": {"start": 65536, "end": 65536}}}}]),
     "spec.ingress[1].protocols[0].tcp.destinationPort.range.start: 65536"),
    (rule(protocols=[{"tcp": {"destinationPort": {"range": {"start": 1, "end": 65536}}}}]),
     "spec.ingress[1].protocols[0].tcp.destinationPort.range.end: 65536"),
    (out(to=[]), "spec.egress[0].to: names nobody"),
    (out(to=[{"networks": ["10.0.0.0/8", "10.0.0.0/33"]}]), "spec.egress[0].to[0].networks[1]: '10.0.0.0/33'"),
    (out(to=[{"networks": "10.0.0.0/8"}]), "spec.egress[0].to[0].networks: '10.0.0.0/8'"),
]  # fmt: skip


def acts(**changes):
    return {"rules": [{"action": "Allow", "direction": "In"}, {"action": "Allow", "direction": "In", **changes}]}


SECURITY_POLICIES = [
    ({"priority": -1}, "spec.priority: -1"),
    ({"priority": 1001}, "spec.priority: 1001"),
    ({"priority": "high"}, "spec.priority: 'high'"),
    ({"rules": {}}, "spec.rules: {}"),
    ({"appliedTo": [{}]}, "spec.appliedTo[0]: []"),
    ({"appliedTo": [{"namespaceSelector": {}}]}, "spec.appliedTo[0]: ['namespaceSelector']"),
    ({"appliedTo": [{"podSelector": expression("In")}]},
     "spec.appliedTo[0].podSelector.matchExpressions[0].values: []"),
    (acts(action="Deny"), "spec.rules[1].action: 'Deny'"),
    (acts(action=None), "spec.rules[1].action: None"),
    (acts(direction="Up"), "spec.rules[1].direction: 'Up'"),
    (acts(direction=None), "spec.rules[1].direction: None"),
    (acts(destinations=[{"podSelector": {}}]), "spec.rules[1].destinations: stands in a rule of direction ingress"),
    (acts(to=[{"podSelector": {}}]), "spec.rules[1].to: stands in a rule of direction ingress"),
    (acts(direction="Out", sources=[{"podSelector": {}}]),
     "spec.rules[1].sources: stands in a rule of direction egress"),
    (acts(sources=[{}]), "spec.rules[1].sources[0]: []"),
    (acts(sources=[{"nodeSelector": {}}]), "spec.rules[1].sources[0]: ['nodeSelector']"),
    (acts(sources=[{"podSelector": expression("Exists", "x")}]),
     "spec.rules[1].sources[0].podSelector.matchExpressions[0].values: ['x']"),
    (acts(sources=[{"ipBlocks": [{"cidr": "10.0.0.0"}]}]), "spec.rules[1].sources[0].ipBlocks[0].cidr: '10.0.0.0'"),
    (acts(sources=[{"ipBlocks": [{"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}]}]),
     "spec.rules[1].sources[0].ipBlocks[0].except[0]: '11.0.0.0/8'"),
    (acts(ports=[{"port": 80, "endPort": 79}]), "spec.rules[1].ports[0].endPort: 79 is below port 80"),
    (acts(ports=[{"port": 0}]), "spec.rules[1].ports[0].port: 0"),
    (acts(ports=[{"port": 80, "protocol": "ICMP"}]), "spec.rules[1].ports[0].protocol: 'ICMP'"),
]  # fmt: skip

NOTED = {"ncp/established_connections": "never"}
ANNOTATION = "metadata.annotations[ncp/established_connections]: 'never'; allowed: keep, recheck, cut"
FAULTY = [
    *[(network_policy, {"podSelector": WEB, **spec}, said) for spec, said in NETWORK_POLICIES],
    *[(cluster_policy, spec, said) for spec, said in CLUSTER_POLICIES],
    *[(security_policy, {"appliedTo": [{"podSelector": WEB}], **spec}, said) for spec, said in SECURITY_POLICIES],
    (network_policy, {"podSelector": WEB, "ingress": [{}], "annotations": NOTED}, ANNOTATION),
    (cluster_policy, {**rule(), "annotations": NOTED}, ANNOTATION),
    (security_policy, {"appliedTo": [{"podSelector": WEB}], **acts(), "annotations": NOTED}, ANNOTATION),
]


@pytest.mark.parametrize(("make", "spec", "said"), FAULTY)
def test_what_makes_no_sense_is_named_and_closes_both_directions(make, spec, said):
    section = make(**spec)
    assert said in section.fault
    assert not [each for each in section.rules if each.action not in ("drop", "reject")]
    for protocol, family in itertools.product(("tcp", "udp", "sctp", None), (4, 6)):
        assert senders([section], "red/web", protocol, family=family) == {"node1"}
        assert receivers([section], "red/web", protocol, family=family) <= {"node1"}


@pytest.mark.parametrize(
    ("make", "spec", "closed"),
    [
        (network_policy, {"podSelector": WEB, **peer()}, {"red/web"}),
        (network_policy, {"podSelector": WEB, "policyTypes": ["Both"]}, {"red/web"}),
        (network_policy, {"podSelector": "web"}, RED),
        (cluster_policy, {"priority": -1}, RED),
        (cluster_policy, {"subject": {"pods": {"podSelector": having(app="db")}}, **rule(action="Allow")}, {"red/db"}),
        (cluster_policy, {"subject": None}, PODS),
        (security_policy, {"appliedTo": [{"podSelector": WEB}], **acts(action="Deny")}, {"red/web"}),
        (security_policy, acts(action="Deny"), RED),
    ],
)
def test_a_fault_closes_what_the_policy_selects_and_where_that_is_not_known_all_it_could(make, spec, closed):
    section = make(**spec)
    assert {pod for pod in PODS if not ask([section], "outside", pod).allowed} == closed
    assert {pod for pod in PODS if not ask([section], pod, "outside").allowed} == closed


def test_a_faulty_network_policy_takes_nothing_from_what_another_allows():
    sections = [network_policy("faulty", **peer()), network_policy("good", ingress=[{}], egress=[{}])]
    assert senders(sections, "red/web") == EVERYBODY - {"red/web"}


@pytest.mark.parametrize("tier", ["Admin", "Baseline"])
def test_a_faulty_cluster_policy_closes_in_its_tier(tier):
    sections = [cluster_policy(tier=tier, **rule(action="Allow")), network_policy(ingress=[{}])]
    assert ask(sections, "outside", "red/web").allowed is (tier == "Baseline")


@pytest.mark.parametrize("make", [network_policy, cluster_policy, security_policy])
@pytest.mark.parametrize("word", ["keep", "recheck", "cut", None])
def test_a_policy_may_say_what_becomes_of_established_connections(make, word):
    section = make(annotations={"ncp/established_connections": word} if word else {"other": "x"})
    assert (section.established, section.fault) == (word, "")


@pytest.mark.parametrize("make", [network_policy, cluster_policy, security_policy])
@pytest.mark.parametrize("word", ["", "Keep", "keep ", "drop"])
def test_another_word_on_established_connections_is_a_fault(make, word):
    section = make(annotations={"ncp/established_connections": word})
    assert f"metadata.annotations[ncp/established_connections]: {word!r}" in section.fault
    assert section.established is None

"""What cannot be understood never opens anything: unknown parts of policies, nulls, and shapes no server would store."""

from __future__ import annotations

import pytest

from firewall import clusterpolicy, networkpolicy, securitypolicy
from firewall.rules import PodGroup, Section

EVERYBODY = {"namespaces": {}}


def cluster(**rule) -> Section:
    body = {"action": "Accept", "from": [EVERYBODY], **rule}
    spec = {"tier": "Admin", "priority": 900, "subject": EVERYBODY, "ingress": [body]}
    return clusterpolicy.section({"metadata": {"name": "c"}, "spec": spec})


def security(**rule) -> Section:
    body = {"action": "Drop", "direction": "In", **rule}
    return securitypolicy.section({"metadata": {"name": "s", "namespace": "red"}, "spec": {"rules": [body]}})


UNKNOWN_PROTOCOLS = [
    {"tcp": {}}, {"tcp": None}, {"tcp": {"sourcePort": 5}}, {"tcp": {"destinationPort": {}}}, {"quic": {}},
    {"tcp": {"destinationPort": {"number": 80}, "flags": "SYN"}}, {"tcp": {"destinationPort": {"name": "http"}}},
]  # fmt: skip
UNKNOWN_PEERS = [
    {"nodes": {}}, {"namespaces": None}, {"pods": None}, {"pods": {}}, {"pods": {"namespaceSelector": {}}},
    {"pods": {"podSelector": {}, "nodeSelector": {}}}, {},
]  # fmt: skip


@pytest.mark.parametrize("protocol", UNKNOWN_PROTOCOLS)
@pytest.mark.parametrize("action", ["Accept", "Deny", "Pass"])
def test_a_rule_with_a_protocol_of_an_unknown_kind_fails_closed(protocol, action):
    (rule,) = cluster(action=action, protocols=[{"udp": {"destinationPort": {"number": 53}}}, protocol]).rules
    assert (rule.action, rule.peers) == (("allow", ()) if action == "Accept" else ("drop", None))
    assert action == "Accept" or rule.services is None


@pytest.mark.parametrize("peer", UNKNOWN_PEERS)
@pytest.mark.parametrize("action", ["Accept", "Deny", "Pass"])
def test_a_rule_with_a_peer_of_an_unknown_kind_fails_closed(peer, action):
    (rule,) = cluster(action=action, **{"from": [EVERYBODY, peer]}).rules
    assert (rule.action, rule.peers) == (("allow", ()) if action == "Accept" else ("drop", None))


@pytest.mark.parametrize("subject", UNKNOWN_PEERS)
def test_a_subject_of_an_unknown_kind_is_a_fault(subject):
    spec = {"tier": "Admin", "priority": 1, "subject": subject}
    assert "spec.subject" in clusterpolicy.section({"metadata": {"name": "c"}, "spec": spec}).fault


def test_a_faulty_policy_keeps_what_of_it_can_be_read():
    subject = {"namespaces": {"matchLabels": {"team": "a"}}}
    spec = {"tier": "Baseline", "priority": 900, "subject": subject, "ingress": [{"action": "Maybe"}]}
    found = clusterpolicy.section({"metadata": {"name": "c"}, "spec": spec})
    assert (found.tier, found.priority, found.applied_to[0].namespaces.requirements[0].key) == ("Baseline", 900, "team")
    found = clusterpolicy.section({"metadata": {"name": "c"}, "spec": {**spec, "tier": "baseline"}})
    assert found.applied_to[0].namespaces.requirements[0].key == "team"
    spec = {"priority": 900, "rules": [{"action": "Maybe", "direction": "In"}]}
    found = securitypolicy.section({"metadata": {"name": "s", "namespace": "red"}, "spec": spec})
    assert (found.priority, bool(found.fault)) == (900, True)


def test_workloads_that_are_virtual_machines_are_nobody():
    team = {"matchLabels": {"team": "b"}}
    assert security(sources=[{"vmSelector": {}, "namespaceSelector": team}]).rules[0].peers == ()
    assert security(sources=[{"vmSelector": {}, "podSelector": {}}]).rules[0].peers == (PodGroup("red"),)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: cluster(**{"from": []}), "spec.ingress[0].from"),
        (lambda: cluster(protocols=[{"tcp": {"destinationPort": 5}}]), "protocols[0].tcp.destinationPort: 5"),
        (
            lambda: cluster(protocols=[{"tcp": {"destinationPort": {"range": {"start": 9, "end": 9}}}}]),
            "destinationPort.range.end: 9; allowed: a whole number from 10",
        ),
        (lambda: egress([]), "networks: 0 networks; allowed: 1 to 25"),
        (lambda: egress(["10.0.0.0/8"] * 26), "networks: 26 networks"),
        (lambda: security(sources=[{"ipBlocks": []}]), "spec.rules[0].sources[0].ipBlocks"),
        (lambda: security(sources=[{"podSelector": None}]), "spec.rules[0].sources[0]"),
        (lambda: security(ports=[{"port": "80"}]), "ports[0].port: '80'"),
        (lambda: security(ports=[{"port": "http", "endPort": 90}]), "ports[0].endPort: 90"),
        (lambda: security(ports=[{"endPort": 90}]), "ports[0].endPort: 90"),
        (lambda: policy({"podSelector": {"matchExpressions": ["x"]}}), "matchExpressions[0]: 'x' is not an object"),
        (lambda: policy({"podSelector": {"matchExpressions": [None, {}]}}), "matchExpressions[0].operator"),
        (lambda: policy({"podSelector": {"matchLabels": {"app": None}}}), "matchLabels[app]: None"),
        (lambda: policy({"policyTypes": [{}]}), "spec.policyTypes[0]: {}"),
        (lambda: policy({"policyTypes": [["Ingress"]]}), "spec.policyTypes[0]"),
        (lambda: policy({}, annotations=["x"]), "metadata.annotations"),
        *(
            (lambda cidr=cidr: policy({"ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}]}), "ipBlock.cidr")
            for cidr in ("10.0.0.0/255.0.0.0", "10.0.0.0/0.0.0.255", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/8\n", "10.0.0.0/٨")
        ),
        (
            lambda: policy({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]}),
            "except[0]: '10.0.0.0/8' is not within",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_a_fault_that_names_it(made, said):
    assert said in made().fault


def egress(networks) -> Section:
    rule = {"action": "Deny", "to": [{"networks": networks}]}
    spec = {"tier": "Admin", "priority": 1, "subject": EVERYBODY, "egress": [rule]}
    return clusterpolicy.section({"metadata": {"name": "c"}, "spec": spec})


def policy(spec, annotations=None) -> Section:
    meta = {"name": "p", "namespace": "red", **({"annotations": annotations} if annotations else {})}
    return networkpolicy.section({"metadata": meta, "spec": {"podSelector": {}, **spec}})

"""Case files hold all of a case, and what they do not hold is refused with its place, its value and what is allowed."""

from __future__ import annotations

import copy

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp.probe.model import PROTOCOLS, Probe, Verdict
from ncp.verify.casefile import WHO, CaseFile, CasePod, write
from ncp.verify.errors import Refused
from ncp.verify.reading import ANSWERS, read
from tests.verify.builders import DENY, case, cluster_policy, network_policy

FULL = case(
    DENY,
    cluster_policy("all"),
    settings={"baseline_policy_type": "allow_namespace", "top_section_priority": 10, "baseline_section_priority": 99},
    versions={"ncp": "0.1.0"},
    also=("y/b -> x/a ICMPv4",),
)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
# Words that YAML would take for something else. Nobody's labels and reasons hold control characters or line breaks.
printed = st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")), max_size=12)
texts = printed | st.sampled_from(["y", "no", "0x1f", "1_0", "12:30", "1e3", "~", "=", "<<", "2026-01-01"])
labels = st.dictionaries(texts.filter(bool), texts, max_size=3)
addresses = st.lists(st.ip_addresses().map(str), max_size=2).map(tuple)
ports = st.fixed_dictionaries(
    {"containerPort": st.integers(1, 65535)}, optional={"name": texts.filter(bool), "protocol": st.just("SCTP")}
)
reasons = st.lists(texts.filter(bool), max_size=2).map(tuple)


@st.composite
def cases(draw):
    spaces = draw(st.dictionaries(names, labels, min_size=1, max_size=3))
    each = st.sampled_from(sorted(spaces))
    full = st.builds("{}/{}".format, each, names)
    protocol = draw(st.sampled_from(PROTOCOLS))
    pod = st.builds(CasePod, full, labels, st.lists(ports, max_size=2).map(tuple), names, addresses)
    pods = draw(st.lists(pod, max_size=2, unique_by=lambda each: each.name))
    ends = st.sampled_from([pod.name for pod in pods] + ["external"])
    verdict = st.builds(Verdict, st.sampled_from(ANSWERS), texts, reasons, reasons)
    namespaced = st.builds(network_policy, names, each, podSelector=st.just({}), note=labels)
    return CaseFile(
        Probe(draw(ends), draw(ends), draw(st.sampled_from((4, 6))), protocol, draw(st.integers(0, 65535))),
        {who: draw(verdict) for who in WHO},
        spaces,
        tuple(pods),
        tuple(draw(st.lists(namespaced | st.builds(cluster_policy, names), max_size=2))),
        {"external": draw(addresses), **draw(st.dictionaries(names.map("node:{}".format), addresses, max_size=2))},
        draw(st.sampled_from([{}, FULL.settings])),
        draw(labels),
        draw(reasons),
    )


@given(cases())
@settings(max_examples=30, deadline=None)
def test_what_is_written_reads_as_the_same_case(some):
    assert read(write(some), "f.yaml") == some


def test_a_file_begins_with_its_probe_and_repeats_nothing_by_reference():
    text = write(FULL)
    assert text.startswith("# y/b -> x/a tcp/80 IPv4\n")
    assert "&id" not in text


def test_labels_are_quoted_where_kubectl_would_take_them_for_booleans():
    assert 'team: "y"' in write(case(namespaces={"x": {"team": "y"}, "y": {}, "z": {}})).replace("'", '"')


NUMBER = "a whole number"
BAD = [
    ("kind", "Case", "kind: 'Case'; allowed: VerifyCase"),
    ("version", 2, "version: 2; allowed: 1"),
    ("version", True, "version: True; allowed: 1"),
    ("version", 1.0, "version: 1.0; allowed: 1"),
    ("probe", [], "probe: []; allowed: a mapping"),
    ("probe.source", None, "probe.source: None; allowed: text"),
    ("probe.source", "y/q", "probe.source: 'y/q'; allowed: node:node1, x/a, y/b, z/c"),
    ("probe.destination", "", "probe.destination: ''; allowed: text"),
    ("probe.family", 5, "probe.family: 5; allowed: 4, 6"),
    ("probe.family", 4.0, "probe.family: 4.0; allowed: 4, 6"),
    ("probe.protocol", "gre", "probe.protocol: 'gre'; allowed: tcp, udp, sctp, icmp, neighbour"),
    ("probe.port", 65536, f"probe.port: 65536; allowed: {NUMBER} from 0 to 65535"),
    ("probe.port", "80", f"probe.port: '80'; allowed: {NUMBER} from 0 to 65535"),
    ("verdicts", "yes", "verdicts: 'yes'; allowed: a mapping"),
    ("verdicts.expected", None, "verdicts.expected.answer: None; allowed: yes, no, refused, rejected, unknown"),
    ("verdicts.traced.answer", True, "verdicts.traced.answer: True; allowed: yes, no, refused, rejected, unknown"),
    ("verdicts.traced.why", 7, "verdicts.traced.why: 7; allowed: text"),
    ("verdicts.observed.causes", ["a", 1], "verdicts.observed.causes[1]: 1; allowed: text"),
    ("verdicts.observed.stages", "a", "verdicts.observed.stages: 'a'; allowed: a list"),
    ("namespaces", {1: {}}, "namespaces: {1: {}}; allowed: a mapping"),
    ("namespaces.x.team", 7, "namespaces.x.team: 7; allowed: text"),
    ("pods", {}, "pods: {}; allowed: a list"),
    ("pods.1", "b", "pods[1]: 'b'; allowed: a mapping"),
    ("pods.1.name", "b", "pods[1].name: 'b'; allowed: NAMESPACE/POD"),
    ("pods.1.name", "y/", "pods[1].name: 'y/'; allowed: NAMESPACE/POD"),
    ("pods.1.name", "shop/b", "pods[1].name: 'shop/b'; allowed: a name in one of the namespaces x, y, z"),
    ("pods.1.name", "x/a", "pods[1].name: 'x/a'; allowed: each name once"),
    ("pods.1.labels.pod", 1, "pods[1].labels.pod: 1; allowed: text"),
    ("pods.1.node", ["n"], "pods[1].node: ['n']; allowed: text"),
    ("pods.1.addresses", ["10.4.0.256"], "pods[1].addresses[0]: '10.4.0.256'; allowed: an IPv4 or IPv6 address"),
    ("pods.1.ports", [80], "pods[1].ports[0]: 80; allowed: a mapping"),
    ("pods.1.ports", [{}], f"pods[1].ports[0].containerPort: None; allowed: {NUMBER} from 1 to 65535"),
    (
        "pods.1.ports",
        [{"containerPort": 70000}],
        f"pods[1].ports[0].containerPort: 70000; allowed: {NUMBER} from 1 to 65535",
    ),
    (
        "pods.1.ports",
        [{"containerPort": 80, "protocol": "GRE"}],
        "pods[1].ports[0].protocol: 'GRE'; allowed: TCP, UDP, SCTP",
    ),
    ("hosts.node:node1", ["here"], "hosts.node:node1[0]: 'here'; allowed: an IPv4 or IPv6 address"),
    ("policies", "p", "policies: 'p'; allowed: a list"),
    (
        "policies.0.kind",
        "Pod",
        "policies[0].kind: 'Pod'; allowed: NetworkPolicy, ClusterNetworkPolicy, SecurityPolicy",
    ),
    ("policies.0.apiVersion", "v1", "policies[0].apiVersion: 'v1'; allowed: networking.k8s.io/v1"),
    ("policies.0.metadata.name", None, "policies[0].metadata.name: None; allowed: text"),
    ("policies.0.metadata.namespace", None, "policies[0].metadata.namespace: None; allowed: x, y, z"),
    ("policies.0.metadata.namespace", "shop", "policies[0].metadata.namespace: 'shop'; allowed: x, y, z"),
    ("policies.1.metadata.namespace", "x", "policies[1].metadata.namespace: 'x'; allowed: none, for it has no namespace"),
    ("policies.0.spec", [], "policies[0].spec: []; allowed: a mapping"),
    (
        "settings.baseline_policy_type",
        "deny",
        "settings.baseline_policy_type: 'deny'; allowed: allow_cluster, allow_namespace, allow_namespace_strict",
    ),
    ("settings.top_section_priority", "low", f"settings.top_section_priority: 'low'; allowed: {NUMBER}"),
    ("versions.ncp", 1, "versions.ncp: 1; allowed: text"),
    ("also", ["", "b"], "also[0]: ''; allowed: text"),
]  # fmt: skip


def changed(where, value):
    """The full case's file with another value at a place."""
    body = copy.deepcopy(yaml.safe_load(write(FULL)))
    *path, last = (int(part) if part.isdigit() else part for part in where.split("."))
    at = body
    for part in path:
        at = at[part]
    at[last] = value
    return yaml.safe_dump(body)


@pytest.mark.parametrize(("where", "value", "says"), BAD, ids=[f"{where}={value!r}" for where, value, _ in BAD])
def test_a_bad_field_is_refused_with_file_field_value_and_what_is_allowed(where, value, says):
    with pytest.raises(Refused) as refused:
        read(changed(where, value), "some.yaml")
    assert str(refused.value) == f"some.yaml: {says}"
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "f: not YAML"),
        ("a: 2026-99-99", "f: not YAML"),
        ("- 1", "f: the file: [1]; allowed: a mapping"),
        ("", "f: kind: None; allowed: VerifyCase"),
        ("\0", "f: not YAML"),
    ],
)
def test_what_is_no_case_at_all_is_refused(text, says):
    with pytest.raises(Refused) as refused:
        read(text, "f")
    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)

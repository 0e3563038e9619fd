"""``ncp get policies``, ``rules`` and ``firewall-log``: what policies are, what their rules did, what was logged."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from labs import crds
from labs.api.testing import EmbeddedApi
from ncp.kube.client import Kube
from ncp.kube.resources import (
    CLUSTER_NETWORK_POLICIES,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    NETWORK_POLICIES,
    PODS,
    SECURITY_POLICIES,
)
from ncp.node.api import NodeApi
from tests.cli.conftest import annotated, origin, pod
from tests.manager.test_policies import DEFINITION

PORT = {"vni": 5001, "mac": "02:4e:0a:04:00:02", "addresses": ["10.4.0.2/24"], "gateways": []}
SEGMENT = {"vni": 5001, "router": 5001, "gateways": ["10.4.0.1/24"], "snat": True}
DENY = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
WEB = {"podSelector": {}, "ingress": [{}, {}], "egress": [{}], "policyTypes": ["Ingress", "Egress"]}
FIRST = {"priority": 5, "rules": [{"action": "Drop", "direction": "In"}]}
LAST = {
    "tier": "Baseline",
    "priority": 3,
    "subject": {"namespaces": {}},
    "ingress": [{"name": "none", "action": "Deny", "from": [{"namespaces": {}}]}],
}


def rule(about: dict, text: str, action: str, hits: int, sessions: int = 0, packets: int = 0) -> dict:
    about = about | {"detail": text}
    counted = {"hits": hits, "sessions": sessions, "packets": packets, "bytes": 100 * packets}
    return {"origin": about, "rule": text, "action": action, **counted}


WEB_RULES = origin("NetworkPolicy", "red", "web")
BOTH = origin("NetworkPolicy", "red", "rest,web")
RULES = {
    "n1": [
        rule(WEB_RULES, "ingress rule 0", "allow", 3, 2, 40),
        rule(BOTH, "isolates ingress", "drop", 5, 0, 5),
        rule(origin("ClusterNetworkPolicy", "", "last"), "ingress rule 0 (none)", "drop", 1, 0, 1),
    ],
    "n2": [rule(WEB_RULES, "ingress rule 0", "allow", 4, 1, 2), rule(WEB_RULES, "ingress rule 1", "allow", 0)],
}


def line(at: float, action: str, packet: str) -> dict:
    said = {"direction": "ingress", "policy": "NetworkPolicy red/web", "rule": "isolates ingress", "port": "red/a"}
    return {"at": at, "action": action, **said, "packet": packet}


LINES = {
    "n1": [line(1767225600.0, "drop", "tcp 10.4.0.9:4 -> 10.4.0.2:80"), line(1767225602.5, "reject", "icmp 10.4.0.9 -> 10.4.0.2")],
    "n2": [line(1767225601.0, "allow", "udp [fd00::9]:4 -> [fd00::2]:53")],
}  # fmt: skip


def _fill(kube: Kube) -> None:
    for each in (*crds.definitions(), DEFINITION):
        kube.create(CUSTOM_RESOURCE_DEFINITIONS, each)
    for space in ("red", "blue"):
        kube.create(NAMESPACES, annotated(space, {"ncp/cluster": "k8scluster", "ncp/segments": [SEGMENT]}))
    kube.create(PODS, pod("a", "n1", {"ncp/cluster": "k8scluster", "ncp/port": PORT}), "red")
    web = {"ncp/realisation": "Realizing 1/2", "ncp/realised.n1": "1", "ncp/established_connections": "cut"}
    kube.create(NETWORK_POLICIES, annotated("web", web, spec=WEB), "red")
    kube.create(NETWORK_POLICIES, annotated("deny", {}, spec=DENY), "blue")
    wrong = {"ncp/error.policy": "POLICY_INVALID: spec.rules[0] is no mapping", "ncp/realisation": "Invalid 0/1"}
    for resource, body, space in (
        (SECURITY_POLICIES, annotated("first", wrong, spec=FIRST), "red"),
        (CLUSTER_NETWORK_POLICIES, annotated("last", {"ncp/realisation": "Realized 1/1"}, spec=LAST), ""),
    ):
        kube.create(resource, body, space)


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A lab with policies of every kind, and two agents."""
    directory = Path(tempfile.mkdtemp(prefix="ncp-cli-"))
    agents = [
        NodeApi(
            directory / "nodes" / node / "node.sock",
            {
                "/v1/rules": lambda node=node: {"node": node, "rules": RULES[node]},
                "/v1/firewall-log": lambda node=node: {"node": node, "lines": LINES[node]},
                "/v1/status": lambda node=node: {"node": node, "ports": [], "problems": [], "drift": []},
            },
        )
        for node in RULES
    ]
    for each in agents:
        each.start()
    (directory / "ncp.ini").write_text("[nsx_v3]\ncontainer_ip_blocks = 10.4.0.0/16\n")
    try:
        with EmbeddedApi() as api:
            shutil.copy(api.kubeconfig, directory / "kubeconfig")
            kube = Kube.connect(str(api.kubeconfig))
            _fill(kube)
            kube.close()
            yield directory
    finally:
        for each in agents:
            each.stop()
        shutil.rmtree(directory)


def test_policies_are_listed_in_the_order_they_are_asked(ncp, state):
    rows = ncp("get", "policies", "--state", state, "-o", "json").json
    assert [(row["tier"], row["priority"], row["namespace"], row["name"]) for row in rows] == [
        ("Application", 5, "red", "first"),
        ("NetworkPolicy", None, "blue", "deny"),
        ("NetworkPolicy", None, "red", "web"),
        ("Baseline", 3, None, "last"),
    ]


def test_a_policy_says_whom_it_is_about_and_how_far_it_is_realised(ncp, state):
    rows = {row["name"]: row for row in ncp("get", "policies", "--state", state, "-o", "json").json}
    assert rows["web"] == {
        "kind": "NetworkPolicy",
        "namespace": "red",
        "name": "web",
        "tier": "NetworkPolicy",
        "priority": None,
        "pods": 1,
        "isolates": ["egress", "ingress"],
        "rules": {"egress": 1, "ingress": 2},
        "established": "cut",
        "realised": "Realizing 1/2",
        "errors": {},
    }
    assert {name: row["pods"] for name, row in rows.items()} == {"first": 1, "deny": 0, "web": 1, "last": 1}
    assert rows["deny"]["established"] == "recheck", "the cluster's"
    assert rows["deny"]["realised"] == "Realizing", "nobody has said anything yet"
    assert rows["last"]["realised"] == "Realized 1/1"
    assert rows["first"]["errors"] == {"policy": "POLICY_INVALID: spec.rules[0] is no mapping"}


def test_policies_by_name_namespace_and_alias(ncp, state):
    def names(kind: str, *arguments: str) -> list[str]:
        return [row["name"] for row in ncp("get", kind, "--state", state, "-o", "json", *arguments).json]

    assert names("netpol", "-n", "red") == ["first", "web"]
    assert names("policy", "red/web", "last") == ["web", "last"]
    told = ncp("get", "policies", "--state", state, "nobody")
    assert (told.code, told.out) == (1, "")
    assert told.err.endswith("no policies named nobody\n")
    assert ncp("get", "policies", "--state", state, "-n", "empty").err == "no policies\n"


def counts(row: dict) -> tuple[int, ...]:
    return tuple(row[name] for name in ("hits", "sessions", "packets", "bytes"))


def test_rules_add_up_what_nodes_counted(ncp, state):
    rows = ncp("get", "rules", "--state", state, "-o", "json").json
    assert [(row["kind"], row["namespace"], row["name"], row["rule"]) for row in rows] == [
        ("ClusterNetworkPolicy", None, "last", "ingress rule 0 (none)"),
        ("NetworkPolicy", "red", "rest,web", "isolates ingress"),
        ("NetworkPolicy", "red", "web", "ingress rule 0"),
        ("NetworkPolicy", "red", "web", "ingress rule 1"),
    ]
    assert [counts(row) for row in rows] == [(1, 0, 1, 100), (5, 0, 5, 500), (7, 3, 42, 4200), (0, 0, 0, 0)]
    assert rows[2]["nodes"] == ["n1", "n2"]
    (here,) = ncp("get", "rules", "--state", state, "--node", "n1", "--policy", "web", "-o", "json").json[1:]
    assert counts(here) == (3, 2, 40, 4000)


@pytest.mark.parametrize(
    ("policy", "rules"),
    [
        ("red/web", ["isolates ingress", "ingress rule 0", "ingress rule 1"]),
        ("web", ["isolates ingress", "ingress rule 0", "ingress rule 1"]),
        ("red/rest", ["isolates ingress"]),
        ("last", ["ingress rule 0 (none)"]),
        ("/last", ["ingress rule 0 (none)"]),
    ],
)
def test_rules_of_a_policy_and_the_isolation_it_shares_with_others(ncp, state, policy, rules):
    rows = ncp("get", "rules", "--state", state, "--policy", policy, "-o", "json").json
    assert [row["rule"] for row in rows] == rules


def test_the_log_is_that_of_all_nodes_by_time(ncp, state):
    rows = ncp("get", "firewall-log", "--state", state, "-o", "json").json
    assert [(row["at"], row["node"], row["action"]) for row in rows] == [
        (1767225600.0, "n1", "drop"), (1767225601.0, "n2", "allow"), (1767225602.5, "n1", "reject"),
    ]  # fmt: skip
    assert rows[1] == LINES["n2"][0] | {"node": "n2"}
    here = ncp("get", "firewall-log", "--state", state, "--node", "n2", "-o", "json").json
    assert [row["node"] for row in here] == ["n2"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("policies", ["Baseline", "Realizing 1/2", "egress: 1; ingress: 2", "POLICY_INVALID"]),
        ("rules", ["rest,web", "ingress rule 0 (none)", "4200"]),
        ("firewall-log", ["reject", "udp [fd00::9]:4 -> [fd00::2]:53", "NetworkPolicy red/web"]),
    ],
)
def test_a_table_has_a_line_for_each_and_wide_has_more(ncp, state, kind, words):
    told = ncp("get", kind, "--state", state)
    lines = told.out.splitlines()
    assert told.code == 0
    assert lines[0] == lines[0].upper()
    assert len(lines) == 1 + len(yaml.safe_load(ncp("get", kind, "--state", state, "-o", "yaml").out))
    assert [word for word in words if word not in told.out] == []
    assert len(ncp("get", kind, "--state", state, "-o", "wide").out.splitlines()) == len(lines)


def test_nothing_is_an_empty_list_for_machines_and_a_word_for_people(ncp, state, monkeypatch):
    monkeypatch.setitem(RULES, "n1", [])
    monkeypatch.setitem(RULES, "n2", [])
    monkeypatch.setitem(LINES, "n1", [])
    monkeypatch.setitem(LINES, "n2", [])
    for kind, word in (("rules", "no rules: no policy is about a pod here"), ("firewall-log", "nothing was logged")):
        assert ncp("get", kind, "--state", state, "-o", "json").json == []
        told = ncp("get", kind, "--state", state)
        assert (told.code, told.out, told.err) == (0, "", f"{word}\n")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("rules", "--policy", "a/b/c"), 2, "'a/b/c' is not NAME or NAMESPACE/NAME"),
        (("rules", "--policy", "red/"), 2, "'red/' is not NAME or NAMESPACE/NAME"),
        (("rules", "--policy", "red/nobody"), 1, "no rules of a policy 'red/nobody' here; there are: last, red/rest, red/web"),
        (("rules", "--node", "n9"), 1, "no agent of node 'n9' on this host; there are: n1, n2"),
        (("firewall-log", "--node", "n9"), 1, "no agent of node 'n9' on this host; there are: n1, n2"),
        (("firewall-log", "-o", "csv"), 2, "'csv' is not one of 'table', 'wide', 'json', 'yaml'"),
        (("rules", "red/web"), 2, "unexpected extra argument (red/web)"),
        (("policies", "-A", "-n", "red"), 2, "-n and -A contradict each other; give one"),
        (("firewall_log",), 2, "did you mean 'firewall-log'?"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_named_with_what_there_is(ncp, state, arguments, code, says):
    told = ncp("get", *arguments, *(() if arguments == ("firewall_log",) else ("--state", state)))
    assert (told.code, told.out) == (code, "")
    assert says in told.err.splitlines()[-1]
    assert "Traceback" not in told.err

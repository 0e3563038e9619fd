"""Policies as a person meets them here: every fault in Kubernetes' words, what kubectl shows, and our own definition."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from firewall import securitypolicy
from firewall.labels import OPERATORS
from labs import crds
from tests.api.client import MERGE, Client
from tests.contract.policies import (
    CLUSTER_POLICY_REFUSED,
    NETWORK_POLICY_REFUSED,
    SECURITY_POLICY_REFUSED,
    SECURITY_POLICY_TAKEN,
    Refused,
    cluster_policy,
    security_policy,
    shortened,
)
from tests.contract.shapes import network_policy

Kubectl = Callable[..., str]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NOT_ASKED = "<nil>"  # the field of the remark that rules were not asked
with_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")


@contextmanager
def defined(client: Client, definition: dict[str, Any]) -> Iterator[str]:
    """A definition that is there for a while; the path of its group and version."""
    spec, name = definition["spec"], definition["metadata"]["name"]
    client.ok("POST", CRDS, definition)
    yield f"/apis/{spec['group']}/{spec['versions'][0]['name']}"
    client.ok("DELETE", f"{CRDS}/{name}")
    client.until_gone(f"{CRDS}/{name}")


@pytest.fixture(scope="module")
def cluster_policies(client: Client, manifests: Path) -> Iterator[str]:
    file = manifests / "crds" / "policy.networking.k8s.io_clusternetworkpolicies.yaml"
    with defined(client, yaml.safe_load(file.read_text())) as path:
        yield f"{path}/clusternetworkpolicies"


@pytest.fixture(scope="module")
def our_definition() -> dict[str, Any]:
    name = "securitypolicies.crd.nsx.vmware.com"
    (definition,) = (each for each in crds.definitions() if each["metadata"]["name"] == name)
    return definition


@pytest.fixture(scope="module")
def security_policies(client: Client, our_definition: dict[str, Any]) -> Iterator[str]:
    """The path of SecurityPolicies in the namespace ``default``."""
    with defined(client, our_definition) as path:
        yield f"{path}/namespaces/default/securitypolicies"


def faults(client: Client, path: str, body: dict[str, Any]) -> set[tuple[str, str]]:
    """Field and reason of everything that is wrong with an object, which must be something."""
    said = client.refused(422, "POST", path, body)
    assert (said["reason"], said["details"]["name"]) == ("Invalid", body["metadata"]["name"])
    return {(cause["field"], cause["reason"]) for cause in said["details"]["causes"]}


@pytest.mark.parametrize("case", NETWORK_POLICY_REFUSED, ids=str)
def test_what_is_wrong_with_a_network_policy_and_nothing_else_is_named(client: Client, ns: str, case: Refused) -> None:
    path = f"/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies"
    assert faults(client, path, network_policy("np", **case.spec)) == {(case.field, case.reason)}


@pytest.mark.parametrize("case", CLUSTER_POLICY_REFUSED, ids=str)
def test_what_is_wrong_with_a_cluster_policy_is_named(client: Client, cluster_policies: str, case: Refused) -> None:
    found = faults(client, cluster_policies, cluster_policy("cnp", **case.spec))
    assert (case.field, case.reason) in found
    assert {field for field, _ in found} <= {case.field, NOT_ASKED}


@pytest.mark.parametrize("case", SECURITY_POLICY_REFUSED, ids=str)
def test_what_is_wrong_with_a_security_policy_is_named(client: Client, security_policies: str, case: Refused) -> None:
    assert faults(client, security_policies, security_policy("sp", **case.spec)) == {(case.field, case.reason)}


def test_a_network_policy_with_several_faults_names_them_all(client: Client, ns: str) -> None:
    spec = {
        "podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]},
        "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 0}]}],
        "policyTypes": ["Both"],
    }
    said = client.refused(
        422, "POST", f"/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies", network_policy("np", **spec)
    )
    assert [(cause["field"], cause["message"]) for cause in said["details"]["causes"]] == [
        (
            "spec.podSelector.matchExpressions[0].values",
            "Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        ("spec.ingress[0].ports[0].port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
        (
            "spec.ingress[0].from[0].ipBlock.except[0]",
            'Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`',
        ),
        ("spec.policyTypes[0]", 'Unsupported value: "Both": supported values: "Egress", "Ingress"'),
    ]


def test_conditions_of_a_type_stand_once(client: Client, cluster_policies: str) -> None:
    client.ok("POST", cluster_policies, cluster_policy("twice"))
    condition = {
        "type": "A",
        "status": "True",
        "reason": "R",
        "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    change = {"status": {"conditions": [condition, condition]}}
    said = client.refused(422, "PATCH", f"{cluster_policies}/twice/status", change, media=MERGE)
    assert [(cause["field"], cause["reason"]) for cause in said["details"]["causes"]] == [
        ("status.conditions[1]", "FieldValueDuplicate")
    ]


# --- our own definition, and the code that reads what it lets in


@pytest.mark.parametrize("spec", SECURITY_POLICY_TAKEN, ids=shortened)
def test_what_the_definition_takes_the_code_understands(client: Client, security_policies: str, spec: Any) -> None:
    made = client.ok("POST", f"{security_policies}?dryRun=All", security_policy("sp", **spec))
    assert not securitypolicy.section(made).fault


def allowed(**spec: Any) -> list[str]:
    """The words that the code says are allowed, where it is given another."""
    return securitypolicy.section(security_policy("sp", **spec)).fault.rpartition("allowed: ")[2].split(", ")


def test_the_definition_knows_the_words_of_the_code_and_no_other(our_definition: dict[str, Any]) -> None:
    schema = our_definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    rule = schema["rules"]["items"]["properties"]
    whole = {"action": "Allow", "direction": "In"}
    assert schema["priority"]["maximum"] == securitypolicy.MAX_PRIORITY
    assert rule["action"]["enum"] == allowed(rules=[{**whole, "action": "?"}])
    assert rule["direction"]["enum"] == allowed(rules=[{**whole, "direction": "?"}])
    protocol = rule["ports"]["items"]["properties"]["protocol"]
    assert protocol["enum"] == allowed(rules=[{**whole, "ports": [{"protocol": "?"}]}])
    peer, target = rule["sources"]["items"]["properties"], schema["appliedTo"]["items"]["properties"]
    assert sorted(peer) == allowed(rules=[{**whole, "sources": [{"?": {}}]}])
    assert list(target) == allowed(appliedTo=[{"?": {}}])
    requirement = target["podSelector"]["properties"]["matchExpressions"]["items"]["properties"]
    assert requirement["operator"]["enum"] == list(OPERATORS)


# --- kubectl


@with_kubectl
def test_kubectl_describes_and_explains_network_policies(kubectl: Kubectl) -> None:
    policy = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}, matchExpressions: [{key: a, operator: In, values: [c, b]}]}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
    ports: [{port: http, protocol: TCP}, {port: 80, endPort: 90, protocol: UDP}]
"""
    assert "web created" in kubectl("apply", "-f", "-", stdin=policy)
    assert "web unchanged" in kubectl("apply", "-f", "-", stdin=policy)
    assert kubectl("get", "netpol").splitlines()[0].split() == ["NAME", "POD-SELECTOR", "AGE"]
    assert "a in (b,c),app=web" in kubectl("get", "netpol", "web")
    told = kubectl("describe", "networkpolicy", "web")
    for words in (
        "PodSelector:     a in (b,c),app=web",
        "To Port: http/TCP",
        "CIDR: 10.0.0.0/8",
        "Except: 10.1.0.0/16",
    ):
        assert words in told
    assert "Policy Types: Ingress\n" in told
    refused = kubectl("apply", "-f", "-", stdin=policy.replace("10.1.0.0/16", "10.0.0.0/8"), code=1)
    assert "spec.ingress[0].from[1].ipBlock.except[0]: Invalid value" in refused
    explained = kubectl("explain", "networkpolicy.spec.ingress.ports")
    assert "port\t<IntOrString>" in explained
    assert "endPort\t<integer>" in explained


@with_kubectl
def test_kubectl_shows_and_explains_security_policies(kubectl: Kubectl, security_policies: str) -> None:
    policy = """
apiVersion: crd.nsx.vmware.com/v1alpha1
kind: SecurityPolicy
metadata: {name: web}
spec: {priority: 10, rules: [{action: Reject, direction: In}]}
"""
    kubectl("apply", "-f", "-", stdin=policy)
    head, row = kubectl("get", "securitypolicies").splitlines()
    assert head.split() == ["NAME", "PRIORITY", "REALIZED", "AGE"]
    assert row.split()[:2] == ["web", "10"]
    assert "Drop is silent, Reject tells the sender." in kubectl("explain", "securitypolicy.spec.rules.action")
    refused = kubectl("apply", "-f", "-", stdin=policy.replace("Reject", "Deny"), code=1)
    assert 'spec.rules[0].action: Unsupported value: "Deny": supported values: "Allow", "Drop", "Reject"' in refused

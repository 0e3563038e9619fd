"""Policies of every kind: what servers fill in, refuse and take."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from labs import crds
from ncp.kube.client import Kube

from .client import Answer, Client, Object
from .concessions import Server
from .policies import (
    CLUSTER_POLICY_REFUSED,
    CLUSTER_POLICY_TAKEN,
    DEFAULT_TYPES,
    END_PORT,
    NETWORK_POLICY_REFUSED,
    NETWORK_POLICY_TAKEN,
    SECURITY_POLICY_REFUSED,
    SECURITY_POLICY_TAKEN,
    Refused,
    cluster_policy,
    security_policy,
    shortened,
)
from .shapes import CRDS, await_answer, eventually, network_policies, network_policy

CLUSTER_POLICIES = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"


def define(api: Client, definition: Object, collection: str) -> None:
    """Make a definition, where it is not there yet, and wait until its objects are served."""
    assert api.post(CRDS, definition).status in (201, 409)
    await_answer(api, collection)


@pytest.fixture
def cluster_policies(api: Client, manifests: Path) -> str:
    """The path of ClusterNetworkPolicies, on a server that has them as they are published."""
    file = manifests / "crds" / "policy.networking.k8s.io_clusternetworkpolicies.yaml"
    define(api, yaml.safe_load(file.read_text()), CLUSTER_POLICIES)
    return CLUSTER_POLICIES


@pytest.fixture
def security_policies(api: Client, ns: str) -> str:
    """The path of the namespace's SecurityPolicies, on a server that has this project's definition."""
    path = f"/apis/crd.nsx.vmware.com/v1alpha1/namespaces/{ns}/securitypolicies"
    definition = security_policy_definition()
    define(api, definition, path)
    return path


def security_policy_definition() -> dict[str, Any]:
    return next(each for each in crds.definitions() if each["spec"]["names"]["kind"] == "SecurityPolicy")


def names(answer: Answer, field: str) -> bool:
    """Whether a refusal names the field; old servers leave the places in lists out."""
    return bool({field, re.sub(r"\[\d+\]", "", field)} & answer.fields)


# --- NetworkPolicy


@pytest.mark.parametrize("case", NETWORK_POLICY_REFUSED, ids=str)
def test_a_wrong_network_policy_is_refused(server: Server, ns: str, case: Refused) -> None:
    if case.needs:
        server.needs(case.needs)
    answer = server.client.post(network_policies(ns), network_policy("np", **case.spec)).must(422, "Invalid")
    assert answer.fields == {case.field}
    assert {cause["reason"] for cause in answer.body["details"]["causes"]} == {case.reason}
    assert answer.body["details"]["kind"] == "NetworkPolicy"


@pytest.mark.parametrize("spec", NETWORK_POLICY_TAKEN, ids=shortened)
def test_a_network_policy_at_the_edge_is_taken(api: Client, ns: str, spec: Object) -> None:
    api.post(network_policies(ns), network_policy("np.edge", **spec)).must(201)


@pytest.mark.parametrize(("port", "end"), [(80, 80), (1, 65535)])
def test_a_range_of_ports_is_taken(server: Server, ns: str, port: int, end: int) -> None:
    server.needs(END_PORT)
    rule = {"ports": [{"port": port, "endPort": end, "protocol": "TCP"}]}
    made = server.client.post(network_policies(ns), network_policy("np", ingress=[rule])).must(201).body
    assert made["spec"]["ingress"] == [rule]


@pytest.mark.parametrize(("spec", "types"), DEFAULT_TYPES, ids=str)
def test_policy_types_follow_from_the_rules(api: Client, ns: str, spec: Object, types: list[str]) -> None:
    made = api.post(network_policies(ns), network_policy("np", **spec)).must(201).body
    assert made["spec"]["policyTypes"] == types
    assert made["metadata"]["generation"] == 1


def test_ports_are_tcp_where_nothing_is_said(api: Client, ns: str) -> None:
    body = network_policy("np", ingress=[{"ports": [{"port": 80}, {}]}], egress=[{"ports": [{"port": "dns"}]}])
    spec = api.post(network_policies(ns), body).must(201).body["spec"]
    assert spec["ingress"] == [{"ports": [{"port": 80, "protocol": "TCP"}, {"protocol": "TCP"}]}]
    assert spec["egress"] == [{"ports": [{"port": "dns", "protocol": "TCP"}]}]
    assert spec["podSelector"] == {}


def test_a_change_of_a_network_policy_is_checked_as_well(api: Client, ns: str) -> None:
    path = f"{network_policies(ns)}/np"
    made = api.post(network_policies(ns), network_policy("np")).must(201).body
    wrong = {"ingress": [{"ports": [{"port": 0}]}]}
    api.put(path, {**made, "spec": {**made["spec"], **wrong}}).must(422, "Invalid")
    api.strategic(path, {"spec": wrong}).must(422, "Invalid")
    assert api.get(path).body == made


def test_the_column_of_a_network_policy_is_its_selector_in_order_of_keys(api: Client, ns: str) -> None:
    needs = [
        {"key": "d", "operator": "In", "values": ["y", "x"]},
        {"key": "a", "operator": "Exists"},
        {"key": "b", "operator": "DoesNotExist"},
        {"key": "e", "operator": "NotIn", "values": ["x"]},
    ]
    body = network_policy("np", podSelector={"matchExpressions": needs, "matchLabels": {"c": "z"}})
    api.post(network_policies(ns), body).must(201)
    table = api.table(network_policies(ns))
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Pod-Selector", "Age"]
    assert table["rows"][0]["cells"][1] == "a,!b,c=z,d in (x,y),e notin (x)"


# --- ClusterNetworkPolicy, as published


@pytest.mark.parametrize("case", CLUSTER_POLICY_REFUSED, ids=str)
def test_a_wrong_cluster_policy_is_refused(server: Server, ns: str, cluster_policies: str, case: Refused) -> None:
    if case.needs:
        server.needs(case.needs)
    answer = server.client.post(cluster_policies, cluster_policy(ns, **case.spec)).must(422, "Invalid")
    assert names(answer, case.field), answer.fields


@pytest.mark.parametrize("spec", CLUSTER_POLICY_TAKEN, ids=shortened)
def test_a_cluster_policy_at_the_edge_is_taken(api: Client, ns: str, cluster_policies: str, spec: Object) -> None:
    made = api.post(cluster_policies, cluster_policy(ns, **spec)).must(201).body
    assert {field: made["spec"][field] for field in spec} == spec
    api.delete(f"{cluster_policies}/{ns}").must(200)


CONDITION = {
    "type": "Accepted",
    "status": "True",
    "reason": "Understood",
    "message": "as published",  # not empty: kube-apiserver 1.20 takes an empty required string for null
    "lastTransitionTime": "2026-01-02T03:04:05Z",
    "observedGeneration": 1,
}


def test_the_status_of_a_cluster_policy_is_apart_and_checked(api: Client, ns: str, cluster_policies: str) -> None:
    path = f"{cluster_policies}/{ns}"
    made = api.post(cluster_policies, {**cluster_policy(ns), "status": {"conditions": [CONDITION]}}).must(201).body
    assert "status" not in made

    change = {"spec": {"priority": 20}, "status": {"conditions": [CONDITION]}}
    after = api.merge(f"{path}/status", change).must(200).body
    assert (after["spec"]["priority"], after["metadata"]["generation"]) == (10, 1)
    assert after["status"] == {"conditions": [CONDITION]}
    assert api.merge(path, change).must(200).body["metadata"]["generation"] == 2
    api.delete(path).must(200)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": "not a word"}, "status.conditions[0].reason"),
        ({"reason": ""}, "status.conditions[0].reason"),
        ({"status": "Maybe"}, "status.conditions[0].status"),
        ({"type": "-"}, "status.conditions[0].type"),
        ({"lastTransitionTime": "yesterday"}, "status.conditions[0].lastTransitionTime"),
        ({"observedGeneration": -1}, "status.conditions[0].observedGeneration"),
        ({"message": None}, "status.conditions[0].message"),
    ],
    ids=str,
)
def test_a_wrong_status_is_refused(api: Client, ns: str, cluster_policies: str, change: Object, field: str) -> None:
    api.post(cluster_policies, cluster_policy(ns)).must(201)
    condition = {name: value for name, value in {**CONDITION, **change}.items() if value is not None}
    answer = api.merge(f"{cluster_policies}/{ns}/status", {"status": {"conditions": [condition]}})
    assert names(answer.must(422, "Invalid"), field), answer.fields
    api.delete(f"{cluster_policies}/{ns}").must(200)


def test_the_columns_of_a_cluster_policy(api: Client, ns: str, cluster_policies: str) -> None:
    api.post(cluster_policies, cluster_policy(ns)).must(201)
    table = api.table(f"{cluster_policies}/{ns}")
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Tier", "Priority", "Age"]
    assert table["rows"][0]["cells"][:3] == [ns, "Admin", "10"]
    api.delete(f"{cluster_policies}/{ns}").must(200)


# --- SecurityPolicy, as this project defines it


@pytest.mark.parametrize("case", SECURITY_POLICY_REFUSED, ids=str)
def test_a_wrong_security_policy_is_refused(api: Client, security_policies: str, case: Refused) -> None:
    answer = api.post(security_policies, security_policy("sp", **case.spec)).must(422, "Invalid")
    assert names(answer, case.field), answer.fields


@pytest.mark.parametrize("spec", SECURITY_POLICY_TAKEN, ids=shortened)
def test_a_security_policy_at_the_edge_is_taken(api: Client, security_policies: str, spec: Object) -> None:
    api.post(security_policies, security_policy("sp", **spec)).must(201)


def test_a_security_policy_must_have_a_spec(api: Client, security_policies: str) -> None:
    body: dict[str, Any] = security_policy("sp")
    del body["spec"]
    assert api.post(security_policies, body).must(422, "Invalid").fields == {"spec"}


def test_a_security_policy_is_defaulted_and_shows_whether_it_is_realized(api: Client, security_policies: str) -> None:
    body = security_policy("sp", rules=[{"action": "Drop", "direction": "In", "ports": [{"port": 80}]}])
    made = api.post(security_policies, body).must(201).body
    assert made["spec"]["priority"] == 0
    assert made["spec"]["rules"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]

    status = {"conditions": [{"type": "Other", "status": "False"}, {"type": "Realized", "status": "True"}]}
    after = api.merge(f"{security_policies}/sp/status", {"status": status, "spec": {"priority": 7}}).must(200).body
    assert (after["status"], after["spec"]["priority"], after["metadata"]["generation"]) == (status, 0, 1)
    table = api.table(security_policies)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Priority", "Realized", "Age"]
    assert table["rows"][0]["cells"][:3] == ["sp", 0, "True"]


def test_a_lab_defines_it_anew_only_where_it_is_another(server: Server, security_policies: str) -> None:
    definition = security_policy_definition()
    path = f"{CRDS}/{definition['metadata']['name']}"
    with closing(Kube.connect(str(server.kubeconfig))) as kube:
        eventually(lambda: crds.defined(kube), "the definition is served")
        before = server.client.get(path).must(200).body
        assert crds.defined(kube)
        assert server.client.get(path).body["metadata"]["generation"] == before["metadata"]["generation"]

        columns = "/spec/versions/0/additionalPrinterColumns"
        server.client.json_patch(path, [{"op": "remove", "path": columns}]).must(200)
        eventually(lambda: crds.defined(kube), "the definition is served again")
        assert server.client.get(path).body["spec"] == before["spec"]

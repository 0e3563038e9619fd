from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.api.client import MERGE, Client


@pytest.fixture
def path(ns: str) -> str:
    return f"/api/v1/namespaces/{ns}/services"


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}], **spec}}


def test_a_service_is_completed(client: Client, path: str) -> None:
    spec = client.ok("POST", path, service("s"))["spec"]
    assert ip_address(spec["clusterIP"]) in ip_network("10.96.0.0/16")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    rest = ("type", "sessionAffinity", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    assert [spec[field] for field in rest] == ["ClusterIP", "None", ["IPv4"], "SingleStack", "Cluster"]


def test_dual_stack_gets_both_families_in_the_order_asked_for(client: Client, path: str) -> None:
    both = client.ok("POST", path, service("s", ipFamilyPolicy="PreferDualStack"))["spec"]
    assert both["ipFamilies"] == ["IPv4", "IPv6"]
    assert ip_address(both["clusterIPs"][1]) in ip_network("fd00:10:96::/112")
    six = client.ok("POST", path, service("t", ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6"]))["spec"]
    assert six["ipFamilies"] == ["IPv6", "IPv4"]
    assert ":" in six["clusterIP"]
    only = client.ok("POST", path, service("u", ipFamilies=["IPv6"]))["spec"]
    assert (only["ipFamilies"], len(only["clusterIPs"])) == (["IPv6"], 1)
    wrong = client.refused(422, "POST", path, service("v", ipFamilies=["IPv6", "IPv4"], ipFamilyPolicy="SingleStack"))
    assert "spec.ipFamilyPolicy" in wrong["message"]


def test_headless_and_external_services_have_no_address(client: Client, path: str) -> None:
    assert client.ok("POST", path, service("h", clusterIP="None"))["spec"]["clusterIPs"] == ["None"]
    body = {"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}
    assert "clusterIP" not in client.ok("POST", path, body)["spec"]


def test_an_address_is_given_once_and_free_again_after(client: Client, path: str) -> None:
    client.ok("POST", path, service("a", clusterIP="10.96.0.77"))
    said = client.refused(422, "POST", path, service("b", clusterIP="10.96.0.77"))["message"]
    assert "provided IP is already allocated" in said
    client.ok("DELETE", f"{path}/a")
    client.ok("POST", path, service("b", clusterIP="10.96.0.77"))
    assert "not in the valid range" in client.refused(422, "POST", path, service("c", clusterIP="192.0.2.1"))["message"]


def test_addresses_and_node_ports_stay_over_updates(client: Client, path: str) -> None:
    made = client.ok("POST", path, service("s", type="NodePort"))
    port = made["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    again = client.ok("PUT", f"{path}/s", service("s", type="NodePort", sessionAffinity="ClientIP"))
    assert (again["spec"]["clusterIP"], again["spec"]["ports"][0]["nodePort"]) == (made["spec"]["clusterIP"], port)
    said = client.refused(
        422, "PATCH", f"{path}/s", {"spec": {"clusterIP": "10.96.3.3", "clusterIPs": ["10.96.3.3"]}}, media=MERGE
    )
    assert "may not change once set" in said["message"]
    plain = client.ok("PATCH", f"{path}/s", {"spec": {"type": "ClusterIP"}}, media=MERGE)
    assert "nodePort" not in plain["spec"]["ports"][0]
    client.ok("POST", path, service("t", type="NodePort", ports=[{"port": 80, "nodePort": port}]))
    twice = client.refused(422, "POST", path, service("u", type="NodePort", ports=[{"port": 80, "nodePort": port}]))
    assert "provided port is already allocated" in twice["message"]


def test_a_service_becomes_dual_stack_and_single_again(client: Client, path: str) -> None:
    first = client.ok("POST", path, service("s"))["spec"]["clusterIP"]
    dual = client.ok("PATCH", f"{path}/s", {"spec": {"ipFamilyPolicy": "PreferDualStack"}}, media=MERGE)["spec"]
    assert (dual["clusterIPs"][0], len(dual["clusterIPs"])) == (first, 2)
    single = client.ok("PATCH", f"{path}/s", {"spec": {"ipFamilyPolicy": "SingleStack"}}, media=MERGE)["spec"]
    assert (single["clusterIPs"], single["ipFamilies"]) == ([first], ["IPv4"])


def test_several_ports_need_names(client: Client, path: str) -> None:
    said = client.refused(422, "POST", path, service("s", ports=[{"port": 1}, {"port": 2}]))
    assert [cause["field"] for cause in said["details"]["causes"]] == ["spec.ports[0].name", "spec.ports[1].name"]

"""Addresses outside against an API server, with the manager as it runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

import ncp
from labs.api.testing import EmbeddedApi
from ncp.kube.custom import is_served
from ncp.kube.errors import Invalid
from ncp.kube.resources import (
    ADDRESS_BINDINGS,
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    NAMESPACES,
    PODS,
    SERVICES,
    Resource,
)
from tests.manager.conftest import INI, Client, eventually

MANIFEST = Path(ncp.__file__).parents[1] / "deploy" / "crds" / "addressbinding.yaml"
POOLS = INI.replace(
    "[nsx_v3]", "[nsx_v3]\nexternal_ip_pools = out=172.20.0.160-172.20.0.167, out=fd20::a0-fd20::a7, web=172.21.0.1"
)
_numbers = itertools.count(1)


class Space:
    """A namespace of the test's own."""

    def __init__(self, client: Client) -> None:
        self.client, self.kube, self.name = client, client.kube, f"t{next(_numbers)}"
        client.namespace(self.name)

    def make(self, resource: Resource, name: str, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        meta = {"name": name, "annotations": annotations or {}}
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, "spec": spec}
        self.kube.create(resource, obj, self.name)

    def annotate(self, resource: Resource, name: str, **annotations: str | None) -> None:
        named = {key.replace("__", "/"): text for key, text in annotations.items()}
        namespace = self.name if resource.namespaced else ""
        self.kube.patch(resource, name, namespace, body={"metadata": {"annotations": named}})

    def note(self, resource: Resource, name: str, annotation: str) -> str:
        obj = self.kube.get(resource, name, self.name if resource.namespaced else "")
        return (obj["metadata"].get("annotations") or {}).get(annotation, "")

    def notes(self, resource: Resource, name: str, annotation: str, start: str) -> str:
        """The annotation, once it begins so."""
        return eventually(
            lambda: (text := self.note(resource, name, annotation)).startswith(start) and text,
            f"{name}: {annotation} {start}",
            5,
        )

    def lacks(self, resource: Resource, name: str, annotation: str) -> None:
        eventually(lambda: not self.note(resource, name, annotation), f"{name}: no {annotation}", 5)

    def bound(self, name: str, reason: str) -> list[str]:
        """The addresses of a binding, once its condition has a reason."""

        def look() -> dict[str, Any] | None:
            status = self.kube.get(ADDRESS_BINDINGS, name, self.name).get("status") or {}
            reasons = [each["reason"] for each in status.get("conditions", ()) if each["type"] == "Ready"]
            return status if reasons == [reason] else None

        return eventually(look, f"{name}: {reason}", 5)["ipAddresses"]

    def events(self, kind: str, name: str) -> set[tuple[str, str]]:
        found, _ = self.kube.list(EVENTS)
        about = ((each, each["involvedObject"]) for each in found)
        return {(each["type"], each["reason"]) for each, obj in about if (obj["kind"], obj["name"]) == (kind, name)}


def age(obj: dict[str, Any]) -> tuple[str, str]:
    return obj["metadata"]["creationTimestamp"], obj["metadata"]["uid"]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedApi]:
    with EmbeddedApi() as api:
        yield api


@pytest.fixture(scope="module")
def shared(server: EmbeddedApi) -> Iterator[Client]:
    found = Client(str(server.kubeconfig))
    definition = yaml.safe_load(MANIFEST.read_text())
    found.kube.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
    name = definition["metadata"]["name"]
    eventually(lambda: is_served(found.kube.get(CUSTOM_RESOURCE_DEFINITIONS, name), "v1alpha1"), "it is served")
    for namespace in found.kube.list(NAMESPACES)[0]:  # those of every cluster are not to take part
        body = {"metadata": {"annotations": {"ncp/max_snat_addresses": "0"}}}
        found.kube.patch(NAMESPACES, namespace["metadata"]["name"], body=body)
    yield found
    found.kube.close()


@pytest.fixture
def space(shared: Client) -> Iterator[Space]:
    found = Space(shared)
    yield found
    for resource in (SERVICES, ADDRESS_BINDINGS, PODS):
        for obj in found.kube.list(resource, found.name)[0]:
            found.kube.delete(resource, obj["metadata"]["name"], found.name)
    found.kube.delete(NAMESPACES, found.name)


def test_a_namespace_gets_its_addresses_moves_to_static_ones_and_back(space: Space):
    name = space.name
    with space.client.manager(POOLS) as manager:
        assert space.notes(NAMESPACES, name, "ncp/snat_ip", "172") == "172.20.0.160,fd20::a0"
        space.annotate(NAMESPACES, name, ncp__static_snat_ip="172.20.0.165")
        space.notes(NAMESPACES, name, "ncp/snat_ip", "172.20.0.165,fd20::a0")
        assert space.note(NAMESPACES, name, "ncp/snat_ip_status") == "IP_ALLOCATED_SUCCESSFULLY"
        space.annotate(NAMESPACES, name, ncp__static_snat_ip="192.0.2.1")
        said = space.notes(NAMESPACES, name, "ncp/snat_ip_status", "IP_NOT_IN_POOL: ")
        assert "192.0.2.1" in said
        assert space.note(NAMESPACES, name, "ncp/snat_ip") == "172.20.0.165,fd20::a0"
        wanted = {("Normal", "IP_ASSIGNED"), ("Warning", "IP_NOT_IN_POOL")}
        eventually(lambda: wanted <= space.events("Namespace", name), "both events")
        eventually(lambda: manager.stats().waiting_outside >= 1, "it is counted")
        space.annotate(NAMESPACES, name, ncp__static_snat_ip="172.20.0.166")
        space.notes(NAMESPACES, name, "ncp/snat_ip", "172.20.0.166,")
        space.annotate(NAMESPACES, name, ncp__static_snat_ip=None)
        space.lacks(NAMESPACES, name, "ncp/snat_ip_status")
        text = "the first address that does not rest; that of IPv6 it never asked for stays"
        assert space.note(NAMESPACES, name, "ncp/snat_ip") == "172.20.0.161,fd20::a0", text
        held = [(each.pool, each.family, each.held) for each in manager.stats().external]
        assert held == [("out", 4, 1), ("out", 6, 1), ("web", 4, 0)]
        text = generate_latest(manager.meters.registry).decode()
        assert 'ncp_manager_external_addresses{family="4",pool="out",state="held"} 1.0' in text


def test_a_new_manager_goes_by_what_the_objects_show(space: Space):
    with space.client.manager(POOLS):
        space.annotate(NAMESPACES, space.name, ncp__static_snat_ip="172.20.0.163")
        space.notes(NAMESPACES, space.name, "ncp/snat_ip", "172.20.0.163,")
        space.make(SERVICES, "web", {"ncp/snat_pool": "web"}, ports=[{"port": 80}])
        space.notes(SERVICES, "web", "ncp/snat_ip", "172.21.0.1")
        space.client.pod(space.name, "p")
        space.make(ADDRESS_BINDINGS, "b", podName="p", ipAddress="172.20.0.160")
        space.bound("b", "IP_ALLOCATED_SUCCESSFULLY")
    before = space.kube.get(ADDRESS_BINDINGS, "b", space.name), space.kube.get(SERVICES, "web", space.name)
    shown = space.note(NAMESPACES, space.name, "ncp/snat_ip")
    with space.client.manager(POOLS):
        space.make(SERVICES, "late", {"ncp/snat_pool": "web"}, ports=[{"port": 80}])
        space.notes(SERVICES, "late", "ncp/error.snat", "IP_POOL_EXHAUSTED")
        space.make(SERVICES, "other", {"ncp/snat_pool": "out"}, ports=[{"port": 80}])
        space.notes(SERVICES, "other", "ncp/snat_ip", "172.20.0.161")
        assert before == (
            space.kube.get(ADDRESS_BINDINGS, "b", space.name),
            space.kube.get(SERVICES, "web", space.name),
        )
        assert space.note(NAMESPACES, space.name, "ncp/snat_ip") == shown


def test_services_and_bindings_get_theirs_and_give_them_back(space: Space):
    with space.client.manager(POOLS):
        space.make(SERVICES, "old", {"ncp/snat_pool": "web"}, ports=[{"port": 80}])
        space.notes(SERVICES, "old", "ncp/snat_ip", "172.21.0.1")
        space.make(SERVICES, "new", {"ncp/snat_pool": "web"}, ports=[{"port": 80}])
        space.notes(SERVICES, "new", "ncp/error.snat", "IP_POOL_EXHAUSTED: ")
        space.annotate(SERVICES, "old", ncp__snat_pool=None)
        space.notes(SERVICES, "new", "ncp/snat_ip", "172.21.0.1")
        space.lacks(SERVICES, "new", "ncp/error.snat")
        space.lacks(SERVICES, "old", "ncp/snat_ip")
        space.make(ADDRESS_BINDINGS, "b", podName="p", pool="out")
        assert space.bound("b", "POD_UNKNOWN") == []
        space.client.pod(space.name, "p")
        first = space.bound("b", "IP_ALLOCATED_SUCCESSFULLY")
        assert [each.partition("::")[0] for each in first] == ["172.20.0.161", "fd20"]
        since = space.kube.get(ADDRESS_BINDINGS, "b", space.name)["status"]["conditions"][0]["lastTransitionTime"]
        space.kube.delete(ADDRESS_BINDINGS, "b", space.name)
        for name in ("one", "two"):
            space.make(ADDRESS_BINDINGS, name, podName="p")
        # They may have been made in the same second, and then it is their uids that say which is older.
        has, lacks = sorted(("one", "two"), key=lambda name: age(space.kube.get(ADDRESS_BINDINGS, name, space.name)))
        space.bound(has, "IP_ALLOCATED_SUCCESSFULLY")
        assert space.bound(lacks, "POD_ALREADY_BOUND") == []
        space.annotate(NAMESPACES, space.name, ncp__max_snat_addresses="4")
        space.kube.delete(ADDRESS_BINDINGS, has, space.name)
        assert len(space.bound(lacks, "QUOTA_EXCEEDED")) == 1
        space.kube.delete(SERVICES, "new", space.name)
        assert len(space.bound(lacks, "IP_ALLOCATED_SUCCESSFULLY")) == 2
        after = space.kube.get(ADDRESS_BINDINGS, lacks, space.name)["status"]["conditions"][0]
        assert after["observedGeneration"] == 1
        assert since <= after["lastTransitionTime"]


@pytest.mark.parametrize("spec", [{}, {"podName": ""}, {"podName": "p", "ipAddress": "x"}])
def test_the_schema_refuses_what_cannot_be_meant(space: Space, spec: dict[str, str]):
    with pytest.raises(Invalid):
        space.make(ADDRESS_BINDINGS, "b", **spec)

"""Virtual addresses against an API server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import generate_latest

from labs.api.testing import EmbeddedApi
from ncp.kube.client import Kube
from ncp.kube.resources import EVENTS, NAMESPACES, SERVICES
from ncp.manager import keeper, vips
from ncp.manager.demand import LoadBalancing
from ncp.settings import parse
from tests.manager.conftest import INI, Client, eventually

POOLS = INI.replace("[nsx_v3]", "[nsx_v3]\nexternal_ip_pools_lb = lab=192.168.50.200-192.168.50.201, lab=fd50::200")
_numbers = itertools.count(1)


class Space:
    """A namespace of the test's own with services in it."""

    def __init__(self, client: Client) -> None:
        self.client, self.kube, self.name = client, client.kube, f"s{next(_numbers)}"
        client.namespace(self.name)

    def service(self, name: str, **spec: Any) -> None:
        spec = {"type": "LoadBalancer", "ports": [{"port": 80}]} | spec
        obj = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
        self.kube.create(SERVICES, obj, self.name)

    def now(self, name: str) -> dict[str, Any]:
        return self.kube.get(SERVICES, name, self.name)

    def change(self, name: str, **body: Any) -> dict[str, Any]:
        return self.kube.patch(SERVICES, name, self.name, body=body)

    def show(self, name: str, *shown: str) -> None:
        ingress = [{"ip": each} for each in shown]
        body = {"status": {"loadBalancer": {"ingress": ingress}}}
        self.kube.patch(SERVICES, name, self.name, body=body, subresource="status")

    def shown(self, name: str) -> list[str]:
        return [each["ip"] for each in self.now(name)["status"]["loadBalancer"].get("ingress", ())]

    def shows(self, name: str, *shown: str) -> None:
        eventually(lambda: self.shown(name) == list(shown), f"{name} shows {shown}", 5)

    def error(self, name: str) -> str:
        return (self.now(name)["metadata"].get("annotations") or {}).get("ncp/error.loadbalancer", "")

    def fails(self, name: str, start: str) -> None:
        eventually(lambda: self.error(name).startswith(start + ": "), f"{name}: {start}", 5)

    def events(self, name: str) -> list[tuple[str, str]]:
        found, _ = self.kube.list(EVENTS, self.name)
        return [(each["type"], each["reason"]) for each in found if each["involvedObject"]["name"] == name]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedApi]:
    with EmbeddedApi() as api:
        yield api


@pytest.fixture(scope="module")
def shared(server: EmbeddedApi) -> Iterator[Client]:
    found = Client(str(server.kubeconfig))
    yield found
    found.kube.close()


@pytest.fixture
def space(shared: Client) -> Iterator[Space]:
    found = Space(shared)
    yield found
    for service in found.kube.list(SERVICES, found.name)[0]:
        found.kube.delete(SERVICES, service["metadata"]["name"], found.name)
    found.kube.delete(NAMESPACES, found.name)


def test_addresses_are_given_waited_for_and_given_back(space: Space):
    with space.client.manager(POOLS) as manager:
        space.service("one", ipFamilyPolicy="PreferDualStack")
        space.shows("one", "192.168.50.200", "fd50::200")
        assert space.now("one")["status"]["loadBalancer"]["ingress"][0] == {"ip": "192.168.50.200", "ipMode": "VIP"}
        space.service("two", loadBalancerIP="192.168.50.201")
        space.shows("two", "192.168.50.201")
        space.service("three")
        space.fails("three", "IP_POOL_EXHAUSTED")
        assert [(each.family, each.held) for each in manager.stats().pools] == [(4, 2), (6, 1)]
        assert manager.stats().waiting_services == 1
        text = generate_latest(manager.meters.registry).decode()
        assert 'ncp_manager_virtual_addresses{family="4",pool="lab",state="held"} 2.0' in text
        space.kube.delete(SERVICES, "two", space.name)
        space.shows("three", "192.168.50.201")
        assert space.error("three") == ""
        wanted = {("Warning", "IP_POOL_EXHAUSTED"), ("Normal", "IP_ASSIGNED")}
        eventually(lambda: set(space.events("three")) == wanted, "both events")
        space.change("three", spec={"type": "ClusterIP"})
        eventually(lambda: not space.now("three")["metadata"].get("annotations"), "three is nobody's")
        assert space.shown("three") == []
        space.service("four", loadBalancerIP="nowhere")
        space.fails("four", "IP_POOL_NOT_FOUND")
        space.change("four", spec={"loadBalancerIP": "lab"})
        space.shows("four", "192.168.50.201")


def test_a_new_manager_goes_by_what_the_services_show(space: Space):
    with space.client.manager(POOLS):
        space.service("one")
        space.shows("one", "192.168.50.200")
        space.service("two")
        space.shows("two", "192.168.50.201")
    space.kube.delete(SERVICES, "one", space.name)
    before = space.now("two")["metadata"]["resourceVersion"]
    with space.client.manager(POOLS):
        space.service("three")
        space.shows("three", "192.168.50.200")
        assert space.now("two")["metadata"]["resourceVersion"] == before, "what is right is not written again"
    space.change("three", spec={"type": "ClusterIP"})
    with space.client.manager(INI):
        space.fails("two", "IP_POOL_NOT_FOUND")
        space.shows("two")


def test_services_of_another_class_are_not_touched(space: Space):
    with space.client.manager(POOLS):
        space.service("theirs", loadBalancerClass="example.com/lb")
        space.show("theirs", "192.168.50.200")
        space.service("ours", loadBalancerClass="ncp/native")
        space.shows("ours", "192.168.50.201")
    assert space.shown("theirs") == ["192.168.50.200"]
    assert "annotations" not in space.now("theirs")["metadata"]
    assert space.events("theirs") == []


def test_a_status_that_somebody_rewrites_is_not_fought_over_without_a_pause(
    space: Space, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keeper, "RETRY", 0.3)
    with space.client.manager(POOLS):
        space.service("one")
        space.shows("one", "192.168.50.200")
        began = time.monotonic()
        for _ in range(3):
            space.show("one", "192.0.2.1")
            space.shows("one", "192.168.50.200")
        assert time.monotonic() - began > 0.5, "the first one at once, each further one after the pause"


def test_without_the_lease_nothing_is_written_and_what_cannot_be_written_is_tried_again(
    space: Space, server: EmbeddedApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(keeper, "RETRY", 0.1)
    pools = parse("[nsx_v3]\nexternal_ip_pools_lb = lab=10.0.0.1").nsx_v3.external_ip_pools_lb
    kube = Kube.connect(space.client.kubeconfig)
    leads = False
    follower = vips.VirtualAddresses(kube, LoadBalancing("k8scluster", pools), lambda: leads)
    follower.start()
    try:
        space.service("one")
        eventually(lambda: any(each.held for each in follower.usage()), "the address is decided on")
        assert space.shown("one") == []
        server.stop()
        leads = True
        eventually(lambda: "its addresses could not be written" in caplog.text, "a write that fails")
        server.start()
        space.shows("one", "10.0.0.1")
    finally:
        follower.stop()
        kube.close()

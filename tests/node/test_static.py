"""StaticRoutes realised in the main table of a node's namespace, said on real objects of a real API server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from ipam.address import parse_prefix
from labs.api.testing import EmbeddedApi
from labs.crds import defined
from ncp.kube.client import Kube
from ncp.kube.errors import NotFound
from ncp.kube.resources import NODES, STATIC_ROUTES
from ncp.node.edge import Edge
from ncp.plumbing.namespace import Namespace
from ncp.plumbing.routes import NextHop, routes
from ncp.settings import parse
from sdn.model import Intent
from tests.frr.routers import wait
from tests.sdn.worlds import world
from tests.support.netns import ip, namespace

pytestmark = pytest.mark.switch


@pytest.fixture(scope="module")
def kube() -> Iterator[Kube]:
    with EmbeddedApi() as api:
        connected = Kube.connect(str(api.kubeconfig))
        wait(lambda: defined(connected), "definitions")
        connected.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}})
        yield connected
        connected.close()


class Agent:
    """An edge without BGP on two uplinks, whose machine has a default route of its own."""

    def __init__(self, kube: Kube, netns: str, directory) -> None:
        self.kube, self.netns, self.directory = kube, netns, directory
        self.intent: Intent | None = world().replace(blocks=(parse_prefix("10.4.0.0/16"),))
        self.namespace = Namespace(netns, threads=1)
        for number in (0, 1):
            ip("link", "add", f"up{number}", "type", "veth", "peer", f"far{number}", netns=netns)
            ip("link", "set", f"far{number}", "up", netns=netns)
            ip("addr", "add", f"192.168.1{number}.2/24", "dev", f"up{number}", netns=netns)
            ip("addr", "add", f"fd00:1{number}::2/64", "dev", f"up{number}", "nodad", netns=netns)
            ip("link", "set", f"up{number}", "up", netns=netns)
        ip("route", "add", "default", "via", "192.168.10.254", "proto", "dhcp", "metric", "100", netns=netns)
        self.begin()

    def begin(self) -> None:
        self.edge = Edge(
            parse(""),
            "node1",
            self.directory / "edge",
            self.netns,
            self.kube,
            intent=lambda: self.intent,
            wait=lambda intent, seconds: self.edge._stopping.wait(0.05),
            node=lambda: self.kube.get(NODES, "node1"),
        )
        self.edge.start()

    def apply(self, name: str, network: str, *hops: str) -> None:
        spec = {"network": network, "nextHops": [{"ipAddress": each} for each in hops]}
        meta = {"name": name, "namespace": "default"}
        body = {"apiVersion": "crd.nsx.vmware.com/v1alpha1", "kind": "StaticRoute", "metadata": meta, "spec": spec}
        self.kube.patch(STATIC_ROUTES, name, "default", body=body, kind="apply", field_manager="test", force=True)

    def condition(self, name: str) -> tuple[str, str]:
        conditions = (self.kube.get(STATIC_ROUTES, name, "default").get("status") or {}).get("conditions") or [{}]
        return conditions[0].get("status", ""), conditions[0].get("reason", "")

    def static(self) -> dict[str, list[str]]:
        found = self.namespace.call(lambda ipr: routes())
        return {str(each.prefix): [hop.address for hop in each.next_hops] for each in found if each.origin == "static"}


@pytest.fixture
def agent(kube, tmp_path) -> Iterator[Agent]:
    with namespace("st") as netns:
        found = Agent(kube, netns, tmp_path)
        try:
            yield found
        finally:
            found.edge.stop()
            found.namespace.close()
            for each in kube.list(STATIC_ROUTES)[0]:
                with contextlib.suppress(NotFound):
                    kube.delete(STATIC_ROUTES, each["metadata"]["name"], "default")


def test_a_route_comes_changes_and_goes_with_its_object(agent):
    agent.apply("four", "203.0.113.0/24", "192.168.10.1", "192.168.11.1")
    agent.apply("six", "2001:db8::/32", "fd00:10::1", "fd00:11::1")
    both = {"203.0.113.0/24": ["192.168.10.1", "192.168.11.1"], "2001:db8::/32": ["fd00:10::1", "fd00:11::1"]}
    wait(lambda: agent.static() == both, "both routes with both next hops")
    wait(lambda: {agent.condition(each) for each in ("four", "six")} == {("True", "ROUTE_REALISED")}, "said")
    agent.apply("four", "203.0.113.0/24", "192.168.11.1")
    agent.apply("six", "2001:db8::/32", "fd00:10::9")
    wait(lambda: agent.static() == {"203.0.113.0/24": ["192.168.11.1"], "2001:db8::/32": ["fd00:10::9"]}, "changed")
    agent.kube.delete(STATIC_ROUTES, "four", "default")
    wait(lambda: list(agent.static()) == ["2001:db8::/32"], "one gone")


def test_a_default_route_wins_while_it_is_there_and_the_machines_own_stays(agent):
    def way():
        return ip("route", "get", "8.8.8.8", netns=agent.netns)

    assert "via 192.168.10.254" in way()
    agent.apply("out", "0.0.0.0/0", "192.168.11.1")
    wait(lambda: "via 192.168.11.1" in way(), "ours")
    agent.kube.delete(STATIC_ROUTES, "out", "default")
    wait(lambda: "via 192.168.10.254" in way(), "the machine's own again")


def test_what_cannot_be_routed_says_so_and_is_routed_once_it_can(agent):
    agent.apply("far", "203.0.113.0/24", "192.168.99.1")
    agent.apply("pods", "10.4.7.0/24", "192.168.10.1")
    wait(lambda: agent.condition("far") == ("False", "NEXT_HOP_UNREACHABLE"), "said")
    wait(lambda: agent.condition("pods") == ("False", "NETWORK_OVERLAPS"), "said")
    assert agent.static() == {}
    ip("addr", "add", "192.168.99.2/24", "dev", "up0", netns=agent.netns)
    wait(lambda: agent.condition("far") == ("True", "ROUTE_REALISED"), "said that it is")
    assert agent.static() == {"203.0.113.0/24": ["192.168.99.1"]}


def test_a_route_lost_with_its_device_comes_back_with_it(agent):
    agent.apply("r", "203.0.113.0/24", "192.168.10.1")
    wait(agent.static, "made")
    ip("link", "set", "up0", "down", netns=agent.netns)
    wait(lambda: agent.condition("r")[0] == "False", "said")
    ip("link", "set", "up0", "up", netns=agent.netns)
    wait(lambda: agent.static() and agent.condition("r")[0] == "True", "back")


def test_of_two_next_hops_the_one_that_is_left_serves(agent):
    agent.apply("four", "203.0.113.0/24", "192.168.10.1", "192.168.11.1")
    agent.apply("six", "2001:db8::/32", "fd00:10::1", "fd00:11::1")
    wait(lambda: len(agent.static()) == 2, "made")
    ip("link", "set", "far0", "down", netns=agent.netns)
    left = {"203.0.113.0/24": ["192.168.11.1"], "2001:db8::/32": ["fd00:11::1"]}
    wait(lambda: agent.static() == left, "the other alone")
    wait(lambda: agent.condition("four") == ("False", "NEXT_HOP_UNREACHABLE"), "said")
    ip("link", "set", "far0", "up", netns=agent.netns)
    wait(lambda: all(len(each) == 2 for each in agent.static().values()), "both again")


def test_routes_of_objects_that_went_while_no_agent_ran_are_removed(agent):
    agent.apply("r", "203.0.113.0/24", "192.168.10.1")
    agent.apply("s", "198.51.100.0/24", "192.168.10.1")
    wait(lambda: len(agent.static()) == 2, "made")
    agent.edge.stop()
    agent.kube.delete(STATIC_ROUTES, "r", "default")
    assert len(agent.static()) == 2
    agent.begin()
    wait(lambda: list(agent.static()) == ["198.51.100.0/24"], "only what is asked for")


def test_somebody_elses_route_is_not_replaced(agent):
    ip("route", "add", "203.0.113.0/24", "via", "192.168.10.7", "metric", "10", netns=agent.netns)
    agent.apply("r", "203.0.113.0/24", "192.168.10.1")
    wait(lambda: agent.condition("r")[0] == "False", "said")
    assert "via 192.168.10.7" in ip("route", "show", "203.0.113.0/24", netns=agent.netns)


def test_a_node_that_is_no_edge_has_none(agent):
    agent.apply("r", "203.0.113.0/24", "192.168.10.1")
    wait(agent.static, "made")
    agent.intent = agent.intent.replace(tier0=agent.intent.tier0.__class__(5000, (), "node2"))
    wait(lambda: not agent.static(), "removed")


def test_all_routes_are_told_with_who_made_them(agent):
    agent.apply("r", "203.0.113.0/24", "192.168.10.1", "192.168.11.1")
    wait(agent.static, "made")
    told = {str(each.prefix): each for each in agent.edge.routes()}
    assert told["203.0.113.0/24"].next_hops == (NextHop("192.168.10.1", "up0"), NextHop("192.168.11.1", "up1"))
    assert (told["192.168.10.0/24"].origin, told["192.168.10.0/24"].next_hops) == ("connected", (NextHop("", "up0"),))
    assert (told["0.0.0.0/0"].origin, told["0.0.0.0/0"].metric) == ("machine", 100)
    assert "fe80::/64" not in told

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipam.address import parse_address, parse_prefix
from ncp.plumbing.namespace import Namespace, NamespaceMissing, NetworkError, namespace_path
from ncp.plumbing.node import GATEWAY_MAC, NodePort
from ncp.plumbing.offload import disable_offload, offloads
from tests.support.netns import ip, namespace, run_in

pytestmark = pytest.mark.switch

GATEWAYS = (parse_address("100.64.0.1"), parse_address("fd98::1"))
SOURCES = (parse_address("192.0.2.1"), parse_address("2001:db8::1"))
PODS = (parse_prefix("10.4.0.0/16"), parse_prefix("fd00:10:4::/48"))


@pytest.fixture
def netns() -> Iterator[str]:
    """A namespace with the node's addresses, and a device that stands for the switch's internal port."""
    with namespace() as name:
        ip("link", "set", "lo", "up", netns=name)
        ip("addr", "add", "192.0.2.1/32", "dev", "lo", netns=name)
        ip("addr", "add", "2001:db8::1/128", "dev", "lo", netns=name)
        ip("link", "add", "ncp-node0", "type", "veth", "peer", "name", "other", netns=name)
        ip("link", "set", "other", "up", netns=name)
        yield name


@pytest.fixture
def port(netns: str) -> Iterator[NodePort]:
    found = NodePort(netns)
    try:
        found.ensure_device("02:4D:00:00:00:07", 1442)
        yield found
    finally:
        found.close()


def test_the_device_is_up_with_mac_and_mtu_and_the_node_forwards(port: NodePort, netns: str) -> None:
    link = json.loads(ip("-j", "link", "show", "ncp-node0", netns=netns))[0]
    assert (link["address"], link["mtu"]) == ("02:4d:00:00:00:07", 1442)
    assert "UP" in link["flags"]
    names = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.ncp-node0.rp_filter")
    assert run_in(netns, "sysctl", "-n", *names).stdout.split() == ["1", "1", "2"]


def test_routes_to_pods_of_both_families_with_a_fixed_neighbour(port: NodePort, netns: str) -> None:
    assert port.ensure_routes(PODS, GATEWAYS, SOURCES, 1442).added == ("10.4.0.0/16", "fd00:10:4::/48")
    assert ip("route", "get", "10.4.7.7", netns=netns).split()[:7] == [
        *("10.4.7.7", "via", "100.64.0.1", "dev", "ncp-node0", "src", "192.0.2.1"),
    ]
    assert "src 2001:db8::1" in ip("route", "get", "fd00:10:4::7", netns=netns)
    neighbours = {row["dst"]: row for row in json.loads(ip("-j", "neigh", netns=netns))}
    assert {row["lladdr"] for row in neighbours.values()} == {GATEWAY_MAC}
    assert neighbours.keys() >= {"100.64.0.1", "fd98::1"}
    assert port.ensure_routes(PODS, GATEWAYS, SOURCES, 1442) == ((), ())


def test_stale_routes_go_changed_ones_change_and_foreign_ones_stay(port: NodePort, netns: str) -> None:
    port.ensure_routes(PODS, GATEWAYS, SOURCES, 1442)
    ip("route", "add", "198.51.100.0/24", "via", "100.64.0.1", "dev", "ncp-node0", "onlink", netns=netns)
    new = parse_prefix("10.9.0.0/24")
    changes = port.ensure_routes((PODS[0], new), GATEWAYS, SOURCES, 1400)
    assert changes.added == ("10.4.0.0/16", "10.9.0.0/24")
    assert {(route.prefix, route.mtu) for route in port.routes()} == {("10.4.0.0/16", 1400), ("10.9.0.0/24", 1400)}
    assert "198.51.100.0/24" in ip("route", netns=netns)


def test_a_foreign_route_to_the_same_prefix_is_an_error_and_stays(port: NodePort, netns: str) -> None:
    ip("route", "add", "10.4.0.0/16", "dev", "other", netns=netns)
    with pytest.raises(NetworkError, match=r"10\.4\.0\.0/16"):
        port.ensure_routes(PODS, GATEWAYS, SOURCES, 1442)
    assert "10.4.0.0/16 dev other" in ip("route", netns=netns)


def test_a_route_that_is_refused_keeps_no_other_from_being_made(port: NodePort, netns: str) -> None:
    ip("route", "add", "10.1.0.0/16", "dev", "other", netns=netns)
    with pytest.raises(NetworkError, match=r"10\.1\.0\.0/16"):
        port.ensure_routes((parse_prefix("10.1.0.0/16"), *PODS), GATEWAYS, SOURCES, 1442)
    assert {route.prefix for route in port.routes()} == {"10.4.0.0/16", "fd00:10:4::/48"}


def test_none_goes_before_it_is_known_what_there_should_be(port: NodePort) -> None:
    port.ensure_routes(PODS, GATEWAYS, SOURCES, 1442)
    changes = port.ensure_routes((parse_prefix("10.9.0.0/24"),), GATEWAYS, SOURCES, 1442, prune=False)
    assert changes == (("10.9.0.0/24",), ())
    assert len(port.routes()) == 3


def test_the_switch_s_device_lets_the_node_s_own_addresses_in(port: NodePort, netns: str) -> None:
    port.ensure_device("02:4D:00:00:00:07", 1442)
    assert run_in(netns, "sysctl", "-n", "net.ipv4.conf.ncp-node0.accept_local").stdout.strip() == "1"
    assert ip("-4", "addr", "show", "ncp-node0", netns=netns).count("inet ") == 1


def test_a_family_without_an_address_of_the_node_gets_no_route(port: NodePort) -> None:
    assert port.ensure_routes(PODS, GATEWAYS, SOURCES[:1], 1442).added == ("10.4.0.0/16",)


def test_a_default_route_through_the_overlay_is_read_back_as_written(port: NodePort) -> None:
    everywhere = (parse_prefix("0.0.0.0/0"), parse_prefix("::/0"))
    port.ensure_routes(everywhere, GATEWAYS, SOURCES, 1442)
    assert port.ensure_routes(everywhere, GATEWAYS, SOURCES, 1442) == ((), ())


def test_a_missing_device_is_named(netns: str) -> None:
    port = NodePort(netns, "ncp-node9")
    try:
        with pytest.raises(NetworkError, match="ncp-node9 does not exist"):
            port.ensure_device("02:4d:00:00:00:07", 1442)
    finally:
        port.close()


def test_namespaces_go_by_name_path_or_nothing(netns: str) -> None:
    assert namespace_path("") is None
    assert namespace_path("x") == Path("/var/run/netns/x")
    for name in (netns, f"/run/netns/{netns}"):
        inside = Namespace(name)
        try:
            assert inside.call(lambda ipr: [row.get("ifname") for row in ipr.get_links()]).count("ncp-node0") == 1
        finally:
            inside.close()
    own = Namespace("")
    try:
        assert own.call(lambda ipr: any(row.get("ifname") == "ncp-node0" for row in ipr.get_links())) is False
    finally:
        own.close()


def test_a_missing_namespace_is_named() -> None:
    absent = Namespace("no-such-namespace")
    try:
        with pytest.raises(NamespaceMissing, match="no-such-namespace"):
            absent.call(lambda ipr: None)
    finally:
        absent.close()


def test_offloads_go_off_and_stay_off(netns: str) -> None:
    inside = Namespace(netns)
    try:
        assert inside.call(lambda ipr: disable_offload("other"))
        assert inside.call(lambda ipr: offloads("other")) == ()
        assert inside.call(lambda ipr: disable_offload("other")) == ()
        assert inside.call(lambda ipr: offloads("ncp-node0")) != ()
    finally:
        inside.close()

"""What a node's kernel does with packets to services, on real devices: ``switch`` is the far end of ``ncp-node0``."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ipam.address import parse_address, parse_prefix
from ncp.plumbing.leg import ServiceLeg
from ncp.plumbing.namespace import Namespace
from ncp.plumbing.node import GATEWAY_MAC, NodePort
from ncp.plumbing.offload import disable_offload
from tests.support.netns import ip, namespace, run_in

pytestmark = pytest.mark.switch

MAC = bytes.fromhex("024d00000007")
GATEWAYS = (parse_address("100.64.0.1"), parse_address("fd98::1"))
OWN = (parse_address("192.0.2.1"), parse_address("2001:db8::1"))
CLIENT = {4: "192.0.2.100", 6: "2001:db8::100"}
VIP = {4: "192.0.2.50", 6: "2001:db8::50"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
FAR = {4: "198.51.100.7", 6: "2001:db8:1::7"}
LEG = ServiceLeg(host_ports=(("udp", 5353),))
TIMEOUT = 3


class World(NamedTuple):
    """A node, its neighbour on the underlay, and the switch's end of the node's device."""

    node: str
    port: NodePort
    inside: Namespace
    outside: Namespace
    switch: socket.socket
    wire: socket.socket  # the underlay as the neighbour sees it
    outer: str


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with namespace() as node, namespace() as outer, contextlib.ExitStack() as stack:
        for name in (node, outer):
            run_in(name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
            ip("link", "set", "lo", "up", netns=name)
        ip("link", "add", "ncp-node0", "type", "veth", "peer", "name", "switch", "netns", outer, netns=node)
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire", "netns", outer, netns=node)
        ip("link", "set", "switch", "up", "arp", "off", netns=outer)
        for name, device, addresses in ((node, "eth0", map(str, OWN)), (outer, "wire", CLIENT.values())):
            ip("link", "set", device, "up", netns=name)
            for address in addresses:
                length = "64" if ":" in address else "24"
                ip("addr", "add", f"{address}/{length}", "dev", device, netns=name)
        for family, address in FAR.items():
            ip("route", "add", address, "via", str(OWN[family == 6]), netns=outer)
        inside, outside = Namespace(node, threads=1), Namespace(outer, threads=1)
        port = NodePort(node, announce_interval=0.02)
        for each in (inside, outside, port):
            stack.callback(each.close)
        port.ensure_device(MAC.hex(":"), 1442)
        for where, names in ((inside, ("ncp-node0", "eth0")), (outside, ("switch", "wire"))):
            for name in names:  # so that checksums are in the packets
                where.call(lambda ipr, n=name: disable_offload(n))
        listening = [stack.enter_context(outside.call(lambda ipr, n=name: packets(n))) for name in ("switch", "wire")]
        yield World(node, port, inside, outside, *listening, outer)


@pytest.fixture
def fresh(world: World) -> World:
    world.port.ensure_services(LEG, OWN, GATEWAYS, 1442)
    for each in (world.switch, world.wire):
        while select.select([each], [], [], 0)[0]:
            each.recv(2048)
    return world


def packets(device: str) -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    found.bind((device, 3))
    return found


def udp(where: Namespace, family: int, address: str = "", port: int = 0) -> socket.socket:
    def work(ipr: object) -> socket.socket:
        found = socket.socket(FAMILY[family], socket.SOCK_DGRAM)
        found.settimeout(TIMEOUT)
        found.bind((address, port))
        return found

    return where.call(work)


def seen(at: socket.socket, content: bytes) -> bytes:
    """The frame that carries some content."""
    until = time.monotonic() + TIMEOUT
    while select.select([at], [], [], max(0.0, until - time.monotonic()))[0]:
        frame, sender = at.recvfrom(2048)
        if content in frame and sender[2] != socket.PACKET_OUTGOING:
            return frame
    raise AssertionError(f"no frame with {content!r} was seen")


def returned(frame: bytes, *, answered: bool) -> bytes:
    """What the switch gives back: the packet itself, or an answer to it (checksums are the same for both)."""
    packet = bytearray(frame[14:])
    if answered:
        start, size, ports = (12, 4, 20) if packet[0] >> 4 == 4 else (8, 16, 40)
        for at, length in ((start, size), (ports, 2)):
            first, second = packet[at : at + length], packet[at + length : at + 2 * length]
            packet[at : at + 2 * length] = second + first
    return MAC + bytes.fromhex(GATEWAY_MAC.replace(":", "")) + frame[12:14] + packet


def own(family: int) -> str:
    return str(OWN[family == 6])


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("port", [30080, 5353])
def test_a_client_outside_is_answered_at_the_nodes_address(fresh: World, family: int, port: int) -> None:
    with udp(fresh.outside, family) as client:
        client.sendto(b"hello out there", (own(family), port))
        frame = seen(fresh.switch, b"hello out there")
        assert frame[:6].hex(":") == GATEWAY_MAC
        assert socket.inet_pton(FAMILY[family], CLIENT[family]) in frame[14:54]  # the client keeps its address
        fresh.switch.send(returned(frame, answered=True))
        content, sender = client.recvfrom(100)
        assert (content, *sender[:2]) == (b"hello out there", own(family), port)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("port", [30080, 5353])
def test_the_node_itself_is_answered_at_its_own_address(fresh: World, family: int, port: int) -> None:
    with udp(fresh.inside, family) as client:
        client.sendto(b"hello me", (own(family), port))
        frame = seen(fresh.switch, b"hello me")
        address = socket.inet_pton(FAMILY[family], own(family))
        assert frame[14:54].count(address) == 2  # from itself, to itself
        fresh.switch.send(returned(frame, answered=True))
        content, sender = client.recvfrom(100)
        assert (content, *sender[:2]) == (b"hello me", own(family), port)


@pytest.mark.parametrize("family", [4, 6])
def test_what_the_switch_gives_back_unserved_is_the_nodes(fresh: World, family: int) -> None:
    """Health checks of services are served by the node at a port of the same range."""
    with udp(fresh.inside, family, own(family), 30999) as server, udp(fresh.outside, family) as client:
        client.sendto(b"who is there", (own(family), 30999))
        fresh.switch.send(returned(seen(fresh.switch, b"who is there"), answered=False))
        content, sender = server.recvfrom(100)
        assert (content, sender[0]) == (b"who is there", CLIENT[family])
        server.sendto(b"me", sender)
        assert client.recv(100) == b"me"
        with udp(fresh.inside, family) as itself:
            itself.sendto(b"is it me", (own(family), 30999))
            fresh.switch.send(returned(seen(fresh.switch, b"is it me"), answered=False))
            assert server.recv(100) == b"is it me"


@pytest.mark.parametrize("family", [4, 6])
def test_other_ports_stay_the_nodes_own(fresh: World, family: int) -> None:
    with udp(fresh.inside, family, own(family), 5354) as server, udp(fresh.outside, family) as client:
        client.sendto(b"straight in", (own(family), 5354))
        assert server.recv(100) == b"straight in"


@pytest.mark.parametrize("family", [4, 6])
def test_a_client_outside_reaches_addresses_routed_to_the_overlay(fresh: World, family: int) -> None:
    prefix = parse_prefix(f"{FAR[family]}/{32 if family == 4 else 128}")
    fresh.port.ensure_routes([prefix], GATEWAYS, OWN, 1442)
    with udp(fresh.outside, family) as client:
        client.sendto(b"far away", (FAR[family], 80))
        fresh.switch.send(returned(seen(fresh.switch, b"far away"), answered=True))
        assert client.recvfrom(100)[1][:2] == (FAR[family], 80)


def rows(world: World, family: int) -> list[str]:
    return [line.strip() for line in ip(f"-{family}", "rule", netns=world.node).splitlines()]


@pytest.mark.parametrize("family", [4, 6])
def test_rules_of_ours_are_exact_and_others_stay(fresh: World, family: int) -> None:
    ip(f"-{family}", "rule", "add", "pref", "150", "fwmark", "7", "lookup", "main", netns=fresh.node)
    ip(f"-{family}", "rule", "add", "pref", "95", "to", FAR[family], "lookup", "78", "proto", "78", netns=fresh.node)
    ip(f"-{family}", "rule", "add", "pref", "0", "lookup", "local", netns=fresh.node)
    try:
        fresh.port.ensure_services(ServiceLeg(node_ports=(31000, 31999)), OWN, GATEWAYS, 1442)
        found = rows(fresh, family)
        assert [row.split(":")[0] for row in found][:7] == ["90", "95", "95", "95", "150", "200", "32766"]
        assert all("dport 31000-31999 lookup 78" in row for row in found[1:4])
        fresh.port.ensure_services(ServiceLeg(node_ports=(31000, 31999)), OWN, GATEWAYS, 1442)
        assert rows(fresh, family) == found
    finally:
        ip(f"-{family}", "rule", "del", "pref", "150", netns=fresh.node)


@pytest.mark.parametrize("protocol", [6, 17, 132])
@pytest.mark.parametrize("family", [4, 6])
def test_every_protocol_goes_to_the_switch(fresh: World, family: int, protocol: int) -> None:
    with fresh.outside.call(lambda ipr: socket.socket(FAMILY[family], socket.SOCK_RAW, protocol)) as client:
        for port in (29999, 32768, 30000, 32767):
            segment = struct.pack("!HH", 40000, port) + b"segment to %d" % port + bytes(16)
            client.sendto(segment, (own(family), 0))
        seen(fresh.switch, b"segment to 30000")  # so that the first two did not come at all
        seen(fresh.switch, b"segment to 32767")


def test_nothing_is_written_where_nothing_changed(fresh: World) -> None:
    leg = ServiceLeg(announced=tuple(map(parse_address, VIP.values())))
    fresh.port.ensure_services(leg, OWN, GATEWAYS, 1442)
    watched = ("ip", "netns", "exec", fresh.node, "ip", "monitor", "rule", "route", "neigh")
    with subprocess.Popen(watched, stdout=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout is not None
        try:
            marks = []
            while not select.select([monitor.stdout], [], [], 0.05)[0]:  # until it listens
                ip("route", "replace", "203.0.113.1", "dev", "eth0", netns=fresh.node)
            monitor.stdout.readline()
            fresh.port.ensure_services(leg, OWN, GATEWAYS, 1442)
            fresh.port.ensure_services(leg, OWN, GATEWAYS, 1442)
            ip("route", "add", "203.0.113.2", "dev", "eth0", netns=fresh.node)
            while not marks or "203.0.113.2" not in marks[-1]:
                marks.append(monitor.stdout.readline())
        finally:
            monitor.kill()
    assert not [line for line in marks if "78" in line or "proxy" in line], marks


def told(world: World, family: int) -> str:
    """Wait until the network was told three times whose an address is; by that MAC address."""
    mac = json.loads(ip("-j", "link", "show", "eth0", netns=world.node))[0]["address"]
    to, kind = ("ffffffffffff", "0806") if family == 4 else ("333300000001", "86dd")
    for _ in range(3):
        seen(world.wire, bytes.fromhex(to + mac.replace(":", "") + kind))
    return mac


@pytest.mark.parametrize("family", [4, 6])
def test_an_announced_address_is_answered_for_on_the_underlay(fresh: World, family: int) -> None:
    fresh.port.ensure_routes([parse_prefix(f"{VIP[family]}/{32 if family == 4 else 128}")], GATEWAYS, OWN, 1442)
    leg = ServiceLeg(announced=(parse_address(VIP[family]),))
    fresh.port.ensure_services(leg, OWN, GATEWAYS, 1442)
    told(fresh, family)
    ip("neigh", "flush", "dev", "wire", netns=fresh.outer)  # so that the neighbour has to ask
    with udp(fresh.outside, family) as client:
        began = time.monotonic()
        client.sendto(b"to the address", (VIP[family], 80))
        fresh.switch.send(returned(seen(fresh.switch, b"to the address"), answered=True))
        assert client.recvfrom(100)[1][:2] == (VIP[family], 80)
        assert time.monotonic() - began < 0.3  # the kernel's own delay for proxies is up to 0.8 s
    fresh.port.ensure_services(ServiceLeg(), OWN, GATEWAYS, 1442)
    assert VIP[family] not in ip(f"-{family}", "neigh", "show", "proxy", netns=fresh.node)


@pytest.mark.parametrize("family", [4, 6])
def test_neighbours_learn_at_once_whose_an_address_has_become(fresh: World, family: int) -> None:
    stale = ("neigh", "replace", VIP[family], "lladdr", "02:00:00:00:00:99", "dev", "wire", "nud", "stale")
    ip(*stale, netns=fresh.outer)
    fresh.port.ensure_services(ServiceLeg(announced=(parse_address(VIP[family]),)), OWN, GATEWAYS, 1442)
    mac = told(fresh, family)
    entry = json.loads(ip("-j", "neigh", "show", VIP[family], "dev", "wire", netns=fresh.outer))[0]
    assert entry["lladdr"] == mac
    fresh.port.ensure_services(ServiceLeg(), OWN, GATEWAYS, 1442)


def test_networks_are_those_of_the_device_with_the_nodes_addresses(fresh: World) -> None:
    assert fresh.port.networks(OWN) == (parse_prefix("192.0.2.0/24"), parse_prefix("2001:db8::/64"))
    assert fresh.port.networks([parse_address("127.0.0.1")]) == ()


def test_an_address_in_no_network_of_the_node_is_left_aside(fresh: World) -> None:
    fresh.port.ensure_services(ServiceLeg(announced=(parse_address(FAR[4]),)), OWN, GATEWAYS, 1442)
    assert ip("neigh", "show", "proxy", netns=fresh.node) == ""

"""Everybody reaches everybody, and three answers to every question agree."""

from __future__ import annotations

import contextlib
import json

import pytest
from scapy.layers.inet import ICMP, IP, UDP, IPerror
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import ARP, Ether

from ncp.cli.probe import command
from ncp.probe.model import Probe
from ncp.probe.run import ask
from ncp.probe.wire import build
from sdn.pipeline.registers import GATEWAY_MAC
from sdn.pipeline.tables import T

pytestmark = pytest.mark.lab
GATEWAY = GATEWAY_MAC.to_bytes(6, "big").hex(":")


def arrived(sock):
    """Every frame a capture has taken so far."""
    sock.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(Ether(sock.recv(65535)))
    return found


def test_the_matrix_of_every_pod_agrees_on_every_cell(wire, capsys):
    state = ["--state", str(wire.lab.state.root)]
    arguments = ["matrix", *state, "-n", "red", "-n", "blue", "--output", "json"]
    command.main(arguments, standalone_mode=False)
    said = json.loads(capsys.readouterr().out)
    assert said["disagree"] == 0
    asked = {(r["protocol"], r["family"]) for r in said["results"]}
    assert asked == {(p, f) for p in ("tcp", "udp", "sctp", "icmp", "neighbour") for f in (4, 6)}
    assert said["probes"] == 5 * 4 * 4 * 2 + (3 * 2 + 2 * 1) * 2
    assert {r["observed"]["answer"] for r in said["results"]} == {"yes"}


def test_a_port_nobody_listens_on_is_refused_not_silent(wire):
    probes = [Probe("red/a", "blue/d", family, proto, 4444) for family in (4, 6) for proto in ("tcp", "udp")]
    results = ask(wire.site, probes, quiet=True)
    assert [r.observed.answer for r in results] == ["refused"] * 4
    assert [r for r in results if not r.agrees] == []


def test_a_broken_flow_makes_the_matrix_disagree(wire):
    """The oracle can fail: break the data path on purpose and it must say so, with exit code 1."""
    match = f"table={T['deliver']},priority=60000,reg1={wire.end('red/c').ofport}/0xffff"

    def asked_while_broken():
        with wire.planted("node2", f"{match},actions=drop") as is_there:
            (result,) = ask(wire.site, [Probe("red/a", "red/c", 4, "tcp", 8080)], quiet=True)
            return result if is_there() else None  # else the audit came between, and took the fault away

    result = wire.lab.wait(asked_while_broken, "the question was asked while the fault was there")
    assert (result.expected.answer, result.traced.answer, result.observed.answer) == ("yes", "no", "no")
    assert not result.agrees


@pytest.mark.parametrize(("ttl", "router"), [(1, "tier-1 of red"), (2, "tier-0"), (3, "tier-1 of blue")])
def test_ttl_falls_by_one_at_each_router_which_answers_with_its_own_address(wire, ttl, router):
    gateways = {"tier-0": ("100.64.0.1", "fd98::1")}
    for space in ("red", "blue"):
        decided = json.loads(wire.lab.get("namespace", space)["metadata"]["annotations"]["ncp/segments"])
        gateways[f"tier-1 of {space}"] = tuple(g.split("/")[0] for g in decided[0]["gateways"])
    for family in (4, 6):
        frame = build(
            wire.end("red/a"), wire.end("blue/d"), Probe("red/a", "blue/d", family, "udp", 5353), 40000, ttl=ttl
        )
        answer = wire.exchange("red/a", frame, lambda p: IPerror in p or ICMPv6TimeExceeded in p)[-1]
        assert (answer[IP].src if family == 4 else answer[IPv6].src) == gateways[router][family == 6]


@pytest.mark.parametrize(
    ("source", "destination", "left"), [("red/a", "red/c", 64), ("red/a", "blue/d", 61), ("red/a", "blue/e", 61)]
)
def test_ttl_left_is_what_the_routers_on_the_path_leave(wire, source, destination, left):
    for family in (4, 6):
        frame = build(wire.end(source), wire.end(destination), Probe(source, destination, family, "icmp"), 77)
        answer = wire.exchange(source, frame, lambda p: (ICMP in p and p[ICMP].type == 0) or ICMPv6EchoReply in p)[-1]
        assert (answer[IP].ttl if family == 4 else answer[IPv6].hlim) == left


def test_a_routed_packet_crosses_the_underlay_already_routed_on_the_receivers_segment(wire, capture):
    from scapy.contrib.geneve import GENEVE

    sock = capture(f"ncp{wire.lab.state.lab}-node1", "ul0")
    source, destination = wire.end("red/a"), wire.end("blue/d")
    wire.exchange("red/a", build(source, destination, Probe("red/a", "blue/d", 4, "icmp"), 4321), lambda p: ICMP in p)
    inner = []
    for frame in arrived(sock):
        if UDP in frame and frame[UDP].dport == 6081:
            geneve = GENEVE(bytes(frame[UDP].payload))
            packet = Ether(bytes(geneve.payload))
            if ICMP in packet and packet[ICMP].id == 4321 and packet[ICMP].type == 8:
                inner.append((geneve.vni, packet))
    ((vni, packet),) = inner
    assert vni == destination.vni
    assert packet.dst == destination.mac.to_bytes(6, "big").hex(":")
    assert packet.src == GATEWAY
    assert packet[IP].ttl == 61


def test_arp_for_a_remote_pod_is_answered_here_and_leaves_nothing_on_the_underlay(wire, capture):
    sock = capture(f"ncp{wire.lab.state.lab}-node1", "ul0")
    source, destination = wire.end("red/a"), wire.end("red/c")
    frame = build(source, destination, Probe("red/a", "red/c", 4, "neighbour"), 0)
    answer = wire.exchange("red/a", frame, lambda p: ARP in p and p[ARP].op == 2)[-1]
    assert answer[ARP].hwsrc == destination.mac.to_bytes(6, "big").hex(":")
    geneve = [packet for packet in arrived(sock) if UDP in packet and packet[UDP].dport == 6081]
    assert not [packet for packet in geneve if ARP in Ether(bytes(packet[UDP].payload)[8:])]


def test_unicast_makes_no_copy_on_a_third_port(wire, capture):
    bystander = wire.end("red/b")
    sock = capture(bystander.netns, "eth0")
    frame = build(wire.end("red/a"), wire.end("red/c"), Probe("red/a", "red/c", 4, "icmp"), 999)
    assert wire.exchange("red/a", frame, lambda p: ICMP in p and p[ICMP].id == 999)
    seen = arrived(sock)
    assert not [packet for packet in seen if ICMP in packet and packet[ICMP].id == 999]


def test_gateways_answer_echo_requests(wire):
    pod = wire.lab.get("pod", "-n", "red", "a")
    for gateway in (*json.loads(pod["metadata"]["annotations"]["ncp/port"])["gateways"], "100.64.0.1", "fd98::1"):
        assert wire.lab.exec("red/a", "ping", "-c", "1", "-W", "2", gateway).returncode == 0


def test_a_node_reaches_pods_here_and_elsewhere_and_pods_reach_nodes(wire):
    for name in ("red/a", "red/c", "blue/d"):
        for address in wire.end(name).addresses:
            url = f"http://[{address}]:8080/hostname" if address.family == 6 else f"http://{address}:8080/hostname"
            done = wire.lab.exec_node("node1", "curl", "-s", "--max-time", "3", url)
            assert done.stdout.strip() == name.split("/")[1]
    for node in ("192.168.50.11", "192.168.50.12", "fd50::11", "fd50::13"):
        assert wire.lab.exec("red/a", "ping", "-c", "1", "-W", "2", node).returncode == 0


def test_the_external_host_and_pods_reach_each_other(wire):
    for address in wire.end("blue/d").addresses:
        host = f"[{address}]" if address.family == 6 else str(address)
        done = wire.lab.exec_external("curl", "-s", "--max-time", "3", f"http://{host}:8080/hostname")
        assert done.stdout.strip() == "d"
    for address in wire.end("external").addresses:
        assert wire.lab.exec("red/c", "ping", "-c", "1", "-W", "2", str(address)).returncode == 0


def test_crafted_packets_from_the_external_host_are_answered_as_the_intent_says(wire):
    ports = {"tcp": 8080, "udp": 5353, "sctp": 9091, "icmp": 0}
    probes = [Probe("external", "blue/d", family, name, port) for family in (4, 6) for name, port in ports.items()]
    results = ask(wire.site, probes, quiet=True)
    assert [r.observed.answer for r in results] == ["yes"] * 8
    assert [r for r in results if not r.agrees] == []


def test_link_local_neighbours_are_reached(wire):
    own = wire.lab.exec("red/c", "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link").stdout.split()[3]
    target = own.split("/")[0] + "%eth0"
    assert wire.lab.exec("red/a", "ping", "-6", "-c", "1", "-W", "2", target).returncode == 0


def test_hop_limit_is_kept_inside_a_segment(wire):
    frame = build(wire.end("red/a"), wire.end("red/b"), Probe("red/a", "red/b", 6, "icmp"), 5)
    assert ICMPv6EchoRequest in Ether(frame)
    answer = wire.exchange("red/a", frame, lambda p: ICMPv6EchoReply in p)[-1]
    assert answer[IPv6].hlim == 64

"""A lab with an edge: its uplink on a VLAN, the router beyond that speaks BGP, and the cable between them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from labs import commands, processes
from labs.wish import Wish
from ncp.cli import nodeapi
from ncp.probe.wire import packet_socket
from tests.support.lab import Lab
from topologies import catalog, netns
from topologies.build import set_wire
from topologies.plan import namespace

pytestmark = [pytest.mark.switch, pytest.mark.lab]
ROUTER = ("192.168.10.1", "fd00:192:168:10::1")


@pytest.fixture(scope="module")
def edge(tmp_path_factory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("edge") / "state", Wish(topology="edge")) as lab:
        yield lab


def pings(lab: Lab, address: str) -> bool:
    return lab.exec_node("edge1", "ping", "-n", "-c1", "-W1", address).returncode == 0


def router(lab: Lab, *words: str) -> str:
    place = commands.of_router(lab.state, "up1")
    line = ["ip", "netns", "exec", place.netns, *words]
    done = subprocess.run(line, env={**os.environ, **place.env}, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


def uplink(lab: Lab) -> dict:
    """What the agent says of the uplink; one that has just started says nothing yet."""
    found = nodeapi.statuses(lab.state.root)["edge1"]["uplinks"]
    return found[0] if found else {"up": None}


def said(lab: Lab, name: str = "edge1") -> str:
    return lab.get("node", name)["metadata"]["annotations"].get(f"ncp/error.{name}", "")


def holder(lab: Lab) -> str:
    """The active edge."""
    return lab.get("lease", "ncp-tier0", "-n", "kube-system")["spec"].get("holderIdentity") or ""


@pytest.mark.parametrize("address", ROUTER)
def test_an_edge_reaches_the_router_upstream_and_its_frames_are_tagged_on_the_wire(edge, address):
    assert edge.wait(lambda: pings(edge, address), f"{address} answers")
    with packet_socket(namespace(edge.state.lab, "edge1"), "ul1") as sock:
        assert pings(edge, address)
        echoes = [frame for frame in sent(sock) if is_echo(frame)]
    assert echoes
    assert {frame[12:16].hex() for frame in echoes} == {"81000078"}, "IEEE 802.1Q, VLAN 120"


def sent(sock) -> list[bytes]:
    """Frames that left by now."""
    found = []
    while select.select([sock], [], [], 0.2)[0]:
        frame, address = sock.recvfrom(65535)
        if address[2] == 4:  # PACKET_OUTGOING
            found.append(frame)
    return found


def is_echo(frame: bytes) -> bool:
    """Whether an echo request is in a frame, tagged or not."""
    at = 16 if frame[12:14] == b"\x81\x00" else 12
    if frame[at : at + 2] == b"\x08\x00":
        return frame[at + 11] == 1 and frame[at + 22] == 8
    return frame[at : at + 2] == b"\x86\xdd" and frame[at + 8] == 58 and frame[at + 42] == 128


def test_the_router_sees_no_tag_and_speaks_bgp(edge):
    summary = json.loads(router(edge, "vtysh", "-c", "show bgp ipv4 unicast summary json"))
    assert summary["as"] == 65100
    assert set(summary["peers"]) == {"192.168.10.11"}
    assert "192.168.10.0/24 dev ul0" in router(edge, "ip", "route")
    for address in ROUTER:
        assert edge.exec_external("ping", "-n", "-c1", "-W1", address).returncode == 0


def test_a_pulled_cable_is_told_on_the_node_and_so_is_its_return(edge):
    edge.wait(lambda: uplink(edge)["up"], "the uplink is up")
    topology = catalog.edge()
    set_wire(topology, edge.state.lab, "edge1", "uplink-a", up=False)
    try:
        pulled = time.monotonic()
        edge.wait(lambda: uplink(edge)["up"] is False, "the agent knows")
        assert time.monotonic() - pulled < 1.5
        edge.wait(
            lambda: said(edge).startswith("UPLINK_DOWN: uplink 'up-a' of node edge1 leads nowhere"), "the node says so"
        )
        events = edge.get("events", "-A", "--field-selector", "involvedObject.name=edge1")["items"]
        assert "UPLINK_DOWN" in {each["reason"] for each in events}
        assert not pings(edge, ROUTER[0])
    finally:
        set_wire(topology, edge.state.lab, "edge1", "uplink-a", up=True)
    edge.wait(lambda: uplink(edge)["up"] and not said(edge), "nothing is wrong any more")
    assert edge.wait(lambda: pings(edge, ROUTER[0]), "the router answers again")


def test_a_killed_switch_and_a_killed_agent_come_back_with_the_uplink(edge):
    edge.restart("switch", "edge1")
    assert edge.wait(lambda: pings(edge, ROUTER[1]), "the router answers", 3)
    edge.restart("node", "edge1")
    assert pings(edge, ROUTER[0]), "what the former agent made stays"
    assert edge.wait(lambda: uplink(edge)["up"], "the agent knows the uplink")
    assert uplink(edge)["addresses"] == ["192.168.10.11/24", "fd00:192:168:10::11/64"]


def test_an_uplink_goes_with_the_annotation_and_returns_with_it(edge):
    text = edge.get("node", "edge1")["metadata"]["annotations"]["ncp/uplinks"]
    edge.kubectl("annotate", "node", "edge1", "ncp/uplinks-")
    edge.wait(lambda: edge.exec_node("edge1", "ip", "link", "show", "up-a").returncode != 0, "the device is gone")
    edge.kubectl("annotate", "node", "edge1", "ncp/uplinks=[{}]")
    edge.wait(lambda: said(edge).startswith("UPLINK_INVALID: "), "the mistake is told")
    edge.kubectl("annotate", "node", "edge1", f"ncp/uplinks={text}", "--overwrite")
    assert edge.wait(lambda: pings(edge, ROUTER[0]), "the router answers")
    edge.wait(lambda: not said(edge), "nothing is wrong any more")


def test_a_routers_daemons_are_killed_and_started_again(edge):
    before = {one.command.name: one.pid for one in processes.Table(edge.state)}
    edge.restart("router", "up1")
    after = {one.command.name: one.pid for one in processes.Table(edge.state)}
    assert {name for name in before if before[name] != after[name]} == {"zebra-up1", "bfdd-up1", "bgpd-up1"}
    assert json.loads(router(edge, "vtysh", "-c", "show bgp ipv4 unicast summary json"))["as"] == 65100


def test_an_unknown_router_is_told(edge):
    with pytest.raises(commands.LabError, match="no router 'up9'; there are up1"):
        commands.of_router(edge.state, "up9")
    with pytest.raises(commands.LabError, match="no router 'node1' speaks BGP in topology edge; there are up1"):
        edge.restart("router", "node1")


def test_two_edges_two_routers_and_the_host_outside_know_their_ways_by_bgp_and_nothing_stays(tmp_path):
    with Lab(tmp_path / "s", Wish(topology="edges")) as lab:
        edges = [(f"edge{one}", f"192.168.{net}0.1", f"fd00:192:168:{net}0::1") for one in (1, 2) for net in (1, 2)]
        for name, *addresses in edges:
            for address in addresses:
                asked = lambda n=name, a=address: lab.exec_node(n, "ping", "-n", "-c1", "-W1", a).returncode == 0  # noqa: E731
                assert lab.wait(asked, f"{name} reaches {address}")

        def ways(family: str) -> dict[str, set[str]]:
            found = json.loads(lab.exec_external("ip", "-j", family, "route", "show", "proto", "bgp").stdout)
            return {each["dst"]: {each.get("gateway", "")} for each in found}

        assert lab.wait(
            lambda: {"192.168.10.0/24", "192.168.20.0/24"} <= ways("-4").keys(), "ext has heard of IPv4's networks"
        )
        assert ways("-4")["192.168.20.0/24"] == {"192.168.90.2"}
        networks = {"fd00:192:168:10::/64", "fd00:192:168:20::/64"}
        assert lab.wait(lambda: networks <= ways("-6").keys(), "ext has heard of IPv6's networks")
        active = lab.wait(lambda: holder(lab), "an edge is active")
        topology = catalog.edges()
        set_wire(topology, lab.state.lab, active, "uplink-a", up=False)
        lab.wait(lambda: said(lab, active).startswith("UPLINK_DOWN"), "the node says so")
        assert holder(lab) == active, "it has another"
        set_wire(topology, lab.state.lab, active, "uplink-b", up=False)
        lab.wait(lambda: holder(lab) not in ("", active), "the other edge is active", 3)
        for one in processes.Table(lab.state):
            if one.command.name in ("zebra-up1", "bgpd-up1"):
                os.kill(one.pid, signal.SIGKILL)
        lab.wait(lambda: "192.168.10.0/24" not in ways("-4"), "a router that fell silent is not sent to", 5)
        assert "192.168.20.0/24" in ways("-4")
        state = lab.state
    assert netns.with_prefix(f"ncp{state.lab}-") == ()
    assert processes.belonging(state) == []

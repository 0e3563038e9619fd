"""Services three ways: the member that the intent has, that the programmed flows choose, and that answers on the wire."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from ncp.probe.trace import met
from ncp.translate.objects import format_mac, node_mac
from sdn.pipeline.registers import GATEWAY_MAC, NODE_PORT
from sdn.services import Place, members
from tests.wire.serving import EXTERNAL, SCTP, TCP, UDP, balanced, own_address, says

PORTS = (
    {"name": "t", "port": 80, "targetPort": 8080},
    {"name": "u", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    {"name": "s", "port": 9, "targetPort": 9091, "protocol": "SCTP"},
)
KINDS = ((TCP, "tcp", ",tcp_flags=syn"), (UDP, "udp", ""), (SCTP, "sctp", ""))


class Way(NamedTuple):
    """A client, and where its packets enter a switch: at a node, by a port, from a MAC address."""

    client: str
    node: str
    ofport: int
    mac: int


def ways(wire):
    pods = [(name, wire.end(name)) for name in ("red/a", "blue/d")]
    yield from (Way(name, end.node, end.ofport, end.mac) for name, end in pods)
    yield from (
        Way(client, node, NODE_PORT, node_mac(node)) for client, node in (("node2", "node2"), (EXTERNAL, "node3"))
    )


def chosen(wire, way, packet):
    """The address and port that the switch sends a packet to a virtual server on to, by the flow that does it."""
    flow = f"in_port={way.ofport},dl_src={format_mac(way.mac)},dl_dst={format_mac(GATEWAY_MAC)},{packet},nw_ttl=64"
    (text,) = wire.site.traces(way.node, [flow])
    (cookie,) = (cookie for table, cookie in met(text) if table == "members")
    origin = wire.site.origin(way.node, cookie)
    assert (origin.kind, origin.name) == ("Service", "traced")
    return re.fullmatch(r"member (\S+) port (\d+)/\w+", origin.detail).groups()


@pytest.mark.parametrize("family", [4, 6])
def test_intent_flows_and_wire_have_the_same_member(wire, kube, family):
    with balanced(wire, kube, "traced", members={"app": "c"}, ports=PORTS) as found:
        wire = wire.fresh()
        intent = wire.site.intent
        server = intent.services["red/traced"]
        name = {str(address): port.name for port in intent.ports.values() for address in port.addresses}
        asked = 0
        for way in ways(wire):
            source = own_address(wire, way.client, family)
            for (protocol, text, flags), port, number in zip(KINDS, server.ports, found.node_ports, strict=True):
                place = Place(way.node, intent.nodes[way.node].zone)
                slices = intent.slices["red/traced"].values()
                (member,) = members(server, slices, port, family, place, local=False)
                fronts = [(found.virtual[family], port.port), (own_address(wire, way.node, family), number)]
                if way.client != EXTERNAL:
                    fronts.append((found.cluster[family], port.port))
                for address, at in fronts:
                    if (way.client, protocol) == (way.node, SCTP) and at == number:
                        continue  # the kernel's rules name ports, which a raw socket of this test has none of
                    kind, prefix = (text, "nw") if family == 4 else (f"{text}6", "ipv6")
                    packet = (
                        f"{kind},{prefix}_src={source},{prefix}_dst={address},{text}_src=40000,{text}_dst={at}{flags}"
                    )
                    assert chosen(wire, way, packet) == (str(member.address), str(member.port)), (way, address, at)
                    assert says(wire, way.client, address, at, protocol) == name[str(member.address)].partition("/")[2]
                    asked += 1
        assert asked == 3 * (3 * 3 + 2) - 1

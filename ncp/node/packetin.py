"""Packets a flow sent to the controller: answered through ``sdn``, sent back where they came from."""

from __future__ import annotations

from typing import Final

from ipam.address import Address
from sdn import icmp
from sdn.compile.terms import REJECTED, TOO_BIG, UNSERVED
from sdn.model import Intent
from sdn.openflow.session import Switch
from sdn.openflow.values import PacketIn
from sdn.outside import outside
from sdn.pipeline.flow import Action, Output, Resubmit, SetField
from sdn.pipeline.registers import (
    DOMAIN,
    FROM_NODE,
    FROM_POD,
    GATEWAY_MAC,
    NEXT_HOP_MAC,
    NODE_MAC,
    NODE_MAC_MASK,
    NODE_PORT,
    OUTPUT,
    ROUTER,
    SEGMENT,
    SOURCE,
    ZONE,
)
from sdn.pipeline.tables import PIPELINE, T
from sdn.reject import rejection

FRAGMENT: Final = 44
"""The next header of a fragment (RFC 8200 section 4.5)."""


_BY_NODE: Final = (SOURCE.set(FROM_POD), OUTPUT.set(NODE_PORT), ZONE.set(NODE_PORT), Resubmit(T["ingress_track"]))
"""Back to who came by the node. It may have been translated: so is what is said of it, as a packet of its connection."""


def answer(switch: Switch, packet: PacketIn, intent: Intent, mtu: int) -> None:
    """Send what is due for one packet."""
    in_port = packet.metadata["in_port"]
    kind = packet.userdata[:1]
    if kind == REJECTED:
        _reject(switch, packet, intent)
    elif kind == UNSERVED:
        frame = rejection(packet.data, why="unserved")
        if frame is not None:
            switch.packet_out(frame, (Output(in_port),))
    elif kind == TOO_BIG and icmp.is_fragmentable(packet.data):
        onward = (*_registers(packet), Resubmit(T["requests"]))  # where it was, past the firewall
        for fragment in icmp.fragments(packet.data, mtu):
            switch.packet_out(fragment, onward, in_port=in_port)
    else:
        asked = _seen_outside(intent, packet)
        for frame in icmp.answers(intent, packet.userdata, packet.table, dict(packet.metadata), asked, mtu):
            if _is_by_node(packet):
                switch.packet_out(frame, _BY_NODE, in_port=in_port)
            else:
                switch.packet_out(frame, (Output(in_port),))


def _seen_outside(intent: Intent, packet: PacketIn) -> bytes:
    """The frame as its sender knows it, where connection tracking would not tell: it reads no fragments that an ICMPv6 error quotes."""
    data = packet.data
    if not _is_by_node(packet) or data[12:14] != b"\x86\xdd" or data[20] != FRAGMENT:
        return data
    inner = Address(6, int.from_bytes(data[38:54], "big"))
    port = next((each for each in intent.ports.values() if inner in each.addresses), None)
    outer = outside(intent, port, inner).address if port else None
    return data[:38] + outer.value.to_bytes(16, "big") + data[54:] if outer else data


def _is_by_node(packet: PacketIn) -> bool:
    return (packet.metadata.get(SOURCE.register, 0) & SOURCE.mask) >> SOURCE.low == FROM_NODE


def _reject(switch: Switch, packet: PacketIn, intent: Intent) -> None:
    """Turn a packet away: at its sender's port back into it, at its receiver's the way the receiver would answer."""
    frame = rejection(packet.data)
    if frame is None:
        return
    if PIPELINE.tables[packet.table].name.startswith("egress"):
        switch.packet_out(frame, (Output(packet.metadata["in_port"]),))
        return
    vni = (packet.metadata.get(SEGMENT.register, 0) & SEGMENT.mask) >> SEGMENT.low
    segment = intent.switches.get(vni)
    router, domain = (segment.router, segment.domain) if segment else (0, 0)
    place = (SOURCE.set(FROM_POD), DOMAIN.set(domain), SEGMENT.set(vni), ROUTER.set(router))
    onward = (*place, *_back(packet), Resubmit(T["requests"]))
    switch.packet_out(frame, onward, in_port=(packet.metadata.get(OUTPUT.register, 0) & OUTPUT.mask) >> OUTPUT.low)


def _back(packet: PacketIn) -> tuple[Action, ...]:
    """What came by a node is answered by that node, through the router."""
    sender = int.from_bytes(packet.data[6:12], "big")
    if sender & NODE_MAC_MASK != NODE_MAC:
        return ()
    return NEXT_HOP_MAC.set(sender), SetField("eth_dst", GATEWAY_MAC)


def _registers(packet: PacketIn) -> tuple[Action, ...]:
    """Where the packet was in the pipeline, as actions that put another there."""
    held = ((field, packet.metadata.get(field.register, 0)) for field in (SOURCE, DOMAIN, SEGMENT, ROUTER))
    high, low = (packet.metadata.get(f"reg{NEXT_HOP_MAC.reg + n}", 0) for n in (0, 1))
    back = NEXT_HOP_MAC.set((high << 32 | low) & NEXT_HOP_MAC.mask)
    return *(field.set((value & field.mask) >> field.low) for field, value in held), back

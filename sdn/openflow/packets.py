"""Reading a packet that a flow handed to the controller."""

from __future__ import annotations

from typing import Any

from sdn.openflow.fields import BY_HEADER
from sdn.openflow.match import tlvs
from sdn.openflow.values import PacketIn

# Properties of NXT_PACKET_IN2.
_PACKET, _FULL_LENGTH, _TABLE, _COOKIE, _METADATA, _USERDATA = 0, 1, 3, 4, 6, 7


def read_packet_in(message: Any) -> PacketIn:
    """A packet from os-ken's NXTPacketIn2.

    The properties are read here: os-ken takes padding for the upper half of the cookie, and a property's header
    for part of the packet's length.
    """
    bodies = {one.type: bytes(one.data) for one in message.properties}
    data = bodies.get(_PACKET, b"")
    return PacketIn(
        table=bodies.get(_TABLE, b"\0")[0],
        cookie=int.from_bytes(bodies.get(_COOKIE, b"")[-8:], "big"),
        userdata=bodies.get(_USERDATA, b""),
        data=data,
        total_len=int.from_bytes(bodies.get(_FULL_LENGTH, b"")[:4], "big") or len(data),
        metadata=_fields(bodies.get(_METADATA, b"")),
    )


def _fields(packed: bytes) -> dict[str, int]:
    """Fields by name. The switch writes registers as pairs; a register that was not written is not there."""
    found: dict[str, int] = {}
    for header, body in tlvs(packed):
        known = BY_HEADER.get(header)
        if known is None:
            continue  # another extension's field: the packet is still good
        value = int.from_bytes(body[: known.size], "big")
        if known.name.startswith("xreg"):
            pair = int(known.name.removeprefix("xreg"))
            halves = {f"reg{2 * pair}": value >> 32, f"reg{2 * pair + 1}": value & 0xFFFFFFFF}
            found.update({name: half for name, half in halves.items() if half})
        else:
            found[known.name] = value
    return found

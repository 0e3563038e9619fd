"""Reading a packet that a flow handed to the controller."""

from __future__ import annotations

from typing import Any

from sdn.openflow.fields import BY_HEADER
from sdn.openflow.match import tlvs
from sdn.openflow.values import PacketIn


def read_packet_in(message: Any) -> PacketIn:
    """A packet from os-ken's NXTPacketIn2, which leaves the pipeline's fields as bytes."""
    data = bytes(message.data or b"")
    return PacketIn(
        table=message.table_id or 0,
        cookie=message.cookie or 0,
        userdata=bytes(message.userdata or b""),
        data=data,
        total_len=message.total_len or len(data),
        metadata=_fields(bytes(message.metadata or b"")),
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

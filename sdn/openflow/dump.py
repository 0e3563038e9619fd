"""Reading back what a switch holds, without building an object per field.

Everything here runs on a session of its own, so that a big answer never stands in the way of changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from struct import Struct, pack

from sdn.openflow.match import canonical_match
from sdn.openflow.values import InstalledFlow, InstalledGroup, TableUse
from sdn.openflow.wire import Reader

_MULTIPART_REQUEST = 18
_MORE = 1
_FLOW_DESCRIPTION, _TABLES, _GROUP_DESCRIPTION = 1, 3, 7
_ANY = 0xFFFFFFFF
_ALL_TABLES, _ALL_GROUPS = 0xFF, 0xFFFFFFFC
_PACKETS, _BYTES = 0x80020808, 0x80020A08  # OXS headers of the two counters

# length, table, priority, cookie, match length
_FLOW = Struct("!H2xBxH8xQ2xH").unpack_from
_LENGTH = Struct("!2xH").unpack_from
_COUNTER = Struct("!IQ").unpack_from
_GROUP = Struct("!HBxIH6x").unpack_from
_TABLE = Struct("!B3xIQQ").unpack_from


def dump_flows(
    socket: Path, *, cookie: int = 0, cookie_mask: int = 0, table: int | None = None, timeout: float = 30.0
) -> list[InstalledFlow]:
    """All flows whose cookie agrees with ``cookie`` in the bits of ``cookie_mask``, of one table or of all.

    Raises SwitchGone or SwitchTimeout.
    """
    where = _ALL_TABLES if table is None else table
    body = pack("!B3xII4xQQHH4x", where, _ANY, _ANY, cookie, cookie_mask, 1, 4)
    flows: list[InstalledFlow] = []
    for reply in _multipart(socket, _FLOW_DESCRIPTION, body, timeout):
        flows += _flows(reply)
    return flows


def dump_groups(socket: Path, *, timeout: float = 30.0) -> list[InstalledGroup]:
    """All groups of the switch."""
    groups = []
    for reply in _multipart(socket, _GROUP_DESCRIPTION, pack("!I4x", _ALL_GROUPS), timeout):
        position = 16
        while position < len(reply):
            length, kind, number, buckets = _GROUP(reply, position)
            middle = position + 16 + buckets
            end = position + length
            groups.append(InstalledGroup(number, kind, reply[position + 16 : middle], reply[middle:end]))
            position = end
    return groups


def dump_tables(socket: Path, *, timeout: float = 10.0) -> list[TableUse]:
    """How many flows each table holds and how often it was looked into; tables without flows are left out."""
    tables = []
    for reply in _multipart(socket, _TABLES, b"", timeout):
        for position in range(16, len(reply), 24):
            use = TableUse(*_TABLE(reply, position))
            if use.flows:
                tables.append(use)
    return tables


def _multipart(socket: Path, kind: int, body: bytes, timeout: float) -> Iterator[bytes]:
    with Reader(socket, timeout) as reader:
        for message in reader.ask(_MULTIPART_REQUEST, pack("!HH4x", kind, 0) + body):
            yield message
            if not message[11] & _MORE:
                return


def _flows(reply: bytes) -> Iterator[InstalledFlow]:
    position, total = 16, len(reply)
    while position < total:
        length, table, priority, cookie, match_length = _FLOW(reply, position)
        end = position + length
        match = canonical_match(reply[position + 28 : position + 24 + match_length])
        statistics = position + 24 + (match_length + 7) // 8 * 8
        size = _LENGTH(reply, statistics)[0]
        packets, octets = _counters(reply, statistics + 4, statistics + size)
        instructions = reply[statistics + (size + 7) // 8 * 8 : end]
        yield InstalledFlow(table, priority, match, cookie, packets, octets, instructions)
        position = end


def _counters(reply: bytes, position: int, end: int) -> tuple[int, int]:
    """Packets and bytes of a flow's statistics (OXS), whichever else and in whichever sequence there is."""
    packets = octets = 0
    while position < end:
        header, value = _COUNTER(reply, position) if end - position >= 12 else (0, 0)
        if header == _PACKETS:
            packets = value
        elif header == _BYTES:
            octets = value
        position += 4 + reply[position + 3]
    return packets, octets

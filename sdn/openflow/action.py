"""Actions as bytes: OpenFlow 1.5 actions, and the Nicira extensions of Open vSwitch (ovs-actions(7)).

Each kind of action has its own packer with its own cache. Actions are tuples, so ``Output(5)`` equals ``Goto(5)`` to
a dictionary: they must never share one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import Struct, pack
from typing import Any

from sdn.openflow.fields import Field, field
from sdn.openflow.learn import pack_learn_fields
from sdn.pipeline import flow as f

_NICIRA = 0x2320
_CONTROLLER_PORT = 0xFFFFFFFD
_ALL_BYTES = 0xFFFF
_IN_PORT_16 = 0xFFF8
_CACHE = 1 << 16
_GOTO = Struct("!HHB3x").pack
_APPLY = Struct("!HH4x").pack

_NAT_SOURCE, _NAT_DESTINATION = 1, 2
_IPV4_MIN, _IPV4_MAX, _IPV6_MIN, _IPV6_MAX, _PORT_MIN, _PORT_MAX = 1, 2, 4, 8, 16, 32


def pack_actions(actions: tuple[f.Action, ...]) -> bytes:
    """The bytes of a list of actions, without any :class:`~sdn.pipeline.flow.Goto` (that is an instruction).

    Raises ValueError for an action that cannot be written, naming it.
    """
    return b"".join([_PACKERS[type(action)](action) for action in actions])


def pack_instructions(actions: tuple[f.Action, ...]) -> bytes:
    """The instructions of a flow: apply these actions, and go to the table of a final Goto."""
    if not actions:
        return b""
    last = actions[-1]
    if type(last) is f.Goto:
        goto = _GOTO(1, 8, last.table)
        if len(actions) == 1:
            return goto
        packed = pack_actions(actions[:-1])
        return _APPLY(4, 8 + len(packed)) + packed + goto
    packed = pack_actions(actions)
    return _APPLY(4, 8 + len(packed)) + packed


def _padded(packed: bytes) -> bytes:
    return packed + bytes(-len(packed) % 8)


def _nicira(subtype: int, body: bytes) -> bytes:
    """An experimenter action of Nicira's: header, body, padding to eight bytes."""
    length = (10 + len(body) + 7) // 8 * 8
    return pack("!HHIH", 0xFFFF, length, _NICIRA, subtype) + body + bytes(length - 10 - len(body))


def _bits(name: str, offset: int, bits: int) -> tuple[Field, int]:
    """A field and the switch's 16-bit way to say which of its bits are meant."""
    known = field(name)
    if bits < 1 or offset < 0 or offset + bits > known.bits:
        raise ValueError(f"{name} has bits 0 to {known.bits - 1}: not {bits} bits from {offset}")
    return known, offset << 6 | bits - 1


def _set_field(action: f.SetField) -> bytes:
    name, value, mask = action
    allowed, used, shift, template, length = _set_field_shape(name, mask)
    if value & ~allowed:
        raise ValueError(f"{action}: the value must fit into {allowed.bit_length()} bits")
    return (template + ((value & used) << shift)).to_bytes(length, "big")


@lru_cache(_CACHE)
def _set_field_shape(name: str, mask: int | None) -> tuple[int, int, int, int, int]:
    """Of all writes of a field with one mask: allowed bits, used bits, the value's place, and all else as a number."""
    known = field(name)
    if mask is not None and (mask < 0 or mask > known.ones):
        raise ValueError(f"set {name}: mask {mask:#x} must fit into {known.bits} bits")
    whole = mask is None or mask == known.ones
    size = known.size if whole else 2 * known.size
    length = (8 + size + 7) // 8 * 8
    header = known.header if whole else known.masked_header
    template = pack("!HHI", 25, length, header) + bytes(length - 8)
    number = int.from_bytes(template, "big")
    if whole or mask is None:
        return known.ones, known.ones, 8 * (length - 8 - size), number, length
    number += mask << 8 * (length - 8 - size)
    return known.ones, mask, 8 * (length - 8 - known.size), number, length


@lru_cache(_CACHE)
def _copy_field(action: f.CopyField) -> bytes:
    source, _ = _bits(action.source, action.source_offset, action.bits)
    target, _ = _bits(action.target, action.target_offset, action.bits)
    offsets = pack("!HHH2x", action.bits, action.source_offset, action.target_offset)
    body = offsets + pack("!II", source.header, target.header)
    return pack("!HH", 28, 24) + body + bytes(4)


@lru_cache(_CACHE)
def _output(action: f.Output) -> bytes:
    return pack("!HHIH6x", 0, 16, action.port, _ALL_BYTES if action.port == _CONTROLLER_PORT else 0)


@lru_cache(_CACHE)
def _output_field(action: f.OutputField) -> bytes:
    known, where = _bits(action.field, action.offset, action.bits)
    return _nicira(15, pack("!HIH6x", where, known.header, _ALL_BYTES))


def _dec_ttl(action: f.DecTtl) -> bytes:
    return b"\0\x18\0\x08\0\0\0\0"


@lru_cache(_CACHE)
def _controller(action: f.Controller) -> bytes:
    properties = b""
    if action.max_len != _ALL_BYTES:
        properties += pack("!HHH2x", 0, 8, action.max_len)
    if action.userdata:
        properties += _padded(pack("!HH", 3, 4 + len(action.userdata)) + action.userdata)
    return _nicira(37, bytes(6) + properties)


@lru_cache(_CACHE)
def _check_packet_larger(action: f.CheckPacketLarger) -> bytes:
    known, _ = _bits(action.field, action.offset, 1)
    return _nicira(49, pack("!HHI", action.size, action.offset, known.header))


@lru_cache(_CACHE)
def _resubmit(action: f.Resubmit) -> bytes:
    return _nicira(14, pack("!HB3x", _IN_PORT_16, action.table))


def _goto(action: f.Goto) -> bytes:
    raise ValueError(f"{action} may only be the last action of a flow")


@lru_cache(_CACHE)
def _ct(action: f.Ct) -> bytes:
    source, zone = 0, action.zone
    if isinstance(zone, f.FieldBits):
        known, zone = _bits(zone.field, zone.offset, zone.bits)
        source = known.header
    nested = pack_actions(action.actions)
    if action.nat is not None:
        nested = _nat(action.nat) + nested
    elif action.translate:
        nested = _nicira(36, bytes(6)) + nested
    flags = (1 if action.commit else 0) | (2 if action.force else 0)
    table = 0xFF if action.table is None else action.table
    header = pack("!HHIHHIHB3xH", 0xFFFF, 24 + len(nested), _NICIRA, 35, flags, source, zone, table, 0)
    return header + nested


def _nat(nat: f.Nat) -> bytes:
    if not nat.address and not nat.port:
        raise ValueError(f"{nat}: names neither an address nor a port to translate to")
    present, ranges = 0, b""
    low, high = (_IPV4_MIN, _IPV4_MAX) if nat.version == 4 else (_IPV6_MIN, _IPV6_MAX)
    size = 4 if nat.version == 4 else 16
    for value, bit in ((nat.address, low), (nat.address_to, high)):
        if value:
            present |= bit
            ranges += value.to_bytes(size, "big")
    for value, bit in ((nat.port, _PORT_MIN), (nat.port_to, _PORT_MAX)):
        if value:
            present |= bit
            ranges += value.to_bytes(2, "big")
    flags = _NAT_SOURCE if nat.source else _NAT_DESTINATION
    return _nicira(36, pack("!2xHH", flags, present) + ranges)


def _ct_clear(action: f.CtClear) -> bytes:
    return _nicira(43, bytes(6))


@lru_cache(_CACHE)
def _conjunction(action: f.Conjunction) -> bytes:
    if not 2 <= action.clauses <= 64 or not 0 <= action.clause < action.clauses:
        raise ValueError(f"{action}: a conjunction has 2 to 64 clauses, counted from 0")
    return _nicira(34, pack("!BBI", action.clause, action.clauses, action.id))


@lru_cache(_CACHE)
def _group(action: f.Group) -> bytes:
    return pack("!HHI", 22, 8, action.id)


@lru_cache(_CACHE)
def _meter(action: f.Meter) -> bytes:
    return pack("!HHI", 29, 8, action.id)


@lru_cache(_CACHE)
def _learn(action: f.Learn) -> bytes:
    flags = 2 if action.delete_learned else 0
    timeouts = pack("!HHH", action.idle_timeout, action.hard_timeout, action.priority)
    header = timeouts + pack("!QHBxHH", action.cookie, flags, action.table, 0, 0)
    return _nicira(16, header + pack_learn_fields(action.fields))


_PACKERS: dict[type, Callable[[Any], bytes]] = {
    f.SetField: _set_field,
    f.CopyField: _copy_field,
    f.Output: _output,
    f.OutputField: _output_field,
    f.DecTtl: _dec_ttl,
    f.Controller: _controller,
    f.CheckPacketLarger: _check_packet_larger,
    f.Resubmit: _resubmit,
    f.Goto: _goto,
    f.Ct: _ct,
    f.CtClear: _ct_clear,
    f.Conjunction: _conjunction,
    f.Group: _group,
    f.Meter: _meter,
    f.Learn: _learn,
}

"""The flow that a learn action will install, as the switch wants it told (NXAST_LEARN in ovs-actions(7))."""

from __future__ import annotations

from struct import pack

from sdn.openflow.fields import field
from sdn.pipeline.flow import LearnField

_IMMEDIATE = 1 << 13
_LOAD = 1 << 11


def pack_learn_fields(fields: tuple[LearnField, ...]) -> bytes:
    """The specifications one after another; raises ValueError for bits a field does not have."""
    return b"".join([_packed(one) for one in fields])


def _packed(one: LearnField) -> bytes:
    target = field(one.target)
    if one.bits < 1 or one.target_offset + one.bits > target.bits:
        raise ValueError(f"{one}: {one.target} has {target.bits} bits")
    how = one.bits | (_LOAD if one.load else 0)
    into = pack("!IH", target.header, one.target_offset)
    if one.value is not None:
        # An immediate value is as many 16-bit words as its bits need.
        words = (one.bits + 15) // 16
        return pack("!H", how | _IMMEDIATE) + one.value.to_bytes(2 * words, "big") + into
    source = field(one.source)
    if one.source_offset + one.bits > source.bits:
        raise ValueError(f"{one}: {one.source} has {source.bits} bits")
    return pack("!HIH", how, source.header, one.source_offset) + into

"""Matches as bytes, in one canonical form: the one in which Open vSwitch gives them back.

Two matches that mean the same pack to the same bytes: fields in the switch's own sequence (which satisfies every
prerequisite), aliases resolved, a full mask dropped, an empty one left out, several masked terms of one field merged,
and registers written as the 64-bit pairs in which OpenFlow 1.5 carries them.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import and_, lshift
from struct import Struct

from sdn.openflow.fields import BY_HEADER
from sdn.openflow.shape import check, halved, merged, shape_of
from sdn.pipeline.flow import Match, Term

_U32 = Struct("!I").unpack_from
_HEADER = Struct("!I").pack
_ORDER = {header: one.order for header, one in BY_HEADER.items()}
_NOT_CANONICAL = frozenset(header for header, one in BY_HEADER.items() if one.name.startswith(("reg", "xxreg")))
_UNKNOWN = 1 << 16


def pack_match(match: Match) -> bytes:
    """The canonical bytes of a match, without header and padding.

    Raises ValueError for a field, value or mask that the switch would refuse.
    """
    if not match:
        return b""
    names, values, masks = zip(*match, strict=True)
    shape = shape_of(names, masks)
    if shape is None:
        check(match)
        return pack_match(merged(match))
    forbidden, wide, shifts, template, length = shape
    if any(map(and_, values, forbidden)):
        check(match)
    if wide:
        values = halved(values, wide)
    packed: int = sum(map(lshift, values, shifts), template)
    return packed.to_bytes(length, "big")


def unpack_match(packed: bytes) -> Match:
    """The terms of a packed match, registers one by one; a field nobody here knows is an error (ValueError)."""
    terms: list[Term] = []
    for header, body in tlvs(packed):
        known = BY_HEADER.get(header)
        if known is None:
            raise ValueError(f"unknown match field with header {header:#010x} in {packed.hex()}")
        value = int.from_bytes(body[: known.size], "big")
        mask = int.from_bytes(body[known.size :], "big") if header & 0x100 else None
        if known.name.startswith("xreg"):
            terms += _halves(int(known.name.removeprefix("xreg")), value, mask)
        else:
            terms.append((known.name, value, mask))
    return tuple(terms)


def _halves(pair: int, value: int, mask: int | None) -> Iterator[Term]:
    """The two registers of a pair, less one that may be anything."""
    for number, shift in ((2 * pair, 32), (2 * pair + 1, 0)):
        part = None if mask is None else mask >> shift & 0xFFFFFFFF
        if part != 0:
            yield f"reg{number}", value >> shift & 0xFFFFFFFF, None if part == 0xFFFFFFFF else part


def canonical_match(packed: bytes) -> bytes:
    """The canonical bytes of a match that a switch wrote; most switches write them so already."""
    position, last, end = 0, -1, len(packed)
    while position < end:
        header = _U32(packed, position)[0]
        order = _ORDER.get(header, _UNKNOWN)
        if order < last or header in _NOT_CANONICAL:
            return _reordered(packed)
        last = order
        position += 4 + (header & 0xFF)
    return packed


def tlvs(packed: bytes) -> Iterator[tuple[int, bytes]]:
    """Each field of packed matches: its header, and its value (with mask) as bytes."""
    position, end = 0, len(packed)
    while position < end:
        header = _U32(packed, position)[0]
        after = position + 4 + (header & 0xFF)
        yield header, packed[position + 4 : after]
        position = after


def _reordered(packed: bytes) -> bytes:
    """Pack again what is known; what is not (other extensions' fields) follows in order of its header."""
    known = b"".join(_HEADER(header) + body for header, body in tlvs(packed) if header in BY_HEADER)
    others = sorted((header, body) for header, body in tlvs(packed) if header not in BY_HEADER)
    return pack_match(unpack_match(known)) + b"".join(_HEADER(header) + body for header, body in others)

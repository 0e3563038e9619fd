"""Matches as bytes, in one canonical form: the one in which Open vSwitch gives them back.

Two matches that mean the same pack to the same bytes: fields in the switch's own sequence (which satisfies every
prerequisite), aliases resolved, a full mask dropped, an empty one left out, several masked terms of one field merged,
and registers written as the 64-bit pairs in which OpenFlow 1.5 carries them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import itemgetter
from struct import Struct
from typing import TypeAlias, cast

from sdn.openflow.fields import ALIASES, BY_HEADER, FIELDS, Field, field
from sdn.pipeline.flow import Match, Term

_U32 = Struct("!I").unpack_from
_HEADER = Struct("!I").pack
_CACHE = 1 << 17

_PAIRS = tuple(field(f"xreg{index}") for index in range(8))
# All registers are one number of 512 bits with register 0 leftmost: how far from its right end each one begins.
_REGISTERS: dict[str, int] = {
    **{f"reg{index}": 480 - 32 * index for index in range(16)},
    **{f"xreg{index}": 448 - 64 * index for index in range(8)},
    **{f"xxreg{index}": 384 - 128 * index for index in range(4)},
}
_WRITABLE_ONLY = frozenset({"in_port_nxm"})
_ORDER = {header: one.order for header, one in BY_HEADER.items()}
_NOT_CANONICAL = frozenset(header for header, one in BY_HEADER.items() if one.name in _REGISTERS and one not in _PAIRS)
_UNKNOWN = 1 << 16


def pack_match(match: Match) -> bytes:
    """The canonical bytes of a match, without header and padding.

    Raises ValueError for a field, value or mask that the switch would refuse.
    """
    shape = _shape(tuple(map(_name, match)))
    if shape is None:
        return pack_match(tuple(_merged(match)))
    before, registers, after = shape
    packed = _join(map(_tlv, before(match)))
    if registers is not None:
        packed += _register_tlvs(registers(match))
    if after is not None:
        packed += _join(map(_tlv, after(match)))
    return packed


def unpack_match(packed: bytes) -> Match:
    """The terms of a packed match; a field nobody here knows is an error (ValueError)."""
    terms: list[Term] = []
    for header, body in tlvs(packed):
        known = BY_HEADER.get(header)
        if known is None:
            raise ValueError(f"unknown match field with header {header:#010x} in {packed.hex()}")
        value = int.from_bytes(body[: known.size], "big")
        mask = int.from_bytes(body[known.size :], "big") if header & 0x100 else None
        terms.append((known.name, value, mask))
    return tuple(terms)


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


_name = itemgetter(0)
_join = b"".join
_Pick: TypeAlias = Callable[[Match], Match]


@lru_cache(1 << 12)
def _shape(names: tuple[str, ...]) -> tuple[_Pick, _Pick | None, _Pick | None] | None:
    """How to pick a match's terms in canonical sequence: those before the registers, registers, those after.

    Programs have few shapes of matches and many matches of each. None where a field occurs more than once.
    """
    ordered = sorted((field(name).order, index) for index, name in enumerate(names))
    places = [(order, index) for order, index in ordered if names[index] not in _REGISTERS]
    if len({order for order, _ in places}) != len(places):
        return None
    first = _PAIRS[0].order
    registers = _picker([index for _, index in ordered if names[index] in _REGISTERS])
    after = _picker([index for order, index in places if order > first])
    return _picker([index for order, index in places if order < first]) or _nothing, registers, after


def _picker(indexes: list[int]) -> _Pick | None:
    if not indexes:
        return None
    if len(indexes) == 1:
        only = indexes[0]
        return lambda match: (match[only],)
    return cast(_Pick, itemgetter(*indexes))


def _nothing(match: Match) -> Match:
    return ()


@lru_cache(_CACHE)
def _tlv(term: Term) -> bytes:
    name, value, mask = term
    known = field(name)
    if name in _WRITABLE_ONLY:
        raise ValueError(f"{name} can be set, not matched: match in_port instead")
    _check(known, value, mask)
    if (mask is None or mask == known.ones) and name != "ct_state":
        return _HEADER(known.header) + value.to_bytes(known.size, "big")
    if mask == 0:
        return b""
    # The switch keeps room in ct_state for flags to come and says which it knows, so it is never exact.
    mask = known.ones if mask is None else mask
    body = value.to_bytes(known.size, "big") + mask.to_bytes(known.size, "big")
    return _HEADER(known.masked_header) + body


@lru_cache(_CACHE)
def _register_tlvs(terms: tuple[Term, ...]) -> bytes:
    """Registers laid side by side as one wide number, cut into the pairs of which OpenFlow 1.5 knows."""
    values, masks = 0, 0
    for term in terms:
        name, value, mask = term
        known = FIELDS[name]
        _check(known, value, mask)
        shift = _REGISTERS[name]
        own = (known.ones if mask is None else mask) << shift
        if (values ^ value << shift) & masks & own:
            raise ValueError(f"match terms contradict each other in {name}: {terms}")
        values |= value << shift
        masks |= own
    packed = []
    for pair in _PAIRS:
        shift = _REGISTERS[pair.name]
        mask = masks >> shift & pair.ones
        if mask:
            packed.append(_tlv((pair.name, values >> shift & pair.ones, mask)))
    return b"".join(packed)


def _check(known: Field, value: int, mask: int | None) -> None:
    if value < 0 or value > known.ones:
        raise ValueError(f"{known.name}: {value:#x} does not fit into {known.bits} bits")
    if mask is None or mask == known.ones:
        return
    if mask < 0 or mask > known.ones:
        raise ValueError(f"{known.name}: mask {mask:#x} does not fit into {known.bits} bits")
    if value & ~mask:
        raise ValueError(f"{known.name}: value {value:#x} has bits outside its mask {mask:#x}")
    if mask and not known.maskable:
        raise ValueError(f"{known.name} can only be matched exactly, not with mask {mask:#x}")


def _merged(match: Match) -> Iterator[Term]:
    """Terms about disjoint bits of one field become one term; registers are left to their pairs."""
    merged: dict[str, tuple[int, int]] = {}
    for term in match:
        name, value, mask = term
        name = ALIASES.get(name, name)
        if name in _REGISTERS:
            yield term
            continue
        own = field(name).ones if mask is None else mask
        values, masks = merged.get(name, (0, 0))
        if (values ^ value) & masks & own:
            raise ValueError(f"match terms contradict each other in {name}: {match}")
        merged[name] = (values | value, masks | own)
    for name, (value, mask) in merged.items():
        yield name, value, None if mask == FIELDS[name].ones else mask


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

"""The shape of a match: its fields and masks without its values.

Programs have few shapes and many matches of each. For one shape the packed bytes, read as one big number, are a
constant (headers and masks) plus every value times a power of two; so packing a match is a few shifts and a sum.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from sdn.openflow.fields import Field, field
from sdn.pipeline.flow import Match

# The switch keeps room in ct_state for flags to come, and so writes a mask of those it knows even if it is full.
_NEVER_EXACT = frozenset({"ct_state"})
_SET_ONLY = frozenset({"in_port_nxm"})
_LOW_HALF = (1 << 64) - 1


class Shape(NamedTuple):
    """How to pack matches of one shape.

    ``forbidden`` has, per term, ones where the value must have zeros. The values of the terms at ``wide`` (counted from
    the end) are carried as two: see :func:`halved`. ``shifts`` says how far left each of the values then goes.
    """

    forbidden: tuple[int, ...]
    wide: tuple[int, ...]
    shifts: tuple[int, ...]
    template: int
    length: int


@lru_cache(1 << 14)
def shape_of(names: tuple[str, ...], masks: tuple[int | None, ...]) -> Shape | None:
    """The shape of these terms; None if terms overlap (see :func:`merged`).

    Raises ValueError for fields and masks no switch accepts.
    """
    places, owned, wide, covered = [], [], [], dict[Field, int]()
    for index, (name, mask) in enumerate(zip(names, masks, strict=True)):
        known = field(name)
        own = _mask(known, mask)
        owned.append(own)
        parts = _parts(known, own)
        if len(parts) == 2:
            wide.append(index - len(names))
        for home, offset, part in parts:
            if covered.get(home, 0) & part << offset:
                return None
            covered[home] = covered.get(home, 0) | part << offset
            places.append((home, offset))
    template, ends = _laid_out(covered)
    total = len(template)
    return Shape(
        forbidden=tuple(~own for own in owned),
        wide=tuple(wide),
        shifts=tuple(8 * (total - ends[home]) + offset if home in ends else 0 for home, offset in places),
        template=int.from_bytes(template, "big"),
        length=total,
    )


def halved(values: tuple[int, ...], wide: tuple[int, ...]) -> tuple[int, ...]:
    """The values with those of 128-bit registers, which are two fields on the wire, as upper and lower half."""
    for index in wide:
        value = values[index]
        values = (*values[:index], value >> 64, value & _LOW_HALF, *values[len(values) + index + 1 :])
    return values


def merged(match: Match) -> Match:
    """The same match with one term per field, its registers as pairs; raises ValueError for a contradiction."""
    found: dict[str, tuple[int, int]] = {}
    for name, value, mask in match:
        known = field(name)
        own = _mask(known, mask)
        for (home, offset, part), (_, _, part_mask) in zip(_parts(known, value), _parts(known, own), strict=True):
            values, masks = found.get(home.name, (0, 0))
            if (values ^ part << offset) & masks & part_mask << offset:
                raise ValueError(f"match terms contradict each other in {name}: {match}")
            found[home.name] = (values | part << offset, masks | part_mask << offset)
    return tuple((name, value, mask) for name, (value, mask) in found.items())


def check(match: Match) -> None:
    """Raise ValueError for the first term whose value does not fit its field or mask."""
    for name, value, mask in match:
        known = field(name)
        if value < 0 or value > known.ones:
            raise ValueError(f"{name}: {value:#x} does not fit into {known.bits} bits")
        if value & ~_mask(known, mask):
            raise ValueError(f"{name}: value {value:#x} has bits outside its mask {mask:#x}")


def _mask(known: Field, mask: int | None) -> int:
    if known.name in _SET_ONLY:
        raise ValueError(f"{known.name} can be set, not matched: match in_port instead")
    if mask is None or mask == known.ones:
        return known.ones
    if mask < 0 or mask > known.ones:
        raise ValueError(f"{known.name}: mask {mask:#x} does not fit into {known.bits} bits")
    if mask and not known.maskable:
        raise ValueError(f"{known.name} can only be matched exactly, not with mask {mask:#x}")
    return mask


def _parts(known: Field, number: int) -> tuple[tuple[Field, int, int], ...]:
    """The fields that carry a field on the wire: each with how far left in it, and its part of a value or mask."""
    if known.name.startswith("xxreg"):
        first = 2 * int(known.name.removeprefix("xxreg"))
        return (field(f"xreg{first}"), 0, number >> 64), (field(f"xreg{first + 1}"), 0, number & _LOW_HALF)
    if known.name.startswith("reg"):
        which = int(known.name.removeprefix("reg"))
        return ((field(f"xreg{which // 2}"), 0 if which % 2 else 32, number),)
    return ((known, 0, number),)


def _laid_out(covered: dict[Field, int]) -> tuple[bytes, dict[Field, int]]:
    """Headers and masks in canonical sequence with zeros for values, and where each value ends."""
    template, ends = bytearray(), dict[Field, int]()
    for known in sorted(covered, key=lambda one: one.order):
        mask = covered[known]
        if mask == 0:
            continue
        exact = mask == known.ones and known.name not in _NEVER_EXACT
        template += (known.header if exact else known.masked_header).to_bytes(4, "big") + bytes(known.size)
        ends[known] = len(template)
        if not exact:
            template += mask.to_bytes(known.size, "big")
    return bytes(template), ends

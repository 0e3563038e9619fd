"""The shape of a match: its fields and masks without its values.

Programs have few shapes and many matches of each. For one shape the packed bytes, read as one big number, are a
constant (headers and masks) plus every value times a power of two; so packing a match is a few shifts and a sum.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from sdn.openflow.fields import ALIASES, Field, field
from sdn.pipeline.flow import Match

# The switch keeps room in ct_state for flags to come, and so writes a mask of those it knows even if it is full.
_NEVER_EXACT = frozenset({"ct_state"})
_SET_ONLY = frozenset({"in_port_nxm"})


class Shape(NamedTuple):
    """How to pack matches of one shape.

    ``forbidden`` has, per term, ones where the value must have zeros; ``shifts`` says how far left a value goes.
    """

    forbidden: tuple[int, ...]
    shifts: tuple[int, ...]
    template: int
    length: int


@lru_cache(1 << 14)
def shape_of(names: tuple[str, ...], masks: tuple[int | None, ...]) -> Shape | None:
    """The shape of these terms; None if terms overlap or have to be split first (see :func:`merged`).

    Raises ValueError for fields and masks no switch accepts.
    """
    places, owned, covered = [], [], dict[Field, int]()
    for name, mask in zip(names, masks, strict=True):
        known = field(name)
        own = _mask(known, mask)
        home, offset = _home(known)
        if home is None or covered.get(home, 0) & own << offset:
            return None
        covered[home] = covered.get(home, 0) | own << offset
        places.append((home, offset))
        owned.append(own)
    template, ends = _laid_out(covered)
    total = len(template)
    return Shape(
        forbidden=tuple(~own for own in owned),
        shifts=tuple(8 * (total - ends[home]) + offset if home in ends else 0 for home, offset in places),
        template=int.from_bytes(template, "big"),
        length=total,
    )


def merged(match: Match) -> Match:
    """The same match with one term per field, its registers as pairs; raises ValueError for a contradiction."""
    found: dict[str, tuple[int, int]] = {}
    for name, value, mask in match:
        known = field(name)
        own = _mask(known, mask)
        for part, part_value, part_mask in _parts(known, value, own):
            values, masks = found.get(part, (0, 0))
            if (values ^ part_value) & masks & part_mask:
                raise ValueError(f"match terms contradict each other in {name}: {match}")
            found[part] = (values | part_value, masks | part_mask)
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


def _home(known: Field) -> tuple[Field | None, int]:
    """The field that carries this one on the wire, and how far left in it; None if it takes two."""
    if known.name.startswith("xxreg"):
        return None, 0
    if known.name.startswith("reg"):
        number = int(known.name.removeprefix("reg"))
        return field(f"xreg{number // 2}"), 0 if number % 2 else 32
    return known, 0


def _parts(known: Field, value: int, mask: int) -> list[tuple[str, int, int]]:
    if known.name.startswith("xxreg"):
        first = 2 * int(known.name.removeprefix("xxreg"))
        low = (1 << 64) - 1
        return [(f"xreg{first}", value >> 64, mask >> 64), (f"xreg{first + 1}", value & low, mask & low)]
    home, offset = _home(known)
    name = home.name if home is not None else known.name
    return [(ALIASES.get(name, name), value << offset, mask << offset)]


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

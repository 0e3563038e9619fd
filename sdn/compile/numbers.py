"""Numbers for things that have names, the same on every node and after every restart. Pure.

A number follows from the name by a hash, so no two nodes and no two runs have to agree. Names whose hashes meet take turns in
the order of the names: each slot has room for ``TURNS``, and what finds none has no number and says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from immutables import Map

SLOT_BITS: Final = 24
TURN_BITS: Final = 6
TURNS: Final = 1 << TURN_BITS


@lru_cache(1 << 16)
def _slot(name: str) -> int:
    digest = blake2b(name.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> (32 - SLOT_BITS)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of a set of names: 64 to 2**30 + 63, below every bit that users set beside them."""

    slots: Map[int, tuple[str, ...]] = field(default_factory=Map)

    def number(self, name: str) -> int | None:
        """A name's number; None where it has none: it is not in the set, or its slot is full."""
        here = self.slots.get(_slot(name), ())
        if name not in here[:TURNS]:
            return None
        return ((_slot(name) << TURN_BITS) | here.index(name)) + TURNS

    def name(self, number: int) -> str | None:
        """The name that has a number; None where none has."""
        here = self.slots.get((number - TURNS) >> TURN_BITS, ())
        turn = number & (TURNS - 1)
        return here[turn] if number >= TURNS and turn < len(here) else None

    def changed(self, add: Iterable[str], remove: Iterable[str]) -> tuple[Numbers, frozenset[str]]:
        """The set with names added and removed, and the other names whose number that changes."""
        slots = self.slots.mutate()
        before: dict[int, tuple[str, ...]] = {}
        for name in remove:
            slot = _slot(name)
            here = slots.get(slot, ())
            before.setdefault(slot, here)
            slots[slot] = tuple(each for each in here if each != name)
        for name in add:
            slot = _slot(name)
            here = slots.get(slot, ())
            before.setdefault(slot, here)
            slots[slot] = tuple(sorted({*here, name}))
        moved: set[str] = set()
        for slot, old in before.items():
            new = slots[slot]
            moved.update(name for name in new if name in old and new.index(name) != old.index(name))
            if not new:
                del slots[slot]
        return Numbers(slots.finish()), frozenset(moved)

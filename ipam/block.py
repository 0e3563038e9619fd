"""IP blocks cut into subnets: which prefixes are given to somebody, and which is next.

A block is cut on its own grid of equal subnets, lowest free first. A custom subnet is claimed exactly as asked, in a
block or outside of all; whatever is claimed is never overlapped by what is cut later.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations

from ipam.address import WIDTH, Family, Prefix
from ipam.persistent import Numbers


class BlockError(ValueError):
    """Blocks that cannot be used together, or at all; the message names them."""


class SubnetTaken(ValueError):
    """A subnet asked for overlaps one that is already given."""

    def __init__(self, asked: Prefix, taken: Prefix) -> None:
        super().__init__(f"subnet {asked} overlaps {taken}, which is already in use")
        self.asked = asked
        self.taken = taken


@dataclass(frozen=True, slots=True)
class IpBlock:
    """One block and the places of its grid that are in use. ``length`` is the prefix length of its subnets."""

    prefix: Prefix
    length: int
    used: Numbers

    @property
    def capacity(self) -> int:
        """How many subnets the block holds in all."""
        return 1 << (self.length - self.prefix.length)

    def subnet(self, index: int) -> Prefix:
        """The subnet at a place of the grid."""
        shift = WIDTH[self.prefix.family] - self.length
        return Prefix(self.prefix.family, self.prefix.value | index << shift, self.length)

    def index(self, value: int) -> int:
        """The place of the grid that an address value of this block lies in."""
        return (value - self.prefix.value) >> (WIDTH[self.prefix.family] - self.length)


@dataclass(frozen=True, slots=True)
class IpBlocks:
    """All blocks of one purpose, and every subnet given from them or beside them.

    ``odd`` holds the claimed subnets that are not places of a grid: of another length, or outside of every block.
    """

    blocks: tuple[IpBlock, ...]
    in_order: bool
    odd: tuple[Prefix, ...] = ()

    @classmethod
    def of(cls, prefixes: Iterable[Prefix], lengths: Mapping[int, int], *, in_order: bool = False) -> IpBlocks:
        """Unused blocks.

        Args:
            prefixes: the blocks, in the order they were configured.
            lengths: prefix length of the subnets to cut, by family.
            in_order: use up each block before the next; otherwise take from the least used one.

        Raises:
            BlockError: two blocks overlap, or one is too small for a single subnet.
        """
        blocks = tuple(IpBlock(prefix, lengths[prefix.family], Numbers()) for prefix in prefixes)
        check_disjoint(block.prefix for block in blocks)
        for block in blocks:
            if block.prefix.length > block.length:
                raise BlockError(f"IP block {block.prefix} is too small for a subnet of length /{block.length}")
        return cls(blocks, in_order)

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that have a block, lowest first."""
        return tuple(sorted({block.prefix.family for block in self.blocks}))

    def taken_by(self, subnet: Prefix) -> Prefix | None:
        """The lowest given subnet that overlaps ``subnet``, or None."""
        found = [odd for odd in self.odd if odd.overlaps(subnet)]
        for block in self.blocks:
            if block.prefix.overlaps(subnet) and (hit := _first_used(block, subnet)) is not None:
                found.append(block.subnet(hit))
        return min(found, default=None)

    def cut(self, family: Family, among: Container[Prefix] | None = None) -> tuple[Prefix | None, IpBlocks]:
        """The next subnet of a family, now given; None when every block of the family is used up.

        ``among``: take it from these blocks only.
        """
        candidates = [
            at
            for at, block in enumerate(self.blocks)
            if block.prefix.family == family and (among is None or block.prefix in among)
        ]
        if not self.in_order:
            candidates.sort(key=lambda at: (Fraction(len(self.blocks[at].used), self.blocks[at].capacity), at))
        for at in candidates:
            index = self._gap(self.blocks[at])
            if index is not None:
                return self.blocks[at].subnet(index), self._mark(at, index, given=True)
        return None, self

    def claim(self, subnet: Prefix) -> IpBlocks:
        """Give exactly this subnet.

        Raises:
            SubnetTaken: it overlaps a subnet that is already given.
        """
        if (taken := self.taken_by(subnet)) is not None:
            raise SubnetTaken(subnet, taken)
        at = self._grid_of(subnet)
        if at is None:
            return replace(self, odd=tuple(sorted((*self.odd, subnet))))
        return self._mark(at, self.blocks[at].index(subnet.value), given=True)

    def release(self, subnet: Prefix) -> IpBlocks:
        """Take back a subnet that was cut or claimed; nothing happens when it was not given."""
        if subnet in self.odd:
            return replace(self, odd=tuple(odd for odd in self.odd if odd != subnet))
        at = self._grid_of(subnet)
        if at is None:
            return self
        return self._mark(at, self.blocks[at].index(subnet.value), given=False)

    def given(self) -> tuple[Prefix, ...]:
        """Every subnet in use, sorted."""
        grid = (block.subnet(index) for block in self.blocks for index in block.used)
        return tuple(sorted((*grid, *self.odd)))

    def _grid_of(self, subnet: Prefix) -> int | None:
        for at, block in enumerate(self.blocks):
            if block.prefix.covers(subnet) and subnet.length == block.length:
                return at
        return None

    def _gap(self, block: IpBlock) -> int | None:
        """The lowest place of the grid that is neither used nor overlapped by an odd subnet."""
        first = 0
        while (index := block.used.gap(first, block.capacity - 1)) is not None:
            subnet = block.subnet(index)
            over = [odd for odd in self.odd if odd.overlaps(subnet)]
            if not over:
                return index
            first = max(block.index(min(odd.last, block.prefix.last)) for odd in over) + 1
        return None

    def _mark(self, at: int, index: int, *, given: bool) -> IpBlocks:
        block = self.blocks[at]
        used = block.used.add(index) if given else block.used.remove(index)
        return replace(self, blocks=(*self.blocks[:at], replace(block, used=used), *self.blocks[at + 1 :]))


def check_disjoint(prefixes: Iterable[Prefix]) -> None:
    """Refuse blocks that share an address.

    Raises:
        BlockError: two of them overlap; the message names both.
    """
    for one, other in combinations(prefixes, 2):
        if one.overlaps(other):
            raise BlockError(f"IP block {one} overlaps IP block {other}; give each address to one block only")


def _first_used(block: IpBlock, subnet: Prefix) -> int | None:
    """The lowest used place of the grid that a prefix reaches."""
    first = block.index(max(subnet.value, block.prefix.value))
    last = block.index(min(subnet.last, block.prefix.last))
    if first == last:
        return first if first in block.used else None
    return next((index for index in block.used if first <= index <= last), None)

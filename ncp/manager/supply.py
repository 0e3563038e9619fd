"""What all namespaces draw from: numbers for logical switches, and subnets. An immutable value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from immutables import Map

from ipam.address import Interface, Prefix, parse_prefix
from ipam.block import IpBlocks, SubnetTaken
from ipam.ledger import Ledger
from ipam.persistent import Numbers
from ncp.manager.layout import SHARED_ROUTER, Layout
from ncp.manager.records import Segment
from sdn.model import MAX_DOMAIN


class Failure(NamedTuple):
    """A decision that cannot be made, as written on the object: a code for programs, a sentence for people."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class Supply:
    """VNIs in use by anybody, and subnets by routing domain."""

    layout: Layout
    blocks: IpBlocks  # of the cluster's own
    vnis: Numbers
    domains: Map[int, IpBlocks]  # of the others

    @classmethod
    def of(cls, layout: Layout) -> Supply:
        """Everything free.

        Raises:
            BlockError: the configured blocks do not fit together.
        """
        return cls(layout, layout.unused_blocks(), Numbers(), Map(layout.unused_domains()))

    def of_domain(self, domain: int) -> IpBlocks:
        """What is given in a routing domain; one that the settings do not name any more has no blocks."""
        return (self.domains.get(domain) or self.layout.unused(())) if domain else self.blocks

    def cut(self, *, no_snat: bool, router: int | None, domain: int = 0) -> tuple[Segment | Failure, Supply]:
        """A segment with the next subnet of every family its routing domain has; ``router`` None: it gets a router of its own."""
        option = "[ncp] routing_domains" if domain else "[nsx_v3] container_ip_blocks"
        if no_snat and self.layout.no_snat_blocks and not domain:
            option = "[nsx_v3] no_snat_ip_blocks"
        among = self.layout.blocks_for(no_snat=no_snat, domain=domain)
        if not among:
            return Failure("IP_BLOCK_MISSING", f"{option} names no block to take a subnet from"), self
        blocks, subnets = self.of_domain(domain), []
        for family in sorted({prefix.family for prefix in among}):
            subnet, blocks = blocks.cut(family, among)
            if subnet is None:
                text = f"every IPv{family} subnet of {option} is in use; add a block or delete a namespace"
                return Failure("IP_BLOCK_EXHAUSTED", text), self
            subnets.append(subnet)
        return self._with(domain, blocks)._number(subnets, no_snat=no_snat, router=router, domain=domain)

    def _with(self, domain: int, blocks: IpBlocks) -> Supply:
        return replace(self, domains=self.domains.set(domain, blocks)) if domain else replace(self, blocks=blocks)

    def custom(
        self, text: str, *, no_snat: bool, router: int | None = None, domain: int = 0
    ) -> tuple[tuple[Segment, ...] | Failure, Supply]:
        """Segments with exactly the subnets a namespace asks for; the n-th of each family make the n-th segment."""
        try:
            asked = [parse_prefix(part) for part in text.split(",") if part.strip()]
            groups = [group for f in (4, 6) if (group := [prefix for prefix in asked if prefix.family == f])]
            if not groups or any(len(group) != len(groups[0]) for group in groups):
                raise ValueError("it must name one subnet or more, and as many of IPv4 as of IPv6 where both are named")
            blocks = self.of_domain(domain)
            for prefix in asked:
                Ledger.of(prefix)
                blocks = blocks.claim(prefix)
        except ValueError as error:
            return Failure("INVALID_SUBNETS", f"annotation ncp/subnets {text!r}: {error}"), self
        supply = self._with(domain, blocks)
        segments: list[Segment] = []
        for subnets in zip(*groups, strict=True):
            router = segments[0].router if segments else router
            segment, supply = supply._number(subnets, no_snat=no_snat, router=router, domain=domain)
            if isinstance(segment, Failure):
                return segment, self
            segments.append(segment)
        return tuple(segments), supply

    def claim(self, segment: Segment) -> Supply:
        """Take exactly what a segment shows.

        Raises:
            ValueError: its VNI or a subnet is in use or not possible; the message says which.
        """
        first, last = self.layout.vnis
        if not first <= segment.vni <= last:
            raise ValueError(f"VNI {segment.vni} is not one of {first} to {last}")
        if segment.vni in self.vnis:
            raise ValueError(f"VNI {segment.vni} is in use already")
        subnets = [gateway.prefix for gateway in segment.gateways]
        if not subnets or len({subnet.family for subnet in subnets}) != len(subnets):
            raise ValueError(f"segment {segment.vni} does not have one gateway per family")
        if not 0 <= segment.domain <= MAX_DOMAIN:
            raise ValueError(f"routing domain {segment.domain} is not one of 0 to {MAX_DOMAIN}")
        blocks = self.of_domain(segment.domain)
        for subnet, gateway in zip(subnets, segment.gateways, strict=True):
            if Ledger.of(subnet).gateway != gateway:
                raise ValueError(f"gateway {gateway} is not the first address of its subnet")
            blocks = blocks.claim(subnet)
        return replace(self._with(segment.domain, blocks), vnis=self.vnis.add(segment.vni))

    def give_back(self, segment: Segment) -> Supply:
        """The segment's VNI and subnets are free again."""
        blocks = self.of_domain(segment.domain)
        for gateway in segment.gateways:
            blocks = blocks.release(gateway.prefix)
        return replace(self._with(segment.domain, blocks), vnis=self.vnis.remove(segment.vni))

    def is_no_snat(self, segment: Segment) -> bool | None:
        """Whether a segment was made for a no-SNAT namespace; None when that cannot be told, or means nothing."""
        if segment.domain:
            return None
        if self.layout.no_snat_blocks:
            for no_snat in (False, True):
                for block in self.layout.blocks_for(no_snat=no_snat):
                    if any(block.covers(gateway.prefix) for gateway in segment.gateways):
                        return no_snat
        return not segment.snat if self.layout.enable_snat else None

    def _number(
        self, subnets: Sequence[Prefix], *, no_snat: bool, router: int | None, domain: int
    ) -> tuple[Segment | Failure, Supply]:
        first, last = self.layout.vnis
        vni = self.vnis.gap(first, last)
        if vni is None:
            text = f"every number of [ncp] vni_range {first}-{last} is in use; widen it or delete a namespace"
            return Failure("VNI_EXHAUSTED", text), self
        if router is None:
            router = SHARED_ROUTER if self.layout.single_tier else vni
        gateways = tuple(first_host(subnet) for subnet in subnets)
        snat = self.layout.enable_snat and not no_snat and not domain
        return Segment(vni, router, gateways, snat, domain), replace(self, vnis=self.vnis.add(vni))


def first_host(subnet: Prefix) -> Interface:
    """The gateway's place in a subnet."""
    return Interface(subnet.family, subnet.value + 1, subnet.length)


__all__ = ["Failure", "SubnetTaken", "Supply", "first_host"]

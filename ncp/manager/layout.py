"""What the settings say about addresses, checked once: the blocks fit together, or it does not start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ipam.address import Family, Prefix
from ipam.block import BlockError, IpBlocks, check_disjoint
from ncp.settings_types import RoutingDomain

SHARED_ROUTER: Final = 1
"""Number of the one tier-1 router of a single-tier topology."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The settings that decisions depend on. ``rest`` is in seconds."""

    cluster: str
    container_blocks: tuple[Prefix, ...]
    no_snat_blocks: tuple[Prefix, ...] = ()
    transit: tuple[Prefix, ...] = ()
    lengths: tuple[tuple[Family, int], ...] = ((4, 24), (6, 64))
    domains: tuple[RoutingDomain, ...] = ()
    in_order: bool = False
    enable_snat: bool = True
    single_tier: bool = False
    vnis: tuple[int, int] = (5001, 75000)  # first and last
    rest: float = 60.0
    namespace_subnets: bool = False
    statefulset_ranges: bool = False
    top_router: str = ""  # the Router that new namespaces hang off which name none

    def unused_blocks(self) -> IpBlocks:
        """All blocks of the cluster's own routing domain, with nothing given but the transit segment.

        Raises:
            BlockError: blocks overlap each other or the transit segment, or are too small for a subnet.
        """
        check_disjoint((*self.container_blocks, *self.no_snat_blocks, *self.transit))
        for family, length in self.lengths:
            limit = {4: 30, 6: 126}[family]
            if length > limit:
                option = {4: "subnet_prefix", 6: "v6_subnet_prefix"}[family]
                raise BlockError(f"[nsx_v3] {option} = {length} leaves no address for a pod; at most {limit} does")
        blocks = self.unused((*self.container_blocks, *self.no_snat_blocks))
        for prefix in self.transit:
            blocks = blocks.claim(prefix)
        return blocks

    def unused_domains(self) -> dict[int, IpBlocks]:
        """The blocks of every other routing domain, by its number, with nothing given.

        Raises:
            BlockError: blocks of one domain overlap each other, or are too small for a subnet.
        """
        return {each.number: self.unused(each.blocks) for each in self.domains}

    def unused(self, blocks: Iterable[Prefix]) -> IpBlocks:
        """Some blocks with nothing given."""
        return IpBlocks.of(blocks, dict(self.lengths), in_order=self.in_order)

    def domain(self, name: str) -> RoutingDomain | None:
        """The routing domain of that name."""
        return next((each for each in self.domains if each.name == name), None)

    def blocks_for(self, *, no_snat: bool, domain: int = 0) -> tuple[Prefix, ...]:
        """Where a namespace's subnets come from; without blocks of their own, no-SNAT ones come from the others."""
        if domain:
            return next((each.blocks for each in self.domains if each.number == domain), ())
        return self.no_snat_blocks if no_snat and self.no_snat_blocks else self.container_blocks


def overridden(layout: Layout, values: Mapping[str, Any]) -> Layout:
    """A layout with options changed at run time, by name; without values it is the file's."""
    return replace(layout, rest=float(values.get("ip_reallocation_time", layout.rest)))


def layout(settings: Any) -> Layout:
    """The layout of loaded settings (:mod:`ncp.settings`).

    Raises:
        BlockError: the blocks do not fit together; the message names them.
    """
    nsx, transit = settings.nsx_v3, (settings.ncp.transit_v4, settings.ncp.transit_v6)
    found = Layout(
        cluster=settings.coe.cluster,
        container_blocks=tuple(nsx.container_ip_blocks),
        no_snat_blocks=tuple(nsx.no_snat_ip_blocks),
        transit=tuple(each for each in transit if each is not None),
        lengths=((4, nsx.subnet_prefix), (6, nsx.v6_subnet_prefix)),
        domains=settings.ncp.routing_domains,
        in_order=nsx.use_ip_blocks_in_order,
        enable_snat=settings.coe.enable_snat,
        single_tier=nsx.single_tier_topology,
        vnis=(settings.ncp.vni_range.first, settings.ncp.vni_range.last),
        rest=float(nsx.ip_reallocation_time),
        namespace_subnets=nsx.enable_namespace_subnets,
        statefulset_ranges=nsx.statefulset_ip_range,
        top_router=nsx.top_tier_router,
    )
    found.unused_blocks()
    found.unused_domains()
    return found

"""What the node's kernel is to hand to the switch so that services answer the node and the world outside. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ipam.address import WIDTH, Address, Prefix

GROUP: Final = {4: 16, 6: 112}
"""Cluster addresses that agree in so many bits share a route."""


@dataclass(frozen=True, slots=True)
class ServiceLeg:
    """Addresses and ports of services, as one node's kernel needs them.

    ``cluster`` covers cluster addresses, ``hosts`` are addresses for clients outside that are no node's, ``host_ports`` (protocol,
    port) are served at the node's own addresses besides ``node_ports`` (first, last), ``announced`` are those of ``hosts`` that this
    node answers for on its underlay.
    """

    cluster: tuple[Prefix, ...] = ()
    hosts: tuple[Address, ...] = ()
    host_ports: tuple[tuple[str, int], ...] = ()
    node_ports: tuple[int, int] = (30000, 32767)
    announced: tuple[Address, ...] = ()

    @property
    def prefixes(self) -> tuple[Prefix, ...]:
        """Everything that is routed into the overlay."""
        return (*self.cluster, *(Prefix(each.family, each.value, WIDTH[each.family]) for each in self.hosts))


def spanning(addresses: Iterable[Address], held: Iterable[Prefix] = ()) -> tuple[Prefix, ...]:
    """The smallest prefix that covers all addresses of a /16 (IPv4) or /112 (IPv6), one for each of these that has any, sorted.

    Few routes serve all, and no range that nobody serves is taken. ``held``: an earlier answer, which the new one covers, so that
    routes do not come and go with every Service.
    """
    ends: dict[tuple[int, int], tuple[int, int]] = {}
    for family, low, high in (
        *((each.family, each.value, each.last) for each in held),
        *((each.family, each.value, each.value) for each in addresses),
    ):
        group = family, low >> (WIDTH[family] - GROUP[family])
        least, most = ends.get(group, (low, high))
        ends[group] = min(least, low), max(most, high)
    return tuple(sorted(_between(4 if family == 4 else 6, *found) for (family, _), found in ends.items()))


def _between(family: int, low: int, high: int) -> Prefix:
    free = (low ^ high).bit_length()
    return Prefix(6 if family == 6 else 4, low >> free << free, WIDTH[family] - free)

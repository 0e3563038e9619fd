"""Which node answers for an address of services on its network: rendezvous hashing (Thaler and Ravishankar, 1998). Pure.

Every node ranks all nodes for an address in the same way, and the highest that can serve it answers. No node asks another, and when one
goes only its own addresses move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from ipam.address import Address, Prefix


class Standing(NamedTuple):
    """What a node says of itself: whether it is ready, and the networks on its link."""

    ready: bool = False
    networks: tuple[Prefix, ...] = ()


class Wish(NamedTuple):
    """One service at an address: any node may answer for it, or only these (those with a member, where only their members count)."""

    address: Address
    only: frozenset[str] | None = None


def announcers(wishes: Iterable[Wish], nodes: Mapping[str, Standing]) -> dict[Address, str]:
    """The node that answers, by address; an address that no ready node has on its link, or no member behind it, is not there.

    Where several services share an address, the node must suit all of them; where none does, it must suit one.
    """
    by_network = _by_network(nodes)
    chosen = {}
    for address, asked in _by_address(wishes).items():
        near = frozenset[str]().union(*(names for network, names in by_network.items() if network.covers(address)))
        if names := _suited(near, asked):
            chosen[address] = preferred(address, names)
    return chosen


@lru_cache(maxsize=16384)
def preferred(address: Address, names: frozenset[str]) -> str:
    """The highest in rank among nodes, of which there must be one."""
    return max(names, key=lambda name: (rank(address, name), name))


def rank(address: Address, name: str) -> int:
    """How much a node is preferred for an address, evenly spread over 64 bits."""
    return _rank(bytes((address.family,)) + address.value.to_bytes(16, "big") + name.encode())


def teller(service: str, nodes: Mapping[str, Standing]) -> str | None:
    """The node that writes on a service's object what is wrong with it, as all nodes find the same; None where none is ready."""
    ready = [name for name, standing in nodes.items() if standing.ready]
    return max(ready, key=lambda name: (_rank(f"{service} {name}".encode()), name), default=None)


def _rank(said: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")


def _suited(near: frozenset[str], asked: Collection[frozenset[str]]) -> frozenset[str]:
    """Of the nodes nearby those that suit all who ask, or else any."""
    if not asked:
        return near
    return near.intersection(*asked) or near & frozenset[str]().union(*asked)


def _by_address(wishes: Iterable[Wish]) -> dict[Address, list[frozenset[str]]]:
    found: dict[Address, list[frozenset[str]]] = {}
    for address, only in wishes:
        asked = found.setdefault(address, [])
        if only is not None:
            asked.append(only)
    return found


def _by_network(nodes: Mapping[str, Standing]) -> dict[Prefix, frozenset[str]]:
    found: dict[Prefix, set[str]] = {}
    for name, standing in nodes.items():
        for network in standing.networks if standing.ready else ():
            found.setdefault(network, set()).add(name)
    return {network: frozenset(names) for network, names in found.items()}

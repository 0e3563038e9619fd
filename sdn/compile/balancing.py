"""Which pools of members a node's packets to virtual servers go to, and the numbers pools and members have in flows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

from immutables import Map

from ipam.address import Address
from sdn.compile.delta import Delta
from sdn.compile.numbers import Numbers
from sdn.model import Intent
from sdn.services import Member, Place, ServicePort, VirtualServer, members

LARGEST: Final = 16384
"""Members of a pool."""
WHOLE: Final = 1024
"""Members of a pool that is one group. A message to a switch, or from it, has at most 64 KiB, and a group is one message: of some
1170 members."""
CHUNK: Final = 256
"""Members, on average, of the groups that a larger pool is shared out to. They fall where their numbers say: up to twice as many
are to be expected in one, and as many as a message cannot hold would be 25 standard deviations more."""


class Pool(NamedTuple):
    """The members behind one port of a virtual server in one family, as one node sees them."""

    name: str
    port: ServicePort
    family: int
    members: tuple[tuple[Member, int], ...]  # with their numbers in the pool
    here: frozenset[Address] = frozenset()  # addresses of those on the node itself
    of: int = 0  # how many there would be, where that is more than a pool can have


def names(pool: Pool) -> tuple[str, ...]:
    """What of a pool has a number: itself, and where it is too large to be one group each of its chunks."""
    size = len(pool.members)
    chunks = -(-size // CHUNK) if size > WHOLE else 0
    return pool.name, *(f"{pool.name}/{number}" for number in range(chunks))


@dataclass(frozen=True, slots=True)
class Balancing:
    """Everything the flows of virtual servers on one node follow from."""

    node: str
    place: Place = field(default_factory=lambda: Place(""))
    numbers: Numbers = field(default_factory=Numbers)
    pools: Map[str, tuple[Pool, ...]] = field(default_factory=Map)  # by service


def advance(state: Balancing, intent: Intent, delta: Delta) -> tuple[Balancing, set[str]]:
    """The pools once the intent has changed by ``delta``, and the services to compile anew."""
    here = intent.nodes.get(state.node)
    place = Place(state.node, here.zone if here else "")
    stale = set(delta.services)
    if place != state.place:
        stale.update(intent.services)
    if not stale:
        return state, stale
    pools = state.pools.mutate()
    add: set[str] = set()
    remove: set[str] = set()
    for name in stale:
        server = intent.services.get(name)
        remove.update(each for pool in pools.get(name, ()) for each in names(pool))
        new = tuple(_pools(server, intent, place)) if server else ()
        add.update(each for pool in new for each in names(pool))
        if new:
            pools[name] = new
        else:
            pools.pop(name, None)
    numbers, moved = state.numbers.changed(add - remove, remove - add)
    stale |= {each.rpartition("#")[0] for each in moved}
    return Balancing(state.node, place, numbers, pools.finish()), stale


def _pools(server: VirtualServer, intent: Intent, place: Place) -> Iterable[Pool]:
    slices = [each for _, each in sorted(intent.slices.get(server.name, {}).items())]
    here = {each.address for one in slices for each in one.endpoints if each.node == place.node}
    local = "internal" in server.local
    for port in server.ports:
        for family in sorted({each.family for each in (*server.internal, *server.external)}):
            name = f"{server.name}#{port.protocol}/{port.port}/{family}"
            found = members(server, slices, port, family, place, local=local)
            fitting = found[:LARGEST]
            local_ones = frozenset(each.address for each in fitting if each.address in here)
            of = len(found) if len(found) > LARGEST else 0
            yield Pool(name, port, family, numbered(fitting), local_ones, of)


def numbered(found: Iterable[Member]) -> tuple[tuple[Member, int], ...]:
    """Members with numbers of 1 to 2**31 that follow from what they are: who comes or goes changes no other's, but for a collision
    of hashes."""
    used: set[int] = set()
    numbers = []
    for member in sorted(found):
        number = int.from_bytes(blake2b(f"{member.address}#{member.port}".encode(), digest_size=4).digest(), "big") >> 1
        number = max(number, 1)
        while number in used:
            number += 1
        used.add(number)
        numbers.append((member, number))
    return tuple(numbers)

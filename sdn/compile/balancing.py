"""Which pools of members a node's packets to virtual servers go to, and the numbers pools and members have in flows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from typing import Final, NamedTuple

from immutables import Map

from ipam.address import Address
from sdn.compile.delta import Delta, Piece
from sdn.compile.numbers import Numbers
from sdn.model import Intent, Origin
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
    members: Mapping[Member, int]  # sorted, with their numbers in the pool
    here: frozenset[Address] = frozenset()  # addresses of those on the node itself
    of: int = 0  # how many there would be, where that is more than a pool can have
    local: bool = False  # only the node's own members count
    elsewhere: bool = False  # and it has none, but other nodes do
    origin: Origin = Origin("Service", "", "")
    affinity: int = 0

    def like(self, other: Pool) -> bool:
        """Whether both are the same but for who their members are: then whoever is one of both has the same flows."""
        rest = self._replace(members=other.members, here=other.here, of=other.of, elsewhere=other.elsewhere)
        return rest == other


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


def advance(state: Balancing, intent: Intent, delta: Delta) -> tuple[Balancing, set[Piece]]:
    """The pools once the intent has changed by ``delta``, and the pieces to compile anew: services, and members of pools."""
    here = intent.nodes.get(state.node)
    place = Place(state.node, here.zone if here else "")
    stale = set(delta.services)
    if place != state.place:
        stale.update(intent.services)
    if delta.nodes:
        stale.update(name for name, server in intent.services.items() if _asks_for_nodes(server, delta.nodes))
    if not stale:
        return state, set()
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
    stale |= {service_of(pool) for pool in moved}
    after = Balancing(state.node, place, numbers, pools.finish())
    pieces: set[Piece] = {("service", name) for name in stale}
    for name in stale:
        pieces.update(
            ("member", each) for each in _changed(state.pools.get(name, ()), after.pools.get(name, ()), moved)
        )
    return after, pieces


def _asks_for_nodes(server: VirtualServer, names: Set[str]) -> bool:
    """Whether what nodes' addresses are matters to it: it is served at them, or its own may be among them."""
    return server.host in names or bool(server.external or server.balancers)


def pieces(state: Balancing) -> set[Piece]:
    """Every piece that follows from the pools."""
    found: set[Piece] = {("service", name) for name in state.pools}
    found.update(
        ("member", (pool.name, each)) for pools in state.pools.values() for pool in pools for each in pool.members
    )
    return found


def _changed(old: tuple[Pool, ...], new: tuple[Pool, ...], moved: Set[str]) -> Iterator[tuple[str, Member]]:
    """Members whose flows are others than before, each with its pool's name."""
    before, after = {pool.name: pool for pool in old}, {pool.name: pool for pool in new}
    for name in before.keys() | after.keys():
        was, now = before.get(name), after.get(name)
        if was and now and now.like(was) and name not in moved:
            yield from ((name, each) for each in was.members if each not in now.members)
            yield from ((name, each) for each, mark in now.members.items() if was.members.get(each) != mark)
            if moved_here := now.here ^ was.here:
                yield from ((name, each) for each in now.members if each.address in moved_here)
        else:
            yield from ((name, each) for pool in (was, now) if pool for each in pool.members)


def _pools(server: VirtualServer, intent: Intent, place: Place) -> Iterable[Pool]:
    slices = [each for _, each in sorted(intent.slices.get(server.name, {}).items())]
    here = frozenset[Address]().union(*(each.on(place.node) for each in slices))
    families = {each.family for each in addresses_of(server, intent)}
    for port, family in product(server.ports, sorted(families)):
        for local in sorted(_kinds(server, port)):
            name = f"{server.name}#{port.protocol}/{port.port}/{family}" + ("/local" if local else "")
            found = members(server, slices, port, family, place, local=local)
            fitting = found[:LARGEST]
            local_ones = here and frozenset(each.address for each in fitting if each.address in here)
            of = len(found) if len(found) > LARGEST else 0
            elsewhere = local and not found and bool(members(server, slices, port, family, place, local=False))
            yield Pool(
                name,
                port,
                family,
                numbered(fitting),
                local_ones,
                of,
                local,
                elsewhere,
                server.origin,
                server.affinity,
            )


def service_of(pool: str) -> str:
    """The service a pool's name is about."""
    return pool.rpartition("#")[0]


def addresses_of(server: VirtualServer, intent: Intent) -> tuple[Address, ...]:
    """All addresses of a virtual server, those of the node that lends its own among them (but not those of its node ports)."""
    host = intent.nodes.get(server.host)
    return (*server.addresses, *(host.addresses if host else ()))


def _kinds(server: VirtualServer, port: ServicePort) -> set[bool]:
    """Which pools a port needs: one of the node's own members (True), one of all."""
    outward = bool(server.external or server.balancers or server.host or port.node_port)
    kinds = {"internal" in server.local} if server.internal else set()
    if outward:
        # Pods and nodes are sent anywhere also where the service is local for those outside, as by kube-proxy (KEP-1669).
        kinds |= {False, "external" in server.local}
    return kinds


def numbered(found: Iterable[Member]) -> dict[Member, int]:
    """Members with numbers of 1 to 2**31 that follow from what they are: who comes or goes changes no other's, but for a collision
    of hashes."""
    used: set[int] = set()
    numbers = {}
    for member in sorted(found):
        number = _number(member)
        while number in used:
            number += 1
        used.add(number)
        numbers[member] = number
    return numbers


@lru_cache(1 << 17)
def _number(member: Member) -> int:
    hashed = blake2b(f"{member.address}#{member.port}".encode(), digest_size=4).digest()
    return max(int.from_bytes(hashed, "big") >> 1, 1)

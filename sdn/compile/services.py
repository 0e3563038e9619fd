"""Virtual servers as flows and groups: find the pool, choose a member, translate to it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from ipam.address import Address
from sdn.compile.associations import associate_member
from sdn.compile.balancing import Balancing, Pool, addresses_of, names, service_of
from sdn.compile.fabric import drop, fabric
from sdn.compile.firewall import HAIRPINNED, INVALID, LEARNED, PENDING, SCTP
from sdn.compile.groups import group_entries
from sdn.compile.terms import ETH_IP, UNSERVED, flow, from_address, from_prefix, goto, to_address
from sdn.model import Intent, Origin, Problem
from sdn.pipeline import flow as f
from sdn.pipeline.registers import (
    FROM_NODE,
    GATEWAY_MAC,
    HAIRPIN,
    HOST_PORT,
    MEMBER,
    NODE_PORT,
    OUTPUT,
    OUTSIDE,
    POOL,
    SOURCE,
    ZONE,
)
from sdn.pipeline.tables import T
from sdn.services import Member, ServicePort, VirtualServer

PORT: Final = 100
ADDRESS: Final = 50
NODE_ADDRESS: Final = 45
"""Priorities in table services: one port of an address, and all else that is sent to it; a node's address, whose ports other tables know."""
OUT_OF_RANGE: Final = "outside the source ranges"
_PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
LONGEST_AFFINITY: Final = 65535
"""Seconds an entry that a switch notes can stay idle."""


class Served(NamedTuple):
    """What a virtual server becomes on a node."""

    flows: tuple[f.Flow, ...]
    problems: tuple[Problem, ...]
    groups: tuple[f.GroupEntry, ...]


def compile_service(intent: Intent, state: Balancing, name: str) -> Served:
    """The flows and groups of one virtual server."""
    server = intent.services.get(name)
    if server is None:
        return Served((), (), ())
    flows: list[f.Flow] = []
    groups: list[f.GroupEntry] = []
    problems: list[Problem] = []
    found: dict[tuple[ServicePort, int], dict[bool, Found]] = {}
    for pool in state.pools.get(name, ()):
        number, *chunks = (state.numbers.number(each) for each in names(pool))
        if number is None or None in chunks:
            text = f"{server.origin}: port {pool.port.port} has no number left, so it is not served; give the service another name"
            problems.append(Problem(server.origin, "NUMBERS_EXHAUSTED", text))
            continue
        if pool.of:
            said = f"{pool.of} members, and connections go to {len(pool.members)} of them; use several services"
            text = f"{server.origin}: port {pool.port.port}/{pool.port.protocol} has {said}"
            problems.append(Problem(server.origin, "POOL_TOO_LARGE", text))
        found.setdefault((pool.port, pool.family), {})[pool.local] = _found(server, pool, number)
        flows += _choices(server, pool, number)
        # A client that stays with its member is given it by its address: connections it makes before the switch has noted where the
        # first one went, and has taken the note to heart, go there, too.
        groups += group_entries(number, pool, "client" if server.affinity else intent.algorithm, chunks)
    for (port, family), pools in found.items():
        if intent.nat.host_ports and server.host == state.node and port.protocol != "sctp":
            pools = {local: each._replace(actions=(HOST_PORT.set(1), *each.actions)) for local, each in pools.items()}
        flows += _faces(server, addresses_of(server, intent), port, family, pools)
    flows += _no_such_port(server, intent)
    return Served(tuple(flows), tuple(problems), tuple(groups))


def _no_such_port(server: VirtualServer, intent: Intent) -> Iterator[f.Flow]:
    """Nobody is at an address of services but they, unless it is a node's. Services may share an address for those outside."""
    outside = {*server.external, *server.balancers}
    taken = {each for node in intent.nodes.values() for each in node.addresses} if outside else set()
    for address in server.addresses:
        if address not in taken:
            shared = address not in server.internal
            about = fabric("services", f"no such port of {address}") if shared else server.origin.about("no such port")
            yield flow("services", ADDRESS, to_address(address), (f.Controller(UNSERVED),), about)


class Found(NamedTuple):
    """What is done with a packet for which a pool was found, and who says so."""

    actions: tuple[f.Action, ...]
    origin: Origin


def _found(server: VirtualServer, pool: Pool, number: int) -> Found:
    said = server.origin.about(f"port {pool.port.port}/{pool.port.protocol}")
    if pool.elsewhere:
        return Found((), drop("no-local-member"))
    if not pool.members:
        return Found((f.Controller(UNSERVED),), server.origin.about(f"{said.detail}: no member"))
    if server.affinity:
        return Found((POOL.set(number), f.Resubmit(T["affinity"]), goto("select")), said)
    return Found((POOL.set(number), goto("select")), said)


def _faces(
    server: VirtualServer, addresses: tuple[Address, ...], port: ServicePort, family: int, pools: dict[bool, Found]
) -> Iterator[f.Flow]:
    """How a port is asked for: at addresses, and at its number on every node."""
    what = (("ip_proto", _PROTOCOLS[port.protocol], None), (f"{port.protocol}_dst", port.port, None))
    for address in dict.fromkeys(addresses):
        if address.family != family or (port.only and port.only != address):
            continue
        match = (*to_address(address), *what)
        if address in server.internal:
            if inside := pools.get("internal" in server.local):
                yield flow("services", PORT, match, inside.actions, inside.origin)
        elif address in server.balancers and server.sources:
            for source in server.sources:
                if source.family == family:
                    yield from _outward(server, "services", (*match, *from_prefix(source)), pools)
            told = server.origin.about(f"port {port.port}/{port.protocol}: {OUT_OF_RANGE}")
            yield flow("services", PORT - 1, match, (), told)
        else:
            yield from _outward(server, "services", match, pools)
    if port.node_port:
        what = (("ip_proto", _PROTOCOLS[port.protocol], None), (f"{port.protocol}_dst", port.node_port, None))
        yield from _outward(server, "node_ports", (ETH_IP[family], *what), pools)


def _outward(server: VirtualServer, table: str, match: f.Match, pools: dict[bool, Found]) -> Iterator[f.Flow]:
    """At an address for those outside: they may have to be content with the node's own members."""
    if everybody := pools.get(False):
        yield flow(table, PORT, match, everybody.actions, everybody.origin)
    if "external" in server.local and (here := pools.get(True)):
        yield flow(table, PORT + 1, (OUTSIDE.match(1), *match), here.actions, here.origin)


def compile_balancing() -> list[f.Flow]:
    """What is there whatever the services are."""
    given_back = fabric("node port", "no service's port: given back to the node")
    turned = (f.CopyField("eth_src", "eth_dst", 48), f.SetField("eth_src", GATEWAY_MAC))
    back = (*turned, OUTPUT.set(NODE_PORT), goto("deliver"))
    found = [flow("select", 31, (INVALID,), (), drop("ct-invalid"))]
    found += [flow("node_ports", 1, (SOURCE.match(FROM_NODE),), back, given_back)]
    for eth in ETH_IP.values():
        # Its connection is not known any more, and a member chosen anew would know nothing of it.
        midst = (eth, ("ip_proto", 6, None), ("tcp_flags", 0, 2))
        found.append(
            flow("select", 30, midst, (f.Controller(UNSERVED),), fabric("answer", "no connection to a member"))
        )
    return found


def _choices(server: VirtualServer, pool: Pool, number: int) -> Iterator[f.Flow]:
    """Choose among a pool's members."""
    if not pool.members:
        return
    said = server.origin.about(f"port {pool.port.port}/{pool.port.protocol}")
    here = POOL.match(number)
    if len(pool.members) == 1:
        choose: tuple[f.Action, ...] = (MEMBER.set(next(iter(pool.members.values()))), goto("members"))
    else:
        choose = (f.Group(number),)
    if server.affinity:
        yield flow("select", 20, (_none_yet(number),), choose, said)
        yield flow("select", 10, (here,), (goto("members"),), said)
    else:
        yield flow("select", 10, (here,), choose, said)


def compile_member(state: Balancing, about: tuple[str, Member]) -> tuple[f.Flow, ...]:
    """The flows that send to one member of the pool of that name."""
    name, member = about
    pool = next((each for each in state.pools.get(service_of(name), ()) if each.name == name), None)
    number, mark = state.numbers.number(name), pool.members.get(member) if pool else None
    if pool is None or number is None or mark is None:
        return ()
    plain = _member(pool, number, member, mark)
    return (plain, _hairpin(pool, number, member, mark)) if member.address in pool.here else (plain,)


def _none_yet(number: int) -> f.Term:
    """Packets of a pool that no member was noted for."""
    return ("metadata", number << POOL.low, None)


def _hairpin(pool: Pool, number: int, member: Member, mark: int) -> f.Flow:
    """A pod that is sent to itself: no policy is asked (docs/policies.md)."""
    plain = _member(pool, number, member, mark, itself=True)
    return plain._replace(priority=20, match=(*plain.match, from_address(member.address)[1]))


def _member(pool: Pool, number: int, member: Member, mark: int, *, itself: bool = False) -> f.Flow:
    about = pool.origin.about(f"member {member.address} port {member.port}/{pool.port.protocol}")
    keep = (_remember(pool, number, mark),) if pool.affinity else ()
    hairpin = (HAIRPIN.set(1),) if itself else ()
    before = (*keep, POOL.set(0), MEMBER.set(0), *hairpin)
    match: f.Match = (ETH_IP[pool.family], ("metadata", number << POOL.low | mark, None))
    if pool.port.protocol == "sctp":
        match = (*match, ("ip_proto", SCTP, None))
        return flow("members", 10, match, (*before, *associate_member(member, itself=itself)), about)
    nat = f.Nat(source=False, version=pool.family, address=member.address.value, port=member.port)
    translate = f.Ct(
        zone=f.FieldBits(ZONE.register, ZONE.low, ZONE.bits),
        table=T["egress_count" if itself else "egress_concern"],
        commit=True,
        nat=nat,
        actions=(f.SetField("ct_mark", HAIRPINNED if itself else PENDING),),
    )
    return flow("members", 10, match, (*before, translate), about)


def _remember(pool: Pool, number: int, mark: int) -> f.Learn:
    """Note that a client's next connections to the pool go to this member, for as long as they come."""
    family, source, bits = pool.family, f"ipv{pool.family}_src", 32 if pool.family == 4 else 128
    fields = (
        f.LearnField("metadata", 32, source="metadata", source_offset=POOL.low, target_offset=POOL.low),
        f.LearnField("eth_type", 16, ETH_IP[family][1]),
        f.LearnField(source, bits, source=source),
        f.LearnField("metadata", 32, source="metadata", load=True),
    )
    # All that was noted goes with the last flow that notes under this cookie: no other pool's member may have it.
    about = int.from_bytes(blake2b(f"{number}/{mark}".encode(), digest_size=6).digest(), "big")
    cookie = LEARNED << 48 | about
    return f.Learn(T["affinity"], 10, cookie, fields, idle_timeout=min(pool.affinity, LONGEST_AFFINITY))

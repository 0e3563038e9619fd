"""Virtual servers as flows and groups: find the pool, choose a member, translate to it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from sdn.compile.balancing import Balancing, Pool
from sdn.compile.firewall import HAIRPINNED, LEARNED, PENDING
from sdn.compile.terms import ETH_IP, UNSERVED, flow, from_address, goto, to_address
from sdn.model import Intent, Problem
from sdn.pipeline import flow as f
from sdn.pipeline.registers import HAIRPIN, MEMBER, POOL, ZONE
from sdn.pipeline.tables import T
from sdn.services import Algorithm, Member, VirtualServer

PORT: Final = 100
ADDRESS: Final = 50
"""Priorities in table services: one port of an address, and all else that is sent to it."""
SLOTS: Final = 256
"""A switch chooses members by a table of this many slots at most; more members need a hash of every new connection."""
SPILL: Final = 1 << 31
"""This bit marks the group that shares out what the slots leave over."""
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
    for pool in state.pools.get(name, ()):
        number = state.numbers.number(pool.name)
        if number is None:
            text = f"{server.origin}: port {pool.port.port} has no number left, so it is not served; give the service another name"
            problems.append(Problem(server.origin, "NUMBERS_EXHAUSTED", text))
            continue
        if pool.of:
            said = f"{pool.of} members, and connections go to {len(pool.members)} of them; use several services"
            text = f"{server.origin}: port {pool.port.port}/{pool.port.protocol} has {said}"
            problems.append(Problem(server.origin, "POOL_TOO_LARGE", text))
        flows += _pool(server, pool, number)
        # A client that stays with its member is given it by its address: connections it makes before the switch has noted where the
        # first one went, and has taken the note to heart, go there, too.
        groups += group_entries(number, pool, "client" if server.affinity else intent.algorithm)
    addresses = dict.fromkeys((*server.internal, *server.external))
    about = server.origin.about("no such port")
    flows += [flow("services", ADDRESS, to_address(each), (f.Controller(UNSERVED),), about) for each in addresses]
    return Served(tuple(flows), tuple(problems), tuple(groups))


def _pool(server: VirtualServer, pool: Pool, number: int) -> Iterator[f.Flow]:
    port = pool.port
    said = server.origin.about(f"port {port.port}/{port.protocol}")
    found: tuple[f.Action, ...] = (POOL.set(number), goto("select"))
    if server.affinity:
        found = (POOL.set(number), f.Resubmit(T["affinity"]), goto("select"))
    if not pool.members:
        found, said = (f.Controller(UNSERVED),), server.origin.about(f"port {port.port}/{port.protocol}: no member")
    for address in dict.fromkeys((*server.internal, *server.external)):
        if address.family == pool.family:
            what = (("ip_proto", _PROTOCOLS[port.protocol], None), (f"{port.protocol}_dst", port.port, None))
            yield flow("services", PORT, (*to_address(address), *what), found, said)
    if not pool.members:
        return
    here = POOL.match(number)
    if len(pool.members) == 1:
        choose: tuple[f.Action, ...] = (MEMBER.set(pool.members[0][1]), goto("members"))
    else:
        choose = (f.Group(number),)
    if server.affinity:
        yield flow("select", 20, (_none_yet(number),), choose, said)
        yield flow("select", 10, (here,), (goto("members"),), said)
    else:
        yield flow("select", 10, (here,), choose, said)
    for member, mark in pool.members:
        yield _member(server, pool, number, member, mark)
        if member.address in pool.here:
            yield _hairpin(server, pool, number, member, mark)


def _none_yet(number: int) -> f.Term:
    """Packets of a pool that no member was noted for."""
    return ("metadata", number << POOL.low, None)


def _hairpin(server: VirtualServer, pool: Pool, number: int, member: Member, mark: int) -> f.Flow:
    """A pod that is sent to itself: no policy is asked (docs/policies.md)."""
    plain = _member(server, pool, number, member, mark)
    *before, translate = plain.actions
    assert isinstance(translate, f.Ct)
    itself = translate._replace(table=T["egress_count"], actions=(f.SetField("ct_mark", HAIRPINNED),))
    match = (*plain.match, from_address(member.address)[1])
    return plain._replace(priority=20, match=match, actions=(*before, HAIRPIN.set(1), itself))


def _member(server: VirtualServer, pool: Pool, number: int, member: Member, mark: int) -> f.Flow:
    about = server.origin.about(f"member {member.address} port {member.port}/{pool.port.protocol}")
    nat = f.Nat(source=False, version=pool.family, address=member.address.value, port=member.port)
    translate = f.Ct(
        zone=f.FieldBits(ZONE.register, ZONE.low, ZONE.bits),
        table=T["egress_concern"],
        commit=True,
        nat=nat,
        actions=(f.SetField("ct_mark", PENDING, None),),
    )
    keep = (_remember(server, pool.family, number, mark),) if server.affinity else ()
    match = (ETH_IP[pool.family], ("metadata", number << POOL.low | mark, None))
    return flow("members", 10, match, (*keep, POOL.set(0), MEMBER.set(0), translate), about)


def _remember(server: VirtualServer, family: int, number: int, mark: int) -> f.Learn:
    """Note that a client's next connections to the pool go to this member, for as long as they come."""
    source, bits = (f"ipv{family}_src", 32 if family == 4 else 128)
    fields = (
        f.LearnField("metadata", 32, source="metadata", source_offset=POOL.low, target_offset=POOL.low),
        f.LearnField("eth_type", 16, ETH_IP[family][1]),
        f.LearnField(source, bits, source=source),
        f.LearnField("metadata", 32, source="metadata", load=True),
    )
    # All that was noted goes with the last flow that notes under this cookie: no other pool's member may have it.
    about = int.from_bytes(blake2b(f"{number}/{mark}".encode(), digest_size=6).digest(), "big")
    cookie = LEARNED << 48 | about
    return f.Learn(T["affinity"], 10, cookie, fields, idle_timeout=min(server.affinity, LONGEST_AFFINITY))


def group_entries(number: int, pool: Pool, algorithm: Algorithm) -> tuple[f.GroupEntry, ...]:
    """The groups that choose among members, evenly.

    The switch's own hash of a connection chooses by a table of slots, which is fast but only even where the slots can be shared out
    evenly: what they leave over goes to a second group, which hashes every new connection and is exact.
    """
    marks = [mark for _, mark in pool.members]
    if len(marks) < 2:
        return ()
    client = f"ipv{pool.family}_src"
    fields = (client,) if algorithm == "client" else (client, f"{pool.port.protocol}_src")
    if algorithm == "client" or len(marks) > SLOTS:
        return (f.GroupEntry(number, "select", _buckets(marks, 1), "hash", fields),)
    share, left = divmod(SLOTS, len(marks))
    whole = _buckets(marks, share)
    if not left:
        return (f.GroupEntry(number, "select", whole),)
    over = f.GroupEntry(number | SPILL, "select", _buckets(marks, 1), "hash", fields)
    # A bucket of weight 1 makes the switch use all its slots.
    spill = [f.Bucket(SPILL + n, (f.Group(over.id),), weight) for n, weight in enumerate((1, left - 1)) if weight]
    return over, f.GroupEntry(number, "select", (*whole, *spill))


def _buckets(marks: list[int], weight: int) -> tuple[f.Bucket, ...]:
    return tuple(f.Bucket(mark, (MEMBER.set(mark), f.Resubmit(T["members"])), weight) for mark in marks)

"""Virtual servers as flows and groups: find the pool, choose a member, translate to it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from sdn.compile.balancing import Balancing, Pool, names
from sdn.compile.firewall import HAIRPINNED, LEARNED, PENDING
from sdn.compile.groups import group_entries
from sdn.compile.terms import ETH_IP, UNSERVED, flow, from_address, goto, to_address
from sdn.model import Intent, Problem
from sdn.pipeline import flow as f
from sdn.pipeline.registers import HAIRPIN, MEMBER, POOL, ZONE
from sdn.pipeline.tables import T
from sdn.services import Member, VirtualServer

PORT: Final = 100
ADDRESS: Final = 50
"""Priorities in table services: one port of an address, and all else that is sent to it."""
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
        number, *chunks = (state.numbers.number(each) for each in names(pool))
        if number is None or None in chunks:
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
        groups += group_entries(number, pool, "client" if server.affinity else intent.algorithm, chunks)
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

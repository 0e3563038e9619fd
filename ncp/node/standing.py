"""Connections that were there before a change: those it forbids are forgotten by the switch, so that their next packet is judged anew.

Everything new obeys a change from the moment the switch has acknowledged its flows; what was established goes past the rules. So
after each change that may forbid something, the connections it may concern are read from the switch, judged by the same oracle
the flows are held against, and removed one by one where they are forbidden, unless their policy says ``keep``. Connections with an
address that nobody has any more are removed without a question.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias

from ipam.address import Address, Family
from sdn.compile.balancing import Pool
from sdn.compile.delta import Delta
from sdn.compile.firewall import BACKWARD, FORWARD
from sdn.conntrack import NUMBERS, Forbidden, Tracked, forbidden, parse
from sdn.model import Intent, LogicalPort
from sdn.openflow.conntrack import Flush
from sdn.openflow.match import unpack_match
from sdn.openflow.session import Switch
from sdn.openflow.values import InstalledFlow
from sdn.outside import changed_outside
from sdn.pipeline.registers import HAIRPIN_ZONE, NODE_PORT, ZONE
from sdn.pipeline.tables import T
from sdn.program import Changes, Program, Rule
from sdn.services import Member, VirtualServer

log = logging.getLogger(__name__)


Place: TypeAlias = tuple[int, Address]
"""An address in a routing domain."""


@dataclass(slots=True)
class Standing:
    """What is still to be looked at, gathered from change to change until it is done.

    ``dump`` gives what the switch tracks, as text; SCTP associations are flows that it noted itself.
    """

    dump: Callable[[], str]
    switch: Switch
    resets: bool = False  # TCP connections to members that were given up; else they are let end
    _all: bool = False
    _addresses: set[Place] = field(default_factory=set)
    _gone: set[Place] = field(default_factory=set)
    _nodes: set[Address] = field(default_factory=set)  # the addresses of all nodes
    _others: set[Address] = field(default_factory=set)  # pods that are somebody else outside than before
    _servers: dict[str, VirtualServer] = field(default_factory=dict)  # those that change, as they were
    _pools: Mapping[str, tuple[Pool, ...]] = field(default_factory=dict)  # as they were when all was settled last

    def concern(self, before: Intent, after: Intent, delta: Delta) -> None:
        """Note what a change may forbid."""
        self._nodes = {each for node in after.nodes.values() for each in node.addresses}
        self._all |= bool(delta.sections or delta.namespaces or delta.settings)
        for name in delta.services:
            if server := before.services.get(name):
                self._servers.setdefault(name, server)
        self._others |= changed_outside(before, after, delta)
        for name in delta.ports:
            old, new = before.ports.get(name), after.ports.get(name)
            if old is None:
                continue
            self._gone.update(_places(before, old) - (_places(after, new) if new else set()))
            if new is not None and new.identity != old.identity:
                self._addresses |= _places(after, new)

    def everything(self) -> None:
        """Look at all connections: nobody knows what changed."""
        self._all = True

    def settle(self, program: Program, intent: Intent, attached: Mapping[str, int]) -> list[Forbidden]:
        """Remove what is to be removed; what was forbidden and went. Anything that fails stays to be done.

        Raises:
            AppctlError, SwitchGone, SwitchTimeout: the switch did not answer.
        """
        found: list[Forbidden] = []
        # The switch finds these by itself: on a busy node there is too much to read for each member that goes.
        self.switch.flush([*self._left(program.balancing.pools), *_leaving(self._others)])
        if (self._all and intent.sections) or self._addresses or self._gone:
            connections = list(parse(self.dump()))
            noted = associations(self.switch.flows(table=T["associations"]))
            connections += noted
            zones = {ofport: name for name, ofport in attached.items()}
            domains = _domains(intent, zones)
            gone = {each for each in connections if _is_about(each, self._gone, domains)}
            asked = (each for each in connections if self._all or _is_about(each, self._addresses, domains))
            found = [each for each in forbidden(asked, intent, program.rules, zones) if each.fate != "keep"]
            self._forget(gone | {each.tracked for each in found}, noted)
        lost = {address for domain, address in self._gone if not domain}  # virtual servers are of no other domain
        if lost and (stale := translations(self.switch.flows(table=T["translations"]), lost)):
            self.switch.apply(Changes(delete=stale))
        self._all = False
        self._addresses.clear()
        self._gone.clear()
        self._servers.clear()
        self._others.clear()
        self._pools = program.balancing.pools
        for each in found:
            log.info("%s: cut off from %s: %s", each.tracked, each.port, each.verdict.why)
        return found

    def _left(self, now: Mapping[str, tuple[Pool, ...]]) -> Iterator[Flush]:
        """Members that datagrams to a virtual server no longer go to: nothing in them says when a client is done. What is left of a
        TCP connection that is to be reset finds none of its own, and is told so."""
        protocols = ("udp", "tcp") if self.resets else ("udp",)
        for name, server in self._servers.items():
            kept = {pool.name: pool.members.keys() for pool in now.get(name, ())}
            for pool in self._pools.get(name, ()):
                gone = pool.members.keys() - kept.get(pool.name, frozenset())
                protocol = pool.port.protocol
                if gone and protocol in protocols:
                    for (address, number), member in product(self._asked(server, pool), sorted(gone)):
                        yield _to_member(NUMBERS[protocol], address, number, member)

    def _asked(self, server: VirtualServer, pool: Pool) -> Iterator[tuple[Address, int]]:
        """The addresses and ports that lead to a pool."""
        yield from ((each, pool.port.port) for each in server.addresses if each.family == pool.family)
        numbers = [pool.port.port if server.host else 0, pool.port.node_port]
        nodes = [each for each in self._nodes if each.family == pool.family]
        yield from ((each, number) for number in numbers if number for each in nodes)

    def _forget(self, connections: Set[Tracked], noted: Mapping[Tracked, tuple[Rule, ...]]) -> None:
        self.switch.flush([of_connection(each) for each in connections if each not in noted])
        flows = tuple(rule for each in connections for rule in noted.get(each, ()))
        if flows:
            self.switch.apply(Changes(delete=flows))


def _places(intent: Intent, port: LogicalPort) -> set[Place]:
    return {(intent.domain_of(port), address) for address in port.addresses}


def _domains(intent: Intent, zones: Mapping[int, str]) -> dict[int, int]:
    """The routing domain that the addresses of each zone's connections are of."""
    found = {zone: intent.domain_of(port) for zone, name in zones.items() if (port := intent.ports.get(name))}
    return {**found, NODE_PORT: 0, HAIRPIN_ZONE: 0}


def _is_about(tracked: Tracked, places: Set[Place], domains: Mapping[int, int]) -> bool:
    """Whether an end of a connection is one of some addresses. In a zone whose port is gone they may be of any domain."""
    domain = domains.get(tracked.zone)
    if domain is None:
        return any(address in tracked.ends() for _, address in places)
    return any((domain, address) in places for address in tracked.ends())


def associations(flows: Iterable[InstalledFlow]) -> dict[Tracked, tuple[Rule, ...]]:
    """SCTP associations that a switch noted, each with its flows: both ways, the way it began first."""
    found: dict[Tracked, tuple[Rule, ...]] = {}
    back: dict[Tracked, Rule] = {}
    for flow in flows:
        if flow.priority not in (FORWARD, BACKWARD):
            continue
        terms = {name: value for name, value, _ in unpack_match(flow.match)}
        source, destination = _ends(terms)
        zone = terms[ZONE.register] >> ZONE.low
        there = Tracked(zone, "sctp", source, destination, terms["sctp_src"], terms["sctp_dst"], destination)
        rule = (flow.table, flow.priority, flow.match)
        if flow.priority == FORWARD:
            found[there] = (rule,)
        else:
            ports = (there.destination_port, there.source_port)
            back[Tracked(zone, "sctp", destination, source, *ports, source)] = rule
    for each, rule in back.items():
        found[each] = (*found.get(each, ()), rule)
    return found


def translations(flows: Iterable[InstalledFlow], gone: Set[Address]) -> tuple[Rule, ...]:
    """The flows of associations with virtual servers whose client, or member, is gone, as a switch noted them."""
    of_client: dict[tuple[int, Address, int], list[Rule]] = {}
    lost: set[tuple[int, Address, int]] = set()
    for flow in flows:
        terms = {name: value for name, value, _ in unpack_match(flow.match)}
        source, destination = _ends(terms)
        if flow.priority not in (FORWARD, BACKWARD):
            continue
        forward = flow.priority == FORWARD
        zone = terms[ZONE.register]
        client = (zone, source, terms["sctp_src"]) if forward else (zone, destination, terms["sctp_dst"])
        of_client.setdefault(client, []).append((flow.table, flow.priority, flow.match))
        if source in gone or (not forward and destination in gone):
            lost.add(client)
    return tuple(rule for client in lost for rule in of_client[client])


def _ends(terms: Mapping[str, int]) -> tuple[Address, Address]:
    family: Family = 4 if "ipv4_src" in terms else 6
    return Address(family, terms[f"ipv{family}_src"]), Address(family, terms[f"ipv{family}_dst"])


def _leaving(pods: Iterable[Address]) -> Iterator[Flush]:
    """Connections to the outside of pods, where they are translated. Echoes end there by themselves (:mod:`sdn.compile.nat`)."""
    for pod in sorted(pods):
        for protocol in ("tcp", "udp"):
            yield Flush(NODE_PORT, NUMBERS[protocol], source=pod)


def of_connection(tracked: Tracked) -> Flush:
    """One connection, in its zone."""
    ports = (tracked.source_port, tracked.destination_port)
    return Flush(tracked.zone, NUMBERS[tracked.protocol], tracked.source, tracked.destination, *ports)


def _to_member(protocol: int, address: Address, port: int, member: Member) -> Flush:
    """Connections to a virtual server's address and port that a member answers, in every zone."""
    return Flush(
        None,
        protocol,
        destination=address,
        destination_port=port,
        answers=member.address,
        answering_port=member.port,
    )

"""Connections that a switch tracks: reading its list, and judging each by what the policies say now. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from firewall.rules import ESTABLISHED, Direction, Established, Protocol
from firewall.verdict import Connection, Verdict, World, decide
from ipam.address import Address, parse_address
from sdn.compile.ruleset import Ruleset
from sdn.model import Intent, LogicalPort
from sdn.reference import reference, workload

NUMBERS: Final[dict[Protocol, int]] = {"tcp": 6, "udp": 17, "sctp": 132}
_LINE: Final = re.compile(
    r"^(?P<protocol>tcp|udp),orig=\(src=(?P<src>[^,]+),dst=(?P<dst>[^,]+),sport=(?P<sport>\d+),dport=(?P<dport>\d+)\)"
    r",reply=\(src=(?P<answers>[^,)]+)(?:,dst=[^,)]+,sport=(?P<port>\d+))?[^)]*\)(?P<rest>.*)$",
    re.MULTILINE,
)
_ZONE: Final = re.compile(r"zone=(\d+)")


class Tracked(NamedTuple):
    """A TCP, UDP or SCTP connection in a zone: its original direction, and who answers (a translation's target).

    ``answering_port`` is 0 where it is the port that was asked.
    """

    zone: int
    protocol: Protocol
    source: Address
    destination: Address
    source_port: int
    destination_port: int
    answers: Address
    answering_port: int = 0

    @property
    def target(self) -> tuple[Address, int]:
        """Address and port that packets are sent to in the end."""
        return self.answers, self.answering_port or self.destination_port

    def ends(self) -> tuple[Address, Address, Address]:
        """Every address that has a part in it."""
        return self.source, self.destination, self.answers

    def __str__(self) -> str:
        return f"{self.protocol} {self.source}:{self.source_port} -> {self.destination}:{self.destination_port}"


class Forbidden(NamedTuple):
    """A connection of a pod here that would not be let begin now, and what its policies want to become of it."""

    tracked: Tracked
    port: str
    verdict: Verdict
    fate: Established


def parse(text: str) -> Iterator[Tracked]:
    """The connections in what ``dpctl/dump-conntrack`` prints. ICMP has none: each of its requests is judged anew.

    A line that cannot be read is passed over: it must not keep the others from being judged.
    """
    for line in _LINE.finditer(text):
        zone = _ZONE.search(line["rest"])
        protocol = next(each for each in NUMBERS if each == line["protocol"])
        try:
            source, destination, answers = (parse_address(line[name]) for name in ("src", "dst", "answers"))
        except ValueError:
            continue
        ports = int(line["sport"]), int(line["dport"])
        port = int(line["port"] or 0)
        asked = port if port != ports[1] else 0
        yield Tracked(int(zone[1]) if zone else 0, protocol, source, destination, *ports, answers, asked)


def forbidden(
    connections: Iterable[Tracked], intent: Intent, rules: Ruleset, zones: Mapping[int, str]
) -> Iterator[Forbidden]:
    """Those of some connections that the policies forbid at the port whose zone they are in.

    Args:
        connections: of any zones.
        intent: as it is now.
        rules: the node's, from that intent.
        zones: names of the logical ports here, by zone.
    """
    owners: dict[tuple[int, Address], LogicalPort] = {}  # by routing domain and address
    worlds: dict[str, World] = {}
    for each in connections:
        port = intent.ports.get(zones.get(each.zone, ""))
        if port is None or not rules.about(port.identity):
            continue
        if port.name not in worlds:
            worlds[port.name] = _world(intent, rules, port)
        # Where nothing is tracked, as on most switches at most changes, nobody needs to know who has which address.
        owners = owners or {
            (intent.domain_of(port), address): port for port in intent.ports.values() for address in port.addresses
        }
        verdict = _judge(worlds[port.name], each, port, intent.domain_of(port), owners)
        if verdict is not None and not verdict.allowed:
            yield Forbidden(each, port.name, verdict, _fate(intent, rules, verdict))


def _world(intent: Intent, rules: Ruleset, port: LogicalPort) -> World:
    """The policies that are about a port, and nobody: a verdict at one end needs no more."""
    sections = [rules.sections[key] for key in {each.section for each in rules.about(port.identity)}]
    return reference(intent.replace(ports={}), sections, intent.domain_of(port))


def _judge(
    where: World,
    tracked: Tracked,
    port: LogicalPort,
    domain: int,
    owners: Mapping[tuple[int, Address], LogicalPort],
) -> Verdict | None:
    direction: Direction = "egress" if tracked.source in port.addresses else "ingress"
    target, target_port = tracked.target  # policies see the member of a virtual server
    other = target if direction == "egress" else tracked.source
    connection = Connection(tracked.source, target, tracked.protocol, target_port)
    peer = owners.get((domain, other))
    if peer is not None and peer.name == port.name:
        return None
    return decide(where, direction, workload(port), workload(peer) if peer else None, connection)


def _fate(intent: Intent, rules: Ruleset, verdict: Verdict) -> Established:
    """What the deciding policies ask for; the strictest where several isolate."""
    cluster = intent.firewall.established
    asked = [rules.sections[cause.source.key].established or cluster for cause in verdict.causes]
    return max(asked, key=ESTABLISHED.index) if asked else cluster

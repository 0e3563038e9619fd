"""What a probe is, and what an answer to it is. Pure."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from ipam.address import Address, Family

Protocol: TypeAlias = Literal["tcp", "udp", "sctp", "icmp", "neighbour"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("tcp", "udp", "sctp", "icmp", "neighbour")

EXTERNAL: Final = "external"
"""The source or destination that is the host beyond tier-0."""

Answer: TypeAlias = Literal["yes", "no", "refused", "unknown"]
"""yes: it arrives and is answered; refused: it arrives and is turned away; no: silence; unknown: cannot be told."""


class Probe(NamedTuple):
    """One question: may ``source`` reach ``destination`` so?

    ``neighbour`` asks for the destination's MAC address (ARP or neighbour solicitation); it has no port.
    """

    source: str  # "namespace/pod" or EXTERNAL
    destination: str
    family: Family
    protocol: Protocol
    port: int = 0

    def __str__(self) -> str:
        what = {"neighbour": "ARP" if self.family == 4 else "ND", "icmp": f"ICMPv{self.family}"}.get(self.protocol)
        return f"{self.source} -> {self.destination} {what or f'{self.protocol}/{self.port} IPv{self.family}'}"


class Endpoint(NamedTuple):
    """A place probes are sent from or to: a port with its switch, or the external host."""

    name: str
    addresses: tuple[Address, ...]
    netns: str  # name under /run/netns; empty: unknown, so nothing can be sent from it
    interface: str = "eth0"
    node: str = ""
    mac: int = 0
    vni: int = 0
    ofport: int = 0

    def address(self, family: Family) -> Address | None:
        """Its address of a family."""
        return next((each for each in self.addresses if each.family == family), None)


class Verdict(NamedTuple):
    """An answer and the reason for it, in words."""

    answer: Answer
    why: str = ""


class Result(NamedTuple):
    """A probe's three answers."""

    probe: Probe
    expected: Verdict
    traced: Verdict
    observed: Verdict

    @property
    def agrees(self) -> bool:
        """Whether nobody contradicts the intent; a trace that cannot tell contradicts nobody."""
        reached = {"yes": True, "refused": True, "no": False}
        told = [reached[v.answer] for v in (self.expected, self.traced, self.observed) if v.answer != "unknown"]
        exact = self.observed.answer == self.expected.answer
        return self.observed.answer != "unknown" and exact and len(set(told)) <= 1

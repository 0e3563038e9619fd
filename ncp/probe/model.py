"""What a probe is, and what an answer to it is. Pure."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from ipam.address import Address, Family

Protocol: TypeAlias = Literal["tcp", "udp", "sctp", "icmp", "neighbour"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("tcp", "udp", "sctp", "icmp", "neighbour")

EXTERNAL: Final = "external"
"""The source or destination that is the host beyond tier-0."""
NODE: Final = "node:"
"""What stands before a node's name where the source or destination is that node itself."""

Answer: TypeAlias = Literal["yes", "no", "refused", "rejected", "unknown"]
"""yes: it arrives and is answered; refused: it arrives, and nobody listens; rejected: a policy turns it away; no: silence;
unknown: cannot be told."""


class Probe(NamedTuple):
    """One question: may ``source`` reach ``destination`` so?

    ``neighbour`` asks for the destination's MAC address (ARP or neighbour solicitation); it has no port.
    """

    source: str  # "namespace/pod", EXTERNAL, or NODE and a node's name
    destination: str
    family: Family
    protocol: Protocol
    port: int = 0

    def __str__(self) -> str:
        what = {"neighbour": "ARP" if self.family == 4 else "ND", "icmp": f"ICMPv{self.family}"}.get(self.protocol)
        return f"{self.source} -> {self.destination} {what or f'{self.protocol}/{self.port} IPv{self.family}'}"


class Endpoint(NamedTuple):
    """A place probes are sent from or to: a port with its switch, or a host, whose kernel chooses the next hop."""

    name: str
    addresses: tuple[Address, ...]
    netns: str  # name under /run/netns, or a path; empty: unknown, so nothing can be sent from it
    interface: str = "eth0"  # empty: all of them
    node: str = ""  # where its packets enter a switch of ours; empty: nowhere
    mac: int = 0  # of the port they enter by
    vni: int = 0
    ofport: int = 0
    is_host: bool = False

    def address(self, family: Family) -> Address | None:
        """Its address of a family."""
        return next((each for each in self.addresses if each.family == family), None)

    def is_beside(self, other: Endpoint) -> bool:
        """Whether both are on one segment, so that packets go straight to the other's MAC address."""
        return self.vni == other.vni != 0


class Verdict(NamedTuple):
    """An answer and the reason for it, in words; ``causes`` are the policies that turn it away, each with its rule.

    ``stages`` is what each stage of the firewall that was asked said, in their order: ``egress: allow, …``.
    """

    answer: Answer
    why: str = ""
    causes: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()


class Result(NamedTuple):
    """A probe's three answers."""

    probe: Probe
    expected: Verdict
    traced: Verdict
    observed: Verdict

    @property
    def agrees(self) -> bool:
        """Whether nobody contradicts the intent, nor its reasons; a trace that cannot tell contradicts nobody."""
        wire, flows = self.observed.answer, self.traced.answer
        if wire != self.expected.answer and (self.expected.answer, wire) not in _ALIKE:
            return False
        if flows == "unknown":
            return True
        return _class(flows) == _class(self.expected.answer) and self.attributed

    @property
    def attributed(self) -> bool:
        """Whether the flows name the same policies as the intent for turning it away; True where they let it through."""
        if _class(self.expected.answer) == "arrives" or self.traced.answer == "unknown":
            return True
        return set(self.traced.causes) == set(self.expected.causes)


_ALIKE: Final = {("rejected", "refused")}
"""On the wire a TCP reset by a policy is that of a closed port."""


def is_host(name: str) -> bool:
    """Whether an endpoint of that name is a host, and no pod."""
    return name == EXTERNAL or name.startswith(NODE)


def arrives(answer: Answer) -> bool:
    """Whether it is the answer to a probe that nobody turns away."""
    return answer in ("yes", "refused")


def _class(answer: Answer) -> str:
    return "arrives" if arrives(answer) else answer

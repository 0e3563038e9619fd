"""One namespace's part of the books: its segments, who has which address, who waits for one."""

from __future__ import annotations

from dataclasses import dataclass, field

from ipam.address import Address, Interface
from ipam.chain import Chain, Grant
from ipam.ledger import Ledger
from ipam.pool import AddressRange, parse_ranges
from ncp.manager.records import IP_RANGE, NamespaceRecord, PodRecord, Port, Segment, parse_port, render_resting
from ncp.manager.supply import Failure


@dataclass(slots=True)
class Tenant:
    """What is decided for a namespace. Changed in place by :class:`ncp.manager.decide.Books` only."""

    record: NamespaceRecord
    segments: tuple[Segment, ...] = ()
    chain: Chain = field(default_factory=Chain)
    custom: bool = False  # the segments are those asked for by ncp/subnets
    errors: dict[str, Failure] = field(default_factory=dict)  # by annotation
    waiting: set[str] = field(default_factory=set)  # pods without an address
    ranges: dict[str, str] = field(default_factory=dict)  # ncp/ip_range by pod
    macs: set[tuple[int, int]] = field(default_factory=set)  # (VNI, MAC) in use
    resting: str | None = None  # text of ncp/resting

    @property
    def domain(self) -> int:
        """The routing domain it is in; 0: the cluster's own, or not decided yet."""
        return self.segments[0].domain if self.segments else 0

    def add(self, segment: Segment) -> None:
        """A further segment, its addresses all free."""
        self.segments = (*self.segments, segment)
        self.chain = self.chain.extend(tuple(Ledger.of(gateway.prefix) for gateway in segment.gateways))

    def note_rests(self) -> None:
        """Bring the text of ``ncp/resting`` up to what rests now."""
        self.resting = render_resting(
            {address: rest.until for ledger in self.chain.ledgers() for address, rest in ledger.rests().items()}
        )

    def set_range(self, pod: str, text: str | None) -> bool:
        """Keep a pod's fixed range for StatefulSets (None: the pod is gone); whether anything changed."""
        if self.ranges.get(pod) == text:
            return False
        if text is None:
            del self.ranges[pod]
        else:
            self.ranges[pod] = text
        self.keep_ranges()
        return True

    def keep_ranges(self) -> None:
        """Set aside the addresses of every range shown by a pod."""
        spans: list[AddressRange] = []
        for each in sorted(set(self.ranges.values())):
            try:
                spans += parse_ranges(each)
            except ValueError:
                continue  # the pod that shows it gets INVALID_IP_RANGE
        self.chain = self.chain.set_aside(spans)

    def adopt(self, record: PodRecord, text: str) -> Port:
        """Hold what a pod's ``ncp/port`` shows.

        Raises:
            ValueError: it is malformed, not of this namespace's segments, or in conflict; the message says how.
        """
        port, owner = parse_port(text), owner_of(record)
        at = next((i for i, segment in enumerate(self.segments) if segment.vni == port.vni), None)
        if at is None:
            raise ValueError(f"VNI {port.vni} is not of namespace {record.namespace}")
        link = self.chain.links[at]
        if [each.prefix for each in port.addresses] != [ledger.subnet for ledger in link]:
            subnets = ", ".join(str(ledger.subnet) for ledger in link)
            raise ValueError(f"segment {port.vni} needs one address in each of {subnets}")
        if port.gateways != tuple(ledger.gateway.address for ledger in link):
            raise ValueError(f"the gateways are not those of segment {port.vni}")
        if (port.vni, port.mac) in self.macs:
            raise ValueError(f"another port of segment {port.vni} has that MAC address")
        for ledger, each in zip(link, port.addresses, strict=True):
            rest = ledger.rest_of(each.address)
            if rest is not None and rest.owner != owner:
                raise ValueError(f"address {each.address} rests")
        self.chain = self.chain.claim(at, owner, (each.address for each in port.addresses))
        self.macs.add((port.vni, port.mac))
        return port

    def port(self, given: Grant) -> Port:
        """The port of a pod that was just given these addresses."""
        at, addresses = given
        segment, link = self.segments[at], self.chain.links[at]
        mac = _mac(addresses)
        while (segment.vni, mac) in self.macs:
            mac = mac & ~0xFFFFFFFF | (mac + 1) & 0xFFFFFFFF
        self.macs.add((segment.vni, mac))
        interfaces = tuple(
            Interface(each.family, each.value, ledger.subnet.length)
            for each, ledger in zip(addresses, link, strict=True)
        )
        return Port(segment.vni, mac, interfaces, tuple(gateway.address for gateway in segment.gateways))

    def release(self, owner: str, port: Port, until: float) -> None:
        """A pod's addresses rest."""
        self.chain = self.chain.release(owner, until)
        self.macs.discard((port.vni, port.mac))

    def give_fixed(self, record: PodRecord, now: float) -> Grant | Failure:
        """Addresses for a StatefulSet's pod from its ``ncp/ip_range``; families the range does not name: any."""
        text, owner = record.annotations[IP_RANGE], owner_of(record)
        self.chain = self.chain.expire(now)
        try:
            spans = parse_ranges(text)
        except ValueError as error:
            return Failure("INVALID_IP_RANGE", f"annotation {IP_RANGE}: {error}")
        at = next((i for i, link in enumerate(self.chain.links) if _inside(spans, link)), None)
        if at is None:
            subnets = ", ".join(str(ledger.subnet) for ledger in self.chain.ledgers())
            what = f"annotation {IP_RANGE}: {text!r} is not within pod addresses of one segment ({subnets})"
            return Failure("INVALID_IP_RANGE", what)
        given: list[Address] = []
        for ledger in self.chain.links[at]:
            own = [span for span in spans if span.family == ledger.subnet.family]
            address = _fixed(ledger, own, owner, record.ordinal or 0) if own else ledger.allocate(owner, now)[0]
            if address is None:
                what = f"no address of {text!r} is free" if own else f"subnet {ledger.subnet} is full"
                return Failure("IP_RANGE_EXHAUSTED", f"annotation {IP_RANGE}: {what}")
            given.append(address)
        self.chain = self.chain.claim(at, owner, given)
        return Grant(at, tuple(given))


def owner_of(record: PodRecord) -> str:
    """How the ledgers name a pod: by its name, so that a pod of a StatefulSet is known again."""
    return f"{record.namespace}/{record.name}"


def _inside(spans: tuple[AddressRange, ...], link: tuple[Ledger, ...]) -> bool:
    return all(
        any(
            ledger.is_usable(Address(span.family, span.first)) and ledger.is_usable(Address(span.family, span.last))
            for ledger in link
        )
        for span in spans
    )


def _fixed(ledger: Ledger, spans: list[AddressRange], owner: str, ordinal: int) -> Address | None:
    """The address that a pod had, else the one its ordinal counts to, else the lowest free one of the range.

    The first two may rest: it is this pod's own rest that ends early, nobody else's.
    """
    for address, rest in ledger.rests().items():
        if rest.owner == owner and any(span.covers(address) for span in spans):
            return address
    count = ordinal
    for span in spans:
        if count < span.size:
            counted = Address(span.family, span.first + count)
            rest_there = ledger.rest_of(counted)
            if ledger.holder(counted) is None and (rest_there is None or not rest_there.owner):
                return counted
            break
        count -= span.size
    return next((free for span in spans if (free := ledger.lowest_free(span)) is not None), None)


def _mac(addresses: tuple[Address, ...]) -> int:
    """02:4e and the IPv4 address; without one, 02:4f and the low four bytes of the IPv6 address."""
    first = addresses[0]
    return (0x024E if first.family == 4 else 0x024F) << 32 | first.value & 0xFFFFFFFF

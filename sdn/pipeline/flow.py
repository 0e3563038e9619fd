"""Flows and actions as values. Numbers inside; names and text are the business of ``render``.

A match is a tuple of ``(field, value, mask)``; ``mask`` is None for an exact match. Field names are Open vSwitch's
OpenFlow 1.5 names as os-ken spells them (``in_port``, ``eth_src``, ``ipv4_dst``, ``reg3``, ``tunnel_id``,
``nd_target``…). Several terms may name bits of one field if their masks do not overlap.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from sdn.model import Origin

Term: TypeAlias = tuple[str, int, int | None]
Match: TypeAlias = tuple[Term, ...]

IN_PORT = 0xFFFFFFF8
LOCAL = 0xFFFFFFFE


class SetField(NamedTuple):
    """Write ``value`` into a field (only the bits of ``mask`` where given)."""

    field: str
    value: int
    mask: int | None = None


class CopyField(NamedTuple):
    """Copy ``bits`` bits from one field to another, at the given bit offsets."""

    source: str
    target: str
    bits: int
    source_offset: int = 0
    target_offset: int = 0


class Output(NamedTuple):
    """Send the packet out of a port (``IN_PORT`` for back where it came from)."""

    port: int


class OutputField(NamedTuple):
    """Send the packet out of the port whose number is in the bits of a register."""

    field: str
    offset: int
    bits: int


class DecTtl(NamedTuple):
    """Lower IPv4 TTL or IPv6 hop limit by one."""


class Controller(NamedTuple):
    """Pause here and hand the packet to the controller with ``userdata`` (NXAST_CONTROLLER2)."""

    userdata: bytes
    max_len: int = 65535


class CheckPacketLarger(NamedTuple):
    """Set one bit of a register to whether the frame is longer than ``size`` bytes, Ethernet header included."""

    size: int
    field: str
    offset: int


class Resubmit(NamedTuple):
    """Look the packet up in a later table and come back."""

    table: int


class Goto(NamedTuple):
    """Continue in a later table. Only as the last action."""

    table: int


class FieldBits(NamedTuple):
    """``bits`` bits of a field, from bit ``offset`` (0 is the lowest)."""

    field: str
    offset: int
    bits: int


class Nat(NamedTuple):
    """Translate one side (source or destination) of a connection while it is committed.

    Addresses are numbers of ``version`` 4 or 6; an upper end of 0 means the range is one value, and a first value of
    0 that this part is not translated. It must never be an identity: Open vSwitch 3.1 aborts on those.
    """

    source: bool
    version: int = 4
    address: int = 0
    address_to: int = 0
    port: int = 0
    port_to: int = 0


class Ct(NamedTuple):
    """Send the packet through connection tracking, and go on in ``table`` with what it found (None: go on here).

    ``actions`` may set ``ct_mark`` and ``ct_label`` of a committed connection; ``force`` replaces a connection
    that runs in the other direction. ``translate`` True applies a committed translation without adding one.
    """

    zone: int | FieldBits = 0
    table: int | None = None
    commit: bool = False
    nat: Nat | None = None
    actions: tuple[SetField | CopyField, ...] = ()
    force: bool = False
    translate: bool = False


class CtClear(NamedTuple):
    """Forget what connection tracking found about the packet."""


class Conjunction(NamedTuple):
    """This flow satisfies dimension ``clause`` (from 0) of ``clauses`` of a conjunction. No other actions beside."""

    id: int
    clause: int
    clauses: int


class Group(NamedTuple):
    """Let a group's buckets act on the packet."""

    id: int


class Meter(NamedTuple):
    """Drop the packet when it exceeds the meter's rate."""

    id: int


class LearnField(NamedTuple):
    """A learned flow's match or (``load``) action: ``bits`` of ``target`` get a number or a field's bits."""

    target: str
    bits: int
    value: int | None = None
    source: str = ""
    source_offset: int = 0
    target_offset: int = 0
    load: bool = False


class Learn(NamedTuple):
    """Install a flow from this packet; timeouts in seconds, 0 for none.

    ``delete_learned`` takes the learned flows away with the flow that learns.
    """

    table: int
    priority: int
    cookie: int
    fields: tuple[LearnField, ...]
    idle_timeout: int = 0
    hard_timeout: int = 0
    delete_learned: bool = True


Action: TypeAlias = (
    SetField
    | CopyField
    | Output
    | OutputField
    | DecTtl
    | Controller
    | CheckPacketLarger
    | Resubmit
    | Goto
    | Ct
    | CtClear
    | Conjunction
    | Group
    | Meter
    | Learn
)


class Bucket(NamedTuple):
    """One choice of a group; ``id`` is the bucket's own number within the group."""

    id: int
    actions: tuple[Action, ...]
    weight: int = 100


class GroupEntry(NamedTuple):
    """A group of the switch, as :class:`Group` actions name it by ``id``.

    ``kind`` is ``select`` (one bucket each), ``all`` (every bucket) or ``indirect`` (the only bucket). A select group
    chooses by ``selection``: ``dp_hash`` (fast, five-tuple) or ``hash`` over ``hash_fields``. A ``hash`` begins with
    ``param``: groups of different ones choose independently of each other. For ``dp_hash`` it names the algorithm.
    """

    id: int
    kind: str
    buckets: tuple[Bucket, ...]
    selection: str = "dp_hash"
    hash_fields: tuple[str, ...] = ()
    param: int = 0


class MeterEntry(NamedTuple):
    """A meter of the switch: what exceeds ``rate`` (kilobits, or packets, per second) plus ``burst`` is dropped."""

    id: int
    rate: int
    burst: int = 0
    packets: bool = False


class Flow(NamedTuple):
    """One OpenFlow rule and who asked for it. No actions means drop."""

    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...]
    origin: Origin

    @property
    def key(self) -> tuple[int, int, Match]:
        """What makes it the same rule for a switch; two flows of a program never share it."""
        return self.table, self.priority, tuple(sorted(self.match, key=lambda term: term[0]))

"""Flows and actions as values. Numbers inside; names and text are the business of ``render``.

A match is a tuple of ``(field, value, mask)``; ``mask`` is None for an exact match. Field names are Open vSwitch's
OpenFlow 1.5 names as os-ken spells them (``in_port``, ``eth_src``, ``ipv4_dst``, ``reg3``, ``tunnel_id``, ``nd_target``…).
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


Action: TypeAlias = (
    SetField | CopyField | Output | OutputField | DecTtl | Controller | CheckPacketLarger | Resubmit | Goto
)


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

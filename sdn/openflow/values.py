"""What the OpenFlow transport hands out: packets, installed flows, and the ways a change can fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class PacketIn(NamedTuple):
    """A packet a flow handed to the controller.

    ``metadata`` holds the pipeline's fields that were not zero by name: ``in_port``, ``tunnel_id``, ``metadata``,
    registers as ``reg0`` to ``reg15``. ``total_len`` is the packet's length, should the switch have sent less of it.
    """

    table: int
    cookie: int
    userdata: bytes
    data: bytes
    total_len: int
    metadata: Mapping[str, int]


class InstalledFlow(NamedTuple):
    """A flow as the switch holds it; ``match`` and ``instructions`` are canonical wire bytes."""

    table: int
    priority: int
    match: bytes
    cookie: int
    packets: int
    octets: int
    instructions: bytes


class InstalledGroup(NamedTuple):
    """A group as the switch holds it; ``buckets`` and ``properties`` are wire bytes."""

    id: int
    kind: int
    buckets: bytes
    properties: bytes


class TableUse(NamedTuple):
    """How a table is doing: flows in it, packets looked up, packets that matched a flow."""

    table: int
    flows: int
    lookups: int
    matched: int


class ChangeSet(Protocol):
    """What :meth:`Switch.apply` takes.

    ``add`` holds (Flow, cookie) pairs or Encoded flows, ``delete`` (table, priority, canonical match bytes). An
    optional attribute ``groups`` holds group changes of :mod:`sdn.openflow.message`. Each is read once while it is sent:
    an iterator that encodes as it goes works while the switch does.
    """

    @property
    def add(self) -> Iterable[Any]:
        """Flows to be there; an installed flow of the same key is replaced and keeps its counters."""

    @property
    def delete(self) -> Iterable[Any]:
        """Keys of flows to be gone; one that is not there is no error."""


class SwitchDescription(NamedTuple):
    """Who answers at the other end of a session."""

    datapath_id: int
    software: str  # for example "3.1.0"
    hardware: str  # "Open vSwitch"


class Refusal(NamedTuple):
    """One refused member of a change set: the flow, delete key or group change, and the switch's reason in words."""

    subject: object
    reason: str


class SwitchGone(Exception):
    """There is no session with the switch, or it ended before the answer came."""


class SwitchTimeout(Exception):
    """The switch did not answer in time; the session was closed, what it holds must be read again."""


class BundleRefused(Exception):
    """A change set was refused as a whole: nothing of it was applied. ``errors`` names each refused member."""

    def __init__(self, errors: Sequence[Refusal]) -> None:
        self.errors = tuple(errors)
        shown = "; ".join(f"{one.subject}: {one.reason}" for one in self.errors[:3])
        more = f"; and {len(self.errors) - 3} more" if len(self.errors) > 3 else ""
        super().__init__(f"the switch refused a change set, nothing was applied: {shown}{more}")

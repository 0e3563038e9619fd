"""The other OpenFlow 1.5 messages we write ourselves: bundles, groups, meters, packets out."""

from __future__ import annotations

from struct import Struct, pack
from typing import NamedTuple, TypeAlias

from sdn.openflow.action import pack_actions
from sdn.openflow.fields import field
from sdn.openflow.match import pack_match
from sdn.openflow.pack import ADD, ANY, FLOW_MOD, FLOW_MOD_HEADER, NO_BUFFER, OPENFLOW_15, Encoded
from sdn.pipeline.flow import Action, Bucket, GroupEntry, MeterEntry

HEADER = Struct("!BBHI")
BARRIER_REQUEST = 20
CONTROLLER_METER = 0xFFFFFFFE
OPEN, CLOSE, COMMIT, DISCARD = 0, 2, 4, 6
ATOMIC_ORDERED = 3
KINDS = {"all": 0, "select": 1, "indirect": 2}
NETRONOME, SELECTION_METHOD = 0x154D, 1

_NICIRA = 0x2320
_PACKET_OUT, _GROUP_MOD, _METER_MOD, _BUNDLE_CONTROL, _BUNDLE_ADD = 13, 15, 29, 33, 34
_NO_BUFFER = 0xFFFFFFFF
_ADD_GROUP, _MODIFY_GROUP, _DELETE_GROUP, _INSERT_BUCKET, _REMOVE_BUCKET = 0, 1, 2, 3, 5
_SET_GROUP = 0x8000  # Open vSwitch: add, or modify where it exists
_LAST_BUCKET = 0xFFFFFFFE
_ALL_BUCKETS = 0xFFFFFFFF
_ANY = 0xFFFFFFFF
_WRAP = Struct("!BBHIIHH").pack
_FLOW_IN_BUNDLE = Struct("!BBHIIHH" + FLOW_MOD_HEADER.format.removeprefix("!")).pack


def pack_bundle_control(bundle: int, what: int, xid: int) -> bytes:
    """Open, commit or discard a bundle; members apply all or none, in their order."""
    return pack("!BBHIIHH", OPENFLOW_15, _BUNDLE_CONTROL, 16, xid, bundle, what, ATOMIC_ORDERED)


def pack_bundle_add(bundle: int, message: bytes, xid: int) -> bytes:
    """Put a message, which must carry the same xid, into an open bundle."""
    return _WRAP(OPENFLOW_15, _BUNDLE_ADD, 16 + len(message), xid, bundle, 0, ATOMIC_ORDERED) + message


def pack_bundle_flow(bundle: int, encoded: Encoded, xid: int) -> bytes:
    """Put the adding of a flow into an open bundle: both messages in one go, for there are many of these."""
    flow, _, cookie, body = encoded
    length = 48 + len(body)
    # fmt: off
    return _FLOW_IN_BUNDLE(
        OPENFLOW_15, _BUNDLE_ADD, 16 + length, xid, bundle, 0, ATOMIC_ORDERED,
        OPENFLOW_15, FLOW_MOD, length, xid, cookie, 0, flow.table, ADD, 0, 0, flow.priority, NO_BUFFER, ANY, ANY, 0, 0,
    ) + body
    # fmt: on


def pack_barrier(xid: int) -> bytes:
    """Ask for an answer after everything before has been done."""
    return HEADER.pack(OPENFLOW_15, BARRIER_REQUEST, 8, xid)


def pack_packet_out(packet: bytes, actions: tuple[Action, ...], in_port: int, xid: int) -> bytes:
    """Let the switch act on a packet of ours as if it had come in on ``in_port``."""
    packed, match = pack_actions(actions), pack_match((("in_port", in_port, None),))
    where = pack("!HH", 1, 4 + len(match)) + match + bytes(-(4 + len(match)) % 8)
    length = 16 + len(where) + len(packed) + len(packet)
    head = pack("!BBHIIH2x", OPENFLOW_15, _PACKET_OUT, length, xid, _NO_BUFFER, len(packed))
    return head + where + packed + packet


class SetGroup(NamedTuple):
    """Make a group be so, whether or not the switch has it."""

    group: GroupEntry


class DeleteGroup(NamedTuple):
    """Take a group away; flows that name it go with it."""

    id: int


class InsertBuckets(NamedTuple):
    """Add buckets at the end of a group without touching the others."""

    id: int
    kind: str
    buckets: tuple[Bucket, ...]


class RemoveBucket(NamedTuple):
    """Take one bucket out of a group."""

    id: int
    kind: str
    bucket: int


GroupChange: TypeAlias = SetGroup | DeleteGroup | InsertBuckets | RemoveBucket


def pack_group_change(change: GroupChange, xid: int = 0) -> bytes:
    """A group-mod message; raises ValueError, naming the group, for what cannot be written."""
    if isinstance(change, SetGroup):
        group = change.group
        properties = _selection(group) if group.kind == "select" else b""
        return _group_mod(xid, _SET_GROUP, group.kind, group.id, _ALL_BUCKETS, group.buckets, properties)
    if isinstance(change, InsertBuckets):
        return _group_mod(xid, _INSERT_BUCKET, change.kind, change.id, _LAST_BUCKET, change.buckets)
    if isinstance(change, RemoveBucket):
        return _group_mod(xid, _REMOVE_BUCKET, change.kind, change.id, change.bucket)
    return _group_mod(xid, _DELETE_GROUP, "all", change.id, _ALL_BUCKETS)


def _group_mod(
    xid: int,
    command: int,
    kind: str,
    group: int,
    bucket: int,
    buckets: tuple[Bucket, ...] = (),
    properties: bytes = b"",
) -> bytes:
    try:
        number = KINDS[kind]
        packed = b"".join([_bucket(one, number) for one in buckets])
    except (ValueError, KeyError) as error:
        raise ValueError(f"group {group} ({kind}): {error}") from error
    length = 24 + len(packed) + len(properties)
    head = pack("!BBHIHBxIH2xI", OPENFLOW_15, _GROUP_MOD, length, xid, command, number, group, len(packed), bucket)
    return head + packed + properties


def _bucket(bucket: Bucket, kind: int) -> bytes:
    actions = pack_actions(bucket.actions)
    properties = pack("!HHH2x", 0, 8, bucket.weight) if kind == KINDS["select"] else b""
    return pack("!HHI", 8 + len(actions) + len(properties), len(actions), bucket.id) + actions + properties


def _selection(group: GroupEntry) -> bytes:
    """Netronome's group property: how a select group chooses, and by which fields."""
    if group.selection not in ("dp_hash", "hash"):
        raise ValueError(f"group {group.id}: selection is {group.selection!r}; allowed: dp_hash, hash")
    chosen = b""
    for name in group.hash_fields:
        known = field(name)
        # A field stands here with an all-ones value: it says which bits take part.
        chosen += pack("!I", known.header) + known.ones.to_bytes(known.size, "big")
    body = pack("!II4x16sQ", NETRONOME, SELECTION_METHOD, group.selection.encode(), group.param) + chosen
    return pack("!HH", 0xFFFF, 4 + len(body)) + body + bytes(-(4 + len(body)) % 8)


def pack_meter(meter: MeterEntry, command: int = 0, xid: int = 0) -> bytes:
    """A meter-mod message: command 0 adds, 1 modifies, 2 deletes."""
    flags = (2 if meter.packets else 1) | (4 if meter.burst else 0)
    bands = b"" if command == 2 else pack("!HHII4x", 1, 16, meter.rate, meter.burst)
    length = 16 + len(bands)
    return pack("!BBHIHHI", OPENFLOW_15, _METER_MOD, length, xid, command, flags, meter.id) + bands


def pack_packet_in_format(xid: int) -> bytes:
    """Ask for packets in Nicira's second format, the only one that carries userdata."""
    return pack("!BBHIIII", OPENFLOW_15, 4, 20, xid, _NICIRA, 16, 2)

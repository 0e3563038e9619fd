"""What a group says, in one form for those we want and those a switch reports: two that mean the same are equal.

The sequence of buckets is nothing: a switch appends those that come later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct, error
from typing import NamedTuple

from sdn.openflow.action import pack_actions
from sdn.openflow.fields import field
from sdn.openflow.match import tlvs
from sdn.openflow.message import KINDS, NETRONOME, SELECTION_METHOD
from sdn.openflow.values import InstalledGroup
from sdn.pipeline.flow import GroupEntry

_BUCKET = Struct("!HHI").unpack_from  # length, length of actions, bucket
_PROPERTY = Struct("!HH").unpack_from
_WEIGHT = Struct("!H").unpack_from
_SELECTION = Struct("!4xII4x16sQ")
_EXPERIMENTER = 0xFFFF
_SELECT = KINDS["select"]


class BucketContent(NamedTuple):
    """One choice; ``weight`` counts in select groups only, and ``other`` has properties that none of ours has (watched ports)."""

    weight: int
    actions: bytes
    other: bytes = b""


class GroupContent(NamedTuple):
    """A group but for its number. ``fields`` are those hashed, as headers with the bytes that say which bits; ``other`` as above."""

    kind: int
    selection: str
    param: int
    fields: frozenset[tuple[int, bytes]]
    buckets: Mapping[int, BucketContent]
    other: bytes = b""


def wanted_content(group: GroupEntry) -> GroupContent:
    """What a switch reports of a group once it has it; raises ValueError for what cannot be written."""
    kind = KINDS[group.kind]
    select = kind == _SELECT
    buckets = {
        each.id: BucketContent(each.weight if select else 0, pack_actions(each.actions)) for each in group.buckets
    }
    if not select:
        return GroupContent(kind, "", 0, frozenset(), buckets)
    known = map(field, group.hash_fields)
    fields = frozenset((each.header, each.ones.to_bytes(each.size, "big")) for each in known)
    return GroupContent(kind, group.selection, group.param, fields, buckets)


def installed_content(group: InstalledGroup) -> GroupContent:
    """What a switch holds; what we do not know of it is kept, so that it is like nothing we want."""
    selection, param, fields, other = "", 0, frozenset[tuple[int, bytes]](), b""
    for kind, packed in _properties(group.properties):
        try:
            experimenter, of, method, number = _SELECTION.unpack_from(packed)
            if (kind, experimenter, of) != (_EXPERIMENTER, NETRONOME, SELECTION_METHOD):
                raise ValueError
            chosen = frozenset(tlvs(packed[_SELECTION.size :]))
        except (ValueError, error):
            other += packed
        else:
            selection, param, fields = method.rstrip(b"\0").decode(errors="replace"), number, chosen
    buckets = dict(_buckets(group.buckets, group.kind == _SELECT))
    return GroupContent(group.kind, selection, param, fields, buckets, other)


def _buckets(packed: bytes, select: bool) -> Iterator[tuple[int, BucketContent]]:
    position = 0
    while position < len(packed):
        length, size, number = _BUCKET(packed, position)
        actions, end = position + 8 + size, position + length
        weight, other = 0, b""
        for kind, found in _properties(packed[actions:end]):
            if kind == 0 and len(found) >= 6:
                weight = _WEIGHT(found, 4)[0] if select else 0
            else:
                other += found
        yield number, BucketContent(weight, packed[position + 8 : actions], other)
        position = end


def _properties(packed: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and bytes, header included, of each property; each starts at a multiple of eight bytes."""
    position = 0
    while len(packed) - position >= 4:
        kind, length = _PROPERTY(packed, position)
        length = max(length, 4)
        yield kind, packed[position : position + length]
        position += (length + 7) // 8 * 8

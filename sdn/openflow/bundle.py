"""Applying a change set as one atomic, ordered bundle.

The switch checks a message's form when it is put into the bundle and drops what it cannot read, and would then commit
the rest: so we wait for a barrier behind the last member, and commit only if nothing was refused. What only
shows when it is applied (a full table, a missing group) fails the commit, and the switch rolls everything back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sdn.openflow.link import Link, Refused
from sdn.openflow.message import (
    COMMIT,
    DISCARD,
    OPEN,
    DeleteGroup,
    GroupChange,
    InsertBuckets,
    RemoveBucket,
    SetGroup,
    pack_barrier,
    pack_bundle_add,
    pack_bundle_control,
    pack_group_change,
)
from sdn.openflow.pack import ADD, Encoded, encode, flow_mod, pack_delete
from sdn.openflow.values import BundleRefused, ChangeSet, Refusal
from sdn.pipeline.flow import Flow

_CHUNK = 1 << 16


def apply_bundle(link: Link, changes: ChangeSet, deadline: float) -> None:
    """Apply all of it or nothing, until a time of the monotonic clock.

    The commit's answer comes after everything was applied. Raises BundleRefused, SwitchGone, SwitchTimeout.
    """
    subjects = _subjects(changes)
    if not subjects:
        return
    first = link.xids(len(subjects) + 4)
    opening, barrier, commit, discard = range(first + len(subjects), first + len(subjects) + 4)
    bundle = opening
    with link.refusals() as refusals:
        added = link.expect(barrier)
        link.send(pack_bundle_control(bundle, OPEN, opening))
        try:
            _send_chunks(link, _members(subjects, bundle, first))
        except (BundleRefused, TypeError):
            link.send(pack_bundle_control(bundle, DISCARD, discard))
            raise
        link.send(pack_barrier(barrier))
        link.wait(added, deadline)
        if refusals:
            link.send(pack_bundle_control(bundle, DISCARD, discard))
            raise BundleRefused(_errors(refusals, subjects, first))
        committed = link.expect(commit)
        link.send(pack_bundle_control(bundle, COMMIT, commit))
        try:
            link.wait(committed, deadline)
        except Refused:
            raise BundleRefused(_errors(refusals, subjects, first)) from None


def _subjects(changes: ChangeSet) -> list[object]:
    """Members in the sequence in which each finds what it needs: groups before flows that use them, and after."""
    groups: list[GroupChange] = list(getattr(changes, "groups", ()))
    return [
        *(one for one in groups if not isinstance(one, DeleteGroup)),
        *changes.delete,
        *changes.add,
        *(one for one in groups if isinstance(one, DeleteGroup)),
    ]


def _members(subjects: list[object], bundle: int, first: int) -> Iterator[bytes]:
    for xid, subject in enumerate(subjects, first):
        try:
            message = _message(subject, xid)
        except ValueError as error:
            raise BundleRefused([Refusal(_shown(subject), str(error))]) from error
        yield pack_bundle_add(bundle, message, xid)


def _message(subject: object, xid: int) -> bytes:
    match subject:
        case Encoded():
            return flow_mod(subject, ADD, xid)
        case (Flow() as flow, int(cookie)):
            return flow_mod(encode(flow, 0, cookie), ADD, xid)
        case (int(table), int(priority), bytes(packed)):
            return pack_delete(table, priority, packed, xid)
        case SetGroup() | DeleteGroup() | InsertBuckets() | RemoveBucket():
            return pack_group_change(subject, xid)
        case _:
            raise TypeError(f"a change set cannot hold {subject!r}")


def _send_chunks(link: Link, messages: Iterable[bytes]) -> None:
    """Send in pieces: large enough to be few, small enough that packing and sending overlap."""
    pieces: list[bytes] = []
    size = 0
    for message in messages:
        pieces.append(message)
        size += len(message)
        if size >= _CHUNK:
            link.send(b"".join(pieces))
            pieces, size = [], 0
    if pieces:
        link.send(b"".join(pieces))


def _errors(refusals: dict[int, str], subjects: list[object], first: int) -> list[Refusal]:
    """The refused members; if none can be named, whatever else was refused (the commit itself)."""
    end = first + len(subjects)
    named = [Refusal(_shown(subjects[xid - first]), reason) for xid, reason in refusals.items() if first <= xid < end]
    return named or [Refusal("bundle", reason) for reason in refusals.values()]


def _shown(subject: object) -> object:
    match subject:
        case Encoded():
            return subject.flow
        case (flow, int()):
            return flow
        case _:
            return subject

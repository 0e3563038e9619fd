"""Applying a change set as one atomic, ordered bundle.

The switch checks a message's form when it is put into the bundle and drops what it cannot read, and would then commit
the rest: so we wait for a barrier behind the last member, and commit only if nothing was refused. What only
shows when it is applied (a full table, a missing group) fails the commit, and the switch rolls everything back.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

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
    pack_bundle_flow,
    pack_group_change,
)
from sdn.openflow.pack import ADD, Encoded, encode, flow_mod, pack_delete
from sdn.openflow.values import BundleRefused, ChangeSet, Refusal, SwitchGone
from sdn.pipeline.flow import Flow

_BATCH = 512  # members a send: large enough to be few, small enough that packing and the switch's work overlap


def apply_bundle(link: Link, changes: ChangeSet, deadline: float) -> None:
    """Apply all of it or nothing, until a time of the monotonic clock.

    The commit's answer comes after everything was applied. Raises BundleRefused, SwitchGone, SwitchTimeout, and
    whatever the change set's own iterators raise.
    """
    batches = _batches(_subjects(changes))
    if not (batch := next(batches, [])):
        return
    opening, barrier, commit, discard = range(first := link.xids(4), first + 4)
    bundle = opening
    members: dict[int, object] = {}  # by xid
    with link.refusals() as refusals:
        link.send(pack_bundle_control(bundle, OPEN, opening))
        try:
            while batch:
                _send(link, batch, bundle, members)
                batch = next(batches, [])
        except SwitchGone:
            raise
        except Exception:
            link.send(pack_bundle_control(bundle, DISCARD, discard))
            raise
        added = link.expect(barrier)
        link.send(pack_barrier(barrier))
        link.wait(added, deadline)
        if refusals:
            link.send(pack_bundle_control(bundle, DISCARD, discard))
            raise BundleRefused(_errors(refusals, members))
        committed = link.expect(commit)
        link.send(pack_bundle_control(bundle, COMMIT, commit))
        try:
            link.wait(committed, deadline)
        except Refused:
            raise BundleRefused(_errors(refusals, members)) from None


def _subjects(changes: ChangeSet) -> Iterator[object]:
    """Members in the sequence in which each finds what it needs: groups before flows that use them, and after."""
    groups: list[GroupChange] = list(getattr(changes, "groups", ()))
    return chain(
        (one for one in groups if not isinstance(one, DeleteGroup)),
        changes.delete,
        changes.add,
        (one for one in groups if isinstance(one, DeleteGroup)),
    )


def _batches(subjects: Iterator[object]) -> Iterator[list[object]]:
    while batch := list(islice(subjects, _BATCH)):
        yield batch


def _send(link: Link, batch: list[object], bundle: int, members: dict[int, object]) -> None:
    """Send some members, and note under which xid each went."""
    first = link.xids(len(batch))
    link.send(b"".join([_member(subject, bundle, xid) for xid, subject in enumerate(batch, first)]))
    members.update(enumerate(batch, first))


def _member(subject: object, bundle: int, xid: int) -> bytes:
    if type(subject) is Encoded:
        return pack_bundle_flow(bundle, subject, xid)
    try:
        return pack_bundle_add(bundle, _message(subject, xid), xid)
    except ValueError as error:
        raise BundleRefused([Refusal(_shown(subject), str(error))]) from error


def _message(subject: object, xid: int) -> bytes:
    match subject:
        case (Flow() as flow, int(cookie)):
            return flow_mod(encode(flow, 0, cookie), ADD, xid)
        case (int(table), int(priority), bytes(packed)):
            return pack_delete(table, priority, packed, xid)
        case SetGroup() | DeleteGroup() | InsertBuckets() | RemoveBucket():
            return pack_group_change(subject, xid)
        case _:
            raise TypeError(f"a change set cannot hold {subject!r}")


def _errors(refusals: dict[int, str], members: dict[int, object]) -> list[Refusal]:
    """The refused members; if none can be named, whatever else was refused (the commit itself)."""
    named = [Refusal(_shown(members[xid]), reason) for xid, reason in refusals.items() if xid in members]
    return named or [Refusal("bundle", reason) for reason in refusals.values()]


def _shown(subject: object) -> object:
    match subject:
        case Encoded():
            return subject.flow
        case (flow, int()):
            return flow
        case _:
            return subject

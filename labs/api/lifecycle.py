"""How writes and deletions are meant, and the pure rules of an object's end."""

from __future__ import annotations

from typing import Any, NamedTuple

from labs.api import apply
from labs.api.store import Entry

Obj = dict[str, Any]


class Write(NamedTuple):
    """How a write is meant: who makes it, whether only as a trial, and what to do about unknown fields."""

    manager: str = ""
    explicit_manager: bool = False
    dry_run: bool = False
    validation: str = "Warn"
    force: bool = False


class Written(NamedTuple):
    """The outcome of a write: the object, whether it was created by it, and warnings for the author."""

    entry: Entry
    created: bool = False
    warnings: tuple[str, ...] = ()


class Deletion(NamedTuple):
    """How a deletion is meant (DeleteOptions)."""

    grace: int | None = None
    propagation: str = ""
    uid: str = ""
    rv: str = ""
    dry_run: bool = False


def finished(obj: Obj) -> bool:
    """Whether nothing holds a deleted object any more: no finalizer, no time to end, no content."""
    meta = obj["metadata"]
    if meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
        return False
    return obj["kind"] != "Namespace" or not obj.get("spec", {}).get("finalizers")


def with_propagation(finalizers: list[str], propagation: str) -> list[str]:
    """The finalizers that make the end wait for what the propagation policy asks."""
    kept = [f for f in finalizers if propagation == "" or f not in ("orphan", "foregroundDeletion")]
    if propagation == "Foreground":
        kept.append("foregroundDeletion")
    elif propagation == "Orphan":
        kept.append("orphan")
    return kept


def grace_of(obj: Obj, asked: int | None) -> int:
    """Seconds a pod has to end; nothing else is deleted gracefully."""
    if obj["kind"] != "Pod":
        return 0
    if not obj["spec"].get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    grace = obj["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked
    return 1 if grace < 0 else grace


def same(obj: Obj, before: Obj) -> bool:
    """Whether nothing changed but the times in managedFields."""
    if {k: v for k, v in obj.items() if k != "metadata"} != {k: v for k, v in before.items() if k != "metadata"}:
        return False
    one, other = obj["metadata"], before["metadata"]
    if {k: v for k, v in one.items() if k != "managedFields"} != {
        k: v for k, v in other.items() if k != "managedFields"
    }:
        return False
    return apply.without_times(one.get("managedFields")) == apply.without_times(other.get("managedFields"))

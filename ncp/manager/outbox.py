"""What goes out: the difference between what an object shows and what it should show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

Key = tuple[str, str]  # (namespace, name); the namespace of a Namespace is ""
Ref = tuple[str, Key]  # (kind, key)

POD: Final = "Pod"
NAMESPACE: Final = "Namespace"


class Note(NamedTuple):
    """An Event of type Warning to be recorded on the object."""

    reason: str
    message: str


class Occurrence(NamedTuple):
    """An Event of either type, for people."""

    is_warning: bool
    reason: str
    message: str


class Decision(NamedTuple):
    """Annotations to be set (None: removed) on one very object, known by its uid, and events to be recorded on it.

    ``after``: a namespace whose own decision must be written first, or empty.
    """

    kind: str
    key: Key
    uid: str
    annotations: dict[str, str | None]
    notes: tuple[Note, ...] = ()
    after: str = ""


class Outbox:
    """Keeps what was given out and is not yet known to be written, so that nothing is given out twice."""

    def __init__(self) -> None:
        self._open: dict[Ref, dict[str, str | None]] = {}
        self._notes: dict[Ref, list[Note]] = {}

    def note(self, ref: Ref, reason: str, message: str) -> None:
        """Record an event together with the next decision about an object."""
        self._notes.setdefault(ref, []).append(Note(reason, message))

    def has_note(self, ref: Ref) -> bool:
        """Whether an event is to be recorded on an object."""
        return ref in self._notes

    def is_open(self, ref: Ref) -> bool:
        """Whether a decision about an object is on its way: what it shows may be older than that."""
        return ref in self._open

    def close(self, ref: Ref) -> bool:
        """Nothing is on its way any more; whether anything was."""
        return self._open.pop(ref, None) is not None

    def decision(
        self, ref: Ref, uid: str, shown: Mapping[str, str], want: Mapping[str, str | None], after: str = ""
    ) -> Decision | None:
        """What brings an object from what it shows to what is wanted; None when it is there or on its way."""
        have = {**shown, **self._open.get(ref, {})}
        changes = {name: value for name, value in want.items() if have.get(name) != value}
        notes = self._notes.pop(ref, [])
        for name, text in changes.items():
            if text is not None and name.startswith("ncp/error."):
                code, _, message = text.partition(": ")
                notes.append(Note(code, message))
        if not changes and not notes:
            return None
        if changes:
            self._open.setdefault(ref, {}).update(changes)
        return Decision(*ref, uid, changes, tuple(dict.fromkeys(notes)), after)

    def drop_notes(self) -> None:
        """Forget events on objects that no decision is about."""
        self._notes.clear()


def named(ref: Ref) -> tuple[str, str]:
    """An object's kind, and its name with its namespace, if it is in one."""
    kind, (namespace, name) = ref
    return kind, f"{namespace}/{name}" if namespace else name

"""What a controller wants written, as values; the loop carries it out."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from ncp.kube.resources import Resource

Json = dict[str, Any]


class Create(NamedTuple):
    """Make an object; one of that name being there already is fine."""

    resource: Resource
    obj: Json


class Patch(NamedTuple):
    """Merge ``body`` into an object, or into one of its subresources; an object that is gone is fine.

    ``strategic`` merges lists by the keys their type declares, so that entries of others stay as they are.
    """

    resource: Resource
    obj: Json
    body: Json
    subresource: str = ""
    kind: Literal["merge", "strategic"] = "merge"


class Replace(NamedTuple):
    """Put a changed object in the place of the one it was made from; refused when that changed meanwhile."""

    resource: Resource
    obj: Json


class Delete(NamedTuple):
    """Delete exactly this object; gone already is fine."""

    resource: Resource
    obj: Json
    grace_seconds: int | None = None


class Warn(NamedTuple):
    """Record a warning event about an object."""

    obj: Json
    reason: str
    message: str


Write: TypeAlias = Create | Patch | Replace | Delete | Warn


class Plan(NamedTuple):
    """What to write now, and in how many seconds to look again (None: when something changes)."""

    writes: list[Write]
    again: float | None = None


def status_patch(resource: Resource, obj: Json, status: Json) -> list[Write]:
    """The write that brings the object's status to ``status``; none when it is there already.

    A server leaves out zeros and empty lists, so what is missing is as good as those.
    """
    held = obj.get("status") or {}
    changed = {name: value for name, value in status.items() if (held.get(name) or None) != (value or None)}
    return [Patch(resource, obj, {"status": changed}, "status")] if changed else []


def sooner(*delays: float | None) -> float | None:
    """The smallest of some delays; None stands for never."""
    return min((each for each in delays if each is not None), default=None)

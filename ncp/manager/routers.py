"""Tier-1 routers that people make (Router resources), and the numbers they have in the network. Pure.

Nothing is ever written on a Router: its number is a function of the object, and stands on the namespaces that hang off it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias

from ncp.manager.layout import SHARED_ROUTER
from ncp.manager.supply import Failure

LARGEST: Final = 2**24 - 1
"""The highest number of a router, as of a segment."""

Object: TypeAlias = Mapping[str, Any]
Routers: TypeAlias = Mapping[str, "int | Failure"]
"""By name: the number, or why namespaces cannot hang off it."""


class RouterRecord(NamedTuple):
    """A Router as far as decisions depend on it. ``number`` None: it follows from the name."""

    name: str
    uid: str
    created: str
    tier: object
    number: object = None


def router_record(obj: Object) -> RouterRecord:
    """The record of a Router object."""
    meta, spec = obj["metadata"], obj.get("spec") or {}
    return RouterRecord(
        meta["name"],
        meta.get("uid", ""),
        meta.get("creationTimestamp") or "",
        spec.get("tier", 1),
        spec.get("number"),
    )


def numbered(records: Iterable[RouterRecord], vnis: tuple[int, int]) -> dict[str, int | Failure]:
    """The numbers of all Routers. Of two that come to the same number the older one has it.

    Args:
        records: in any order.
        vnis: first and last number of segments, which the routers of namespaces have theirs from.
    """
    found: dict[str, int | Failure] = {}
    taken: dict[int, str] = {}
    for record in sorted(records, key=lambda each: (each.created, each.uid, each.name)):
        number = _number(record, vnis)
        if not isinstance(number, Failure):
            holder = taken.setdefault(number, record.name)
            if holder != record.name:
                text = f"Router {record.name} has number {number}, as Router {holder}, which is older; give it another spec.number"
                number = Failure("ROUTER_INVALID", text)
        found[record.name] = number
    return found


def _number(record: RouterRecord, vnis: tuple[int, int]) -> int | Failure:
    first, last = vnis
    if record.tier != 1:
        text = f"Router {record.name}: spec.tier {record.tier!r}; allowed: 1, as namespaces hang off tier-1 routers"
        return Failure("ROUTER_INVALID", text)
    if record.number is None:
        return _of_name(record.name, vnis)
    number = record.number
    if not isinstance(number, int) or not SHARED_ROUTER < number <= LARGEST or first <= number <= last:
        text = (
            f"Router {record.name}: spec.number {number!r}; allowed: {SHARED_ROUTER + 1} to {LARGEST}, and none of "
            f"[ncp] vni_range {first}-{last}"
        )
        return Failure("ROUTER_INVALID", text)
    return number


def _of_name(name: str, vnis: tuple[int, int]) -> int:
    """A number beside those of segments, that a Router made anew under its name has again."""
    first, last = vnis
    below = max(first - SHARED_ROUTER - 1, 0)
    room = below + LARGEST - last
    place = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") % max(room, 1)
    return SHARED_ROUTER + 1 + place if place < below else min(last + 1 + place - below, LARGEST)

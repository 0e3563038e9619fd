"""A Node's uplinks, as its annotation says: the networks outside that an edge has a device in. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ipam.address import Interface, parse_interface
from ncp.translate.objects import Object, annotation, origin_of
from sdn.model import Problem

UPLINKS: Final = "ncp/uplinks"
MAX_VLAN: Final = 4094  # IEEE 802.1Q: 0 is no VLAN, 4095 is reserved
MAX_UPLINKS: Final = 64
FIELDS: Final = ("name", "bridge", "vlan", "addresses")
DEVICE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")


@dataclass(frozen=True, slots=True)
class Uplink:
    """A device ``name`` that is a port of the node's own bridge ``bridge``, with these addresses.

    ``vlan`` is the tag (IEEE 802.1Q) its frames carry beyond the bridge; 0: none.
    """

    name: str
    bridge: str
    vlan: int
    addresses: tuple[Interface, ...]


def uplinks(node: Object) -> tuple[tuple[Uplink, ...] | None, tuple[Problem, ...]]:
    """The uplinks of a Node: none without the annotation, None where it is wrong.

    What is wrong is not taken in part: whoever mistypes an address keeps the uplinks there are.
    """
    text = annotation(node, UPLINKS)
    if text is None:
        return (), ()
    origin = origin_of("Node", node)
    try:
        entries = orjson.loads(text)
    except ValueError as error:
        entries, why = None, str(error)
    else:
        why = "not a list of objects"
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        what = f"annotation {UPLINKS} of {origin} is malformed ({why}); wants a JSON list of objects with {', '.join(FIELDS)}"
        return None, (Problem(origin, "MALFORMED_ANNOTATION", what),)
    try:
        found = tuple(_uplink(index, each) for index, each in enumerate(entries))
        _check_distinct(found)
    except ValueError as error:
        return None, (
            Problem(origin, "UPLINK_INVALID", f"annotation {UPLINKS} of {origin}: {error}; the former uplinks stay"),
        )
    return found, ()


def _uplink(index: int, entry: Mapping[str, Any]) -> Uplink:
    where = f"uplink {entry.get('name', index)!r}"
    for name in entry:
        if name not in FIELDS:
            raise ValueError(f"{where}: unknown field {name!r}; allowed: {', '.join(FIELDS)}")
    name, bridge = (_device(where, field, entry.get(field)) for field in ("name", "bridge"))
    if name == bridge:
        raise ValueError(f"{where}: name: is the bridge's, whose own port it is; wants another")
    vlan = entry.get("vlan", 0)
    if not isinstance(vlan, int) or isinstance(vlan, bool) or not 0 <= vlan <= MAX_VLAN:
        raise ValueError(f"{where}: vlan: {vlan!r}; wants a whole number of 1 to {MAX_VLAN}, or 0 for untagged frames")
    texts = entry.get("addresses")
    if not isinstance(texts, list) or not texts:
        raise ValueError(f"{where}: addresses: {texts!r}; wants a list of one or more, such as 192.0.2.2/24")
    return Uplink(name, bridge, vlan, tuple(_address(where, each) for each in texts))


def _device(where: str, field: str, value: object) -> str:
    if not isinstance(value, str) or not DEVICE.fullmatch(value):
        raise ValueError(
            f"{where}: {field}: {value!r}; wants a device's name: up to 15 of a-z, 0-9, '-', '_' and '.', first a letter"
        )
    return value


def _address(where: str, text: object) -> Interface:
    try:
        found = parse_interface(str(text))
    except ValueError as error:
        raise ValueError(f"{where}: addresses: {error}") from error
    lowest, highest = _unicast(found.family)
    if not lowest <= found.value < highest:
        raise ValueError(f"{where}: addresses: {text} is no address that a device may have; wants a unicast one")
    if found.family == 4 and found.length < 31 and found.value in (found.prefix.value, found.prefix.last):
        raise ValueError(f"{where}: addresses: {text} is its network's own or its broadcast address; wants one between")
    return found


def _unicast(family: int) -> tuple[int, int]:
    """The first address that may be a device's, and the first after that may not: multicast ends it (RFC 1112, RFC 4291)."""
    return (1 << 24, 224 << 24) if family == 4 else (2, 0xFF << 120)


def _check_distinct(found: tuple[Uplink, ...]) -> None:
    if len(found) > MAX_UPLINKS:
        raise ValueError(f"{len(found)} uplinks; wants {MAX_UPLINKS} at most")
    names: set[str] = set()
    places: dict[tuple[str, int], str] = {}
    addresses: dict[Interface, str] = {}
    for each in found:
        if each.name in names:
            raise ValueError(f"uplink {each.name!r}: name: used twice; names are unique")
        names.add(each.name)
        other = places.setdefault((each.bridge, each.vlan), each.name)
        if other != each.name:
            raise ValueError(
                f"uplink {each.name!r}: {other!r} is at bridge {each.bridge} with VLAN {each.vlan}, too; give it both's addresses"
            )
        for address in each.addresses:
            for holder, name in addresses.items():
                if holder.prefix.overlaps(address.prefix) and (name != each.name or holder.address == address.address):
                    raise ValueError(
                        f"uplink {each.name!r}: addresses: {address} overlaps {holder} of {name!r}; networks are disjoint"
                    )
            addresses[address] = each.name

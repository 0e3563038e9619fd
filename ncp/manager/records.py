"""What the manager reads from objects, and the text of what it writes on them. Pure.

A record holds the few fields decisions depend on; ``annotations`` only those whose name starts with ``ncp/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from ipam.address import Address, Interface, parse_address, parse_interface
from ncp.translate.objects import CLUSTER, PORT, SEGMENTS, TERMINAL, format_mac, parse_mac

__all__ = ["CLUSTER", "PORT", "SEGMENTS"]

RESTING: Final = "ncp/resting"
NO_SNAT: Final = "ncp/no_snat"
ROUTING_DOMAIN: Final = "ncp/routing_domain"
ROUTER: Final = "ncp/router"
SUBNETS: Final = "ncp/subnets"
IP_RANGE: Final = "ncp/ip_range"
ERROR_SUBNETS: Final = "ncp/error.subnets"
ERROR_NO_SNAT: Final = "ncp/error.no_snat"
ERROR_DOMAIN: Final = "ncp/error.routing_domain"
ERROR_ROUTER: Final = "ncp/error.router"
ERROR_IP_RANGE: Final = "ncp/error.ip_range"
ERROR_NETWORK: Final = "ncp/error.network"

MAX_RESTS: Final = 4000
"""Rests written on one namespace (all annotations of an object may have 256 KiB); the longest ones win."""

Object = Mapping[str, Any]
Annotations = Mapping[str, str]


class Segment(NamedTuple):
    """One logical switch of a namespace as decided. ``domain`` 0 is the cluster's own routing domain."""

    vni: int
    router: int
    gateways: tuple[Interface, ...]
    snat: bool
    domain: int = 0


class Port(NamedTuple):
    """A pod's place in the network as decided."""

    vni: int
    mac: int
    addresses: tuple[Interface, ...]
    gateways: tuple[Address, ...]


class NamespaceRecord(NamedTuple):
    """A namespace as far as decisions depend on it. ``created`` is the API's text, which sorts by time."""

    name: str
    uid: str
    created: str
    deleting: bool
    annotations: Annotations


class PodRecord(NamedTuple):
    """A pod as far as decisions depend on it.

    ``wants_port``: neither in the host's network nor finished. ``ended``: epoch seconds its last container ended, for a
    finished pod that tells. ``ordinal``: its number in a StatefulSet, if it is of one.
    """

    namespace: str
    name: str
    uid: str
    created: str
    deleting: bool
    wants_port: bool
    terminal: bool
    ended: float | None
    ordinal: int | None
    annotations: Annotations


def namespace_record(obj: Object) -> NamespaceRecord:
    """The record of a Namespace object."""
    meta = obj["metadata"]
    return NamespaceRecord(
        meta["name"],
        meta.get("uid", ""),
        meta.get("creationTimestamp") or "",
        "deletionTimestamp" in meta,
        _annotations(meta),
    )


def pod_record(obj: Object) -> PodRecord:
    """The record of a Pod object."""
    meta, status = obj["metadata"], obj.get("status") or {}
    terminal = status.get("phase") in TERMINAL
    return PodRecord(
        meta.get("namespace", ""),
        meta["name"],
        meta.get("uid", ""),
        meta.get("creationTimestamp") or "",
        "deletionTimestamp" in meta,
        not terminal and not (obj.get("spec") or {}).get("hostNetwork"),
        terminal,
        _ended(status) if terminal else None,
        _ordinal(meta),
        _annotations(meta),
    )


def _annotations(meta: Mapping[str, Any]) -> dict[str, str]:
    return {name: text for name, text in (meta.get("annotations") or {}).items() if name.startswith("ncp/")}


def _ordinal(meta: Mapping[str, Any]) -> int | None:
    owners = meta.get("ownerReferences") or ()
    if not any(owner.get("kind") == "StatefulSet" and owner.get("controller") for owner in owners):
        return None
    _, _, tail = meta["name"].rpartition("-")
    return int(tail) if tail.isdigit() else None


def _ended(status: Mapping[str, Any]) -> float | None:
    ends = []
    for container in status.get("containerStatuses") or ():
        text = ((container.get("state") or {}).get("terminated") or {}).get("finishedAt")
        try:
            ends.append(datetime.fromisoformat(str(text)).timestamp())
        except (TypeError, ValueError):
            return None  # a container that does not say when it ended: the end is not known
    return max(ends, default=None)


def render_segments(segments: tuple[Segment, ...]) -> str:
    """The text of ``ncp/segments``."""
    shown = [
        {
            "vni": each.vni,
            "router": each.router,
            "gateways": [str(g) for g in each.gateways],
            "snat": each.snat,
            **({"domain": each.domain} if each.domain else {}),
        }
        for each in segments
    ]
    return orjson.dumps(shown).decode()


def parse_segments(text: str) -> tuple[Segment, ...]:
    """``ncp/segments`` read back.

    Raises:
        ValueError: not JSON of that shape.
    """
    try:
        return tuple(
            Segment(
                _whole(each["vni"]),
                _whole(each["router"]),
                tuple(parse_interface(gateway) for gateway in each["gateways"]),
                bool(each.get("snat", True)),
                _whole(each.get("domain", 0)),
            )
            for each in _of_type(list, text)
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a list of segments: {error!r}") from error


def render_port(port: Port) -> str:
    """The text of ``ncp/port``."""
    shown = {
        "vni": port.vni,
        "mac": format_mac(port.mac),
        "addresses": [str(each) for each in port.addresses],
        "gateways": [str(each) for each in port.gateways],
    }
    return orjson.dumps(shown).decode()


def parse_port(text: str) -> Port:
    """``ncp/port`` read back.

    Raises:
        ValueError: not JSON of that shape.
    """
    try:
        found = _of_type(dict, text)
        return Port(
            _whole(found["vni"]),
            parse_mac(found["mac"]),
            tuple(parse_interface(each) for each in found["addresses"]),
            tuple(parse_address(each) for each in found["gateways"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a port: {error!r}") from error


def render_resting(rests: Mapping[Address, float]) -> str | None:
    """The text of ``ncp/resting``, sorted by address; None when nothing rests."""
    kept = sorted(rests.items(), key=lambda item: (-item[1], item[0]))[:MAX_RESTS]
    shown = {str(address): round(until, 3) for address, until in sorted(kept)}
    return orjson.dumps(shown).decode() if shown else None


def parse_resting(text: str) -> dict[Address, float]:
    """``ncp/resting`` read back.

    Raises:
        ValueError: not JSON of that shape.
    """
    found = _of_type(dict, text)
    for address, until in found.items():
        if not isinstance(until, int | float) or isinstance(until, bool):
            raise ValueError(f"{address} rests until {until!r}, which is not a time in epoch seconds")
    return {parse_address(address): float(until) for address, until in found.items()}


def _of_type(kind: type, text: str) -> Any:
    found = orjson.loads(text)  # a JSONDecodeError is a ValueError
    if not isinstance(found, kind):
        raise ValueError(f"it is JSON of type {type(found).__name__}, not {kind.__name__}")
    return found


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a whole number")
    return value

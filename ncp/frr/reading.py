"""What FRR's ``show … json`` commands say, as values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ipam.address import parse_address, parse_prefix
from ncp.frr.model import Learned, Peer

Json = Mapping[str, Any]


def peers(summary: Json, neighbors: Json, bfd: Iterable[Json]) -> tuple[Peer, ...]:
    """Neighbors from ``show bgp summary json``, ``show bgp neighbors json`` and ``show bfd peers json``."""
    watched = {each["peer"]: str(each.get("status", "")) for each in bfd}
    counted = {name: each for family in summary.values() for name, each in family.get("peers", {}).items()}
    found = [
        _peer(name, neighbor, counted.get(name, {}), watched.get(name, ""))
        for name, neighbor in neighbors.items()
        if isinstance(neighbor, Mapping) and "bgpState" in neighbor
    ]
    return tuple(sorted(found, key=lambda peer: peer.address))


def learned(*tables: Json) -> tuple[Learned, ...]:
    """Routes in use that neighbors told of, from ``show bgp … unicast json`` of each family."""
    found = []
    for table in tables:
        for prefix, paths in table.get("routes", {}).items():
            chosen = [path for path in paths if path.get("bestpath") or path.get("multipath")]
            hops = {parse_address(hop) for path in chosen if _is_told(path) for hop in _next_hops(path)}
            if hops:
                found.append(Learned(parse_prefix(prefix), tuple(sorted(hops))))
    return tuple(sorted(found, key=lambda route: route.prefix))


def _peer(name: str, neighbor: Json, counted: Json, bfd: str) -> Peer:
    state = str(neighbor["bgpState"])
    return Peer(
        parse_address(name),
        int(neighbor.get("remoteAs", 0)),
        state,
        "" if state == "Established" else _reason(neighbor, counted),
        int(neighbor.get("bgpTimerUpMsec", 0)) // 1000 if state == "Established" else 0,
        int(counted.get("pfxRcd", 0)),
        int(counted.get("pfxSnt", 0)),
        bfd,
    )


def _reason(neighbor: Json, counted: Json) -> str:
    """The most telling of what is known: the last notification (``OPEN Message Error/Bad Peer AS``), or the last reset."""
    told = str(neighbor.get("lastNotificationReason", "")).replace("\\/", "/")
    if told:
        return told
    last = str(neighbor.get("lastResetDueTo", ""))
    return last or "no answer yet"


def _is_told(path: Json) -> bool:
    """Our own announcements have the weight of what a router says itself, and no peer."""
    return str(path.get("peerId", "(unspec)")) != "(unspec)"


def _next_hops(path: Json) -> Iterable[str]:
    """The global address where there are two, as IPv6 has them."""
    hops = path.get("nexthops", ())
    named = [str(hop["ip"]) for hop in hops if hop.get("scope", "global") == "global"]
    return named or [str(hop["ip"]) for hop in hops]

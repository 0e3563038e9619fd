"""StaticRoute objects to routes of tier-0, or the reason why one is none. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ipam.address import WIDTH, Address, Prefix, parse_address, parse_prefix
from ncp.translate.objects import Object

LINK_LOCAL = tuple(
    map(parse_prefix, ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::1/128", "fe80::/10", "ff00::/8"))
)
Name = tuple[str, str]
"""Namespace and name of an object."""


class Verdict(NamedTuple):
    """What became of a StaticRoute: ``reason`` is machine-readable."""

    ready: bool
    reason: str
    message: str


class Routes(NamedTuple):
    """The routes to make, and what to say on each object."""

    wanted: Mapping[Prefix, tuple[Address, ...]]
    verdicts: Mapping[Name, Verdict]


def static_routes(
    objects: Iterable[Object], taken: Mapping[str, Iterable[Prefix]], links: Iterable[Prefix], where: str
) -> Routes:
    """What a node's routes are to be.

    The oldest object for a network counts. Next hops that are on no link of the node are left out, and the object says so.

    Args:
        objects: StaticRoutes.
        taken: networks no route may be to, by what they are; a default route may be all the same, as others are longer.
        links: networks on links of the node that work.
        where: the node's name.
    """
    near = tuple(links)
    wanted: dict[Prefix, tuple[Address, ...]] = {}
    owners: dict[Prefix, Name] = {}
    verdicts: dict[Name, Verdict] = {}
    for each in sorted(objects, key=_age):
        name = (each["metadata"].get("namespace", ""), each["metadata"]["name"])
        try:
            network, hops = _read(each.get("spec") or {})
        except ValueError as error:
            verdicts[name] = Verdict(False, "ROUTE_INVALID", str(error))
            continue
        if clash := _clash(network, taken):
            verdicts[name] = Verdict(False, "NETWORK_OVERLAPS", f"spec.network {network} overlaps {clash}")
        elif network in owners:
            other = "/".join(owners[network])
            verdicts[name] = Verdict(
                False, "ROUTE_CONFLICT", f"spec.network {network} is StaticRoute {other}'s, which is older"
            )
        else:
            owners[network] = name
            reached = tuple(hop for hop in hops if any(hop in link for link in near))
            if reached:
                wanted[network] = reached
            verdicts[name] = _verdict(hops, reached, near, where)
    return Routes(wanted, verdicts)


def _verdict(hops: tuple[Address, ...], reached: tuple[Address, ...], links: Iterable[Prefix], where: str) -> Verdict:
    lost = ", ".join(str(hop) for hop in hops if hop not in reached)
    if not lost:
        return Verdict(True, "ROUTE_REALISED", f"node {where} routes it by {', '.join(map(str, reached))}")
    on = ", ".join(map(str, links)) or "none"
    rest = f"; {', '.join(map(str, reached))} is used alone" if reached else ""
    return Verdict(
        False, "NEXT_HOP_UNREACHABLE", f"spec.nextHops {lost} is on no link of node {where} that works ({on}){rest}"
    )


def _read(spec: Mapping) -> tuple[Prefix, tuple[Address, ...]]:
    try:
        network = parse_prefix(str(spec.get("network", "")))
    except ValueError as error:
        raise ValueError(f"spec.network: {error}") from error
    hops = []
    for index, each in enumerate(spec.get("nextHops") or ()):
        field = f"spec.nextHops[{index}].ipAddress"
        try:
            hop = parse_address(str(each.get("ipAddress", "")))
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from error
        if hop.family != network.family:
            raise ValueError(
                f"{field} {hop} is not of the family of spec.network {network}; give an IPv{network.family} address"
            )
        hops.append(hop)
    if not hops:
        raise ValueError("spec.nextHops is empty; name at least one router")
    return network, tuple(dict.fromkeys(sorted(hops)))


def _clash(network: Prefix, taken: Mapping[str, Iterable[Prefix]]) -> str:
    """What a network overlaps; empty: nothing, or it is the default route."""
    if network.length == 0:
        return ""
    for what, networks in {"addresses of links and groups": LINK_LOCAL, **taken}.items():
        for other in networks:
            if network.overlaps(other):
                return f"{other if other.length < WIDTH[other.family] else Address(other.family, other.value)} ({what})"
    return ""


def _age(obj: Object) -> tuple[str, str, str]:
    meta = obj["metadata"]
    return meta.get("creationTimestamp") or "", meta.get("namespace", ""), meta["name"]

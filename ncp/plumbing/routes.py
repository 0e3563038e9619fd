"""Routes of tier-0 in an edge node's main table: those of StaticRoutes are made here, all are read.

Routes of ours carry protocol number 79, so that stale ones are told from everybody else's, and metric 10: before a
machine's own default route by DHCP or router advertisement, which stays as it is.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ipam.address import Address, Prefix, parse_address, parse_prefix
from ncp.plumbing import netlink
from ncp.plumbing.netlink import FAMILY
from ncp.plumbing.node import MAIN

PROTOCOL: Final = 79
METRIC: Final = 10
ORIGINS: Final = {2: "connected", 78: "overlay", PROTOCOL: "static", 186: "bgp"}
"""Who made a route, by its protocol number (rtnetlink(7), FRR's zebra/rt_netlink.h); whoever else is the machine's own."""


class NextHop(NamedTuple):
    """Where packets go next; ``address`` is empty where the network is on the device's own link."""

    address: str
    device: str


class Route(NamedTuple):
    """One route of the main table."""

    prefix: Prefix
    origin: str  # one of ORIGINS' values, or "machine"
    metric: int
    next_hops: tuple[NextHop, ...]


def routes() -> tuple[Route, ...]:
    """Every route of the main table in the thread's network namespace, sorted; those to link-local networks aside.

    Raises:
        OSError: the kernel refused.
    """
    found = []
    for family in FAMILY:
        for row in netlink.table(family, MAIN):
            prefix = _prefix(row)
            if not any(prefix in each for each in netlink.LINK_LOCAL):
                hops = (NextHop(gateway, netlink.name_of(device)) for gateway, device in row.hops)
                origin = ORIGINS.get(row.protocol, "machine")
                found.append(Route(prefix, origin, row.metric, tuple(sorted(hops))))
    return tuple(sorted(found))


def ensure(ipr: IPRoute, wanted: Mapping[Prefix, tuple[Address, ...]]) -> dict[Prefix, str]:
    """Make exactly these our static routes, each by all its next hops; those that the kernel refused, with its reason.

    A refused route leaves what was there before, if it is still possible.
    """
    have = {
        _prefix(row): tuple(sorted(parse_address(gateway) for gateway, _ in row.hops if gateway))
        for family in FAMILY
        for row in netlink.table(family, MAIN)
        if row.protocol == PROTOCOL
    }
    refused = {}
    for prefix in sorted(have.keys() - wanted.keys()):
        _change(ipr, "del", prefix, have[prefix])
    for prefix, hops in sorted(wanted.items()):
        if have.get(prefix) != hops:
            try:
                # Of IPv6, some kernels replace one next hop of several. Somebody else's route is never replaced.
                if replaced := prefix in have and prefix.family == 6:
                    _change(ipr, "del", prefix, have[prefix])
                _change(ipr, "replace" if prefix in have and not replaced else "add", prefix, hops)
            except NetlinkError as error:
                refused[prefix] = str(error)
    return refused


def _change(ipr: IPRoute, command: str, prefix: Prefix, hops: tuple[Address, ...]) -> None:
    texts = [netlink.text_of(each) for each in hops]
    by = {"gateway": texts[0]} if len(texts) == 1 else {"multipath": [{"gateway": each} for each in texts]}
    where = {"family": FAMILY[prefix.family], "dst": str(prefix), "table": MAIN, "priority": METRIC, "proto": PROTOCOL}
    if command == "del":  # without next hops: whatever they are
        try:
            ipr.route("del", **where)
        except NetlinkError as error:
            if error.code != errno.ESRCH:  # it went with its device
                raise
        return
    ipr.route(command, **where, **by)


def _prefix(row: netlink.TableRow) -> Prefix:
    return parse_prefix(f"{row.destination}/{row.length}")

"""The node's own leg into the overlay: ``ncp-node0``, and the routes and rules by which packets get there.

The node's addresses stay where they are (its underlay device); packets to pods leave with one of them as their
source. Routes of ours carry protocol number 78, so that stale ones are told from everybody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ipam.address import Address, Prefix
from ncp.plumbing import netlink, rules
from ncp.plumbing.announce import INTERVAL, Announcer, underlays
from ncp.plumbing.leg import ServiceLeg
from ncp.plumbing.namespace import Namespace, NetworkError, sysctl
from ncp.plumbing.netlink import FAMILY

ROUTE_PROTOCOL: Final = 78
GATEWAY_MAC: Final = "02:50:56:56:44:52"
RTNH_F_ONLINK: Final = 4
NUD_PERMANENT: Final = 0x80
MAIN: Final = 254
ANCHOR: Final = "169.254.0.253"
"""The device's own IPv4 address, which nobody is sent to: on a device without one, loose reverse-path filtering
(RFC 3704 section 2.4) is as strict as strict, and drops what the switch gives back of packets it does not serve."""
SCOPE_LINK: Final = 253
ENODEV: Final = 19


class NodeRoute(NamedTuple):
    """One route into the overlay: texts as netlink has them."""

    family: int  # 4 or 6
    prefix: str
    gateway: str
    source: str
    mtu: int


class RouteChanges(NamedTuple):
    """What :meth:`NodePort.ensure_routes` did."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


class NodePort:
    """``ncp-node0`` in the node's namespace (by name or path; empty: the process's own). Any thread may call."""

    def __init__(self, netns: str = "", device: str = "ncp-node0", *, announce_interval: float = INTERVAL) -> None:
        self._node = Namespace(netns, threads=1)
        self._device = device
        self._announcer = Announcer(self._node, interval=announce_interval)

    def close(self) -> None:
        """End the thread; the device, routes, rules and announced addresses stay."""
        self._announcer.close()
        self._node.close()

    def ensure_device(self, mac: str, mtu: int) -> None:
        """Bring the device up with its MAC and MTU, and let the node forward.

        Reverse-path filtering is loose: replies to a packet that left through the overlay may come from any prefix behind
        it, and from the node's own addresses.

        Raises:
            NetworkError: the switch has not made the device (see ``Ovsdb.ensure_node``), or the kernel refused.
        """
        self._node.call(lambda ipr: self._ensure_device(ipr, mac, mtu))

    def ensure_routes(
        self,
        prefixes: Iterable[Prefix],
        gateways: Iterable[Address],
        sources: Iterable[Address],
        mtu: int,
        *,
        prune: bool = True,
    ) -> RouteChanges:
        """Make exactly these our routes: each prefix via the gateway of its family, which gets a fixed neighbour entry.

        ``sources`` are the node's addresses, the first of a family is used. A family without gateway or source gets
        no route. Routes that are not ours (protocol 78) stay untouched. Without ``prune`` none goes.

        Raises:
            NetworkError: the device is not there, or the kernel refused routes, which the message names; the others are made.
        """
        wanted = _wanted(prefixes, gateways, sources, mtu)
        return self._node.call(lambda ipr: self._ensure_routes(ipr, wanted, MAIN, prune))

    def ensure_services(
        self,
        leg: ServiceLeg,
        own: Collection[Address],
        gateways: Collection[Address],
        mtu: int,
        *,
        links: Collection[Address] = (),
    ) -> None:
        """Hand packets for services at the node's own addresses to the switch, and answer for the addresses the leg announces.

        ``links`` are addresses of further devices on whose networks these are announced.

        Routes to other addresses of services are :meth:`ensure_routes`'s.

        Raises:
            NetworkError: the kernel refused a rule, route or row; the message names it.
        """
        served = [each for each in own if each.family in {gateway.family for gateway in gateways}]
        routes = _wanted({Prefix(each.family, 0, 0) for each in served}, gateways, own, mtu)
        wanted = rules.wanted(self._device, served, leg.node_ports, leg.host_ports)

        def work(ipr: IPRoute) -> None:
            self._ensure_routes(ipr, routes, rules.TABLE, True)
            rules.ensure(ipr, wanted)
            self._announcer.ensure(ipr, leg.announced, underlays(ipr, {*own, *links}))

        self._node.call(work)

    def networks(self, own: Collection[Address]) -> tuple[Prefix, ...]:
        """Networks on the link of the devices that hold the node's own addresses, sorted."""
        found = self._node.call(lambda ipr: underlays(ipr, own))
        return tuple(sorted({network for each in found for network in each.networks}))

    def devices(self, own: Collection[Address]) -> tuple[str, ...]:
        """Names of the devices that hold the node's own addresses, sorted."""
        return tuple(each.name for each in self._node.call(lambda ipr: underlays(ipr, own)))

    def routes(self) -> frozenset[NodeRoute]:
        """Our routes as the kernel has them."""
        return self._node.call(lambda ipr: frozenset(self._routes(self._index(ipr), MAIN)))

    def _ensure_device(self, ipr: IPRoute, mac: str, mtu: int) -> None:
        index = self._index(ipr)
        sysctl("net/ipv4/ip_forward", "1")
        sysctl(f"net/ipv4/conf/{self._device}/rp_filter", "2")
        # Answers of node ports come from the node's own address.
        sysctl(f"net/ipv4/conf/{self._device}/accept_local", "1")
        # A packet for which a socket was found before its route is not forwarded: those of the node's own servers at numbers of node
        # ports would not get to the switch and back. Serves IPv6, too.
        sysctl("net/ipv4/ip_early_demux", "0")
        sysctl("net/ipv6/conf/all/forwarding", "1")
        sysctl(f"net/ipv6/conf/{self._device}/disable_ipv6", "0")
        sysctl(f"net/ipv6/conf/{self._device}/accept_ra", "0")
        sysctl(f"net/ipv6/conf/{self._device}/accept_dad", "0")
        link = ipr.link("get", index=index)[0]
        if link.get("address") != mac.lower():
            ipr.link("set", index=index, address=mac)
        ipr.link("set", index=index, state="up", mtu=mtu)
        if not any(row.device == index and row.address == ANCHOR for row in netlink.addresses()):
            ipr.addr("replace", index=index, address=ANCHOR, prefixlen=32, scope=SCOPE_LINK)

    def _ensure_routes(self, ipr: IPRoute, wanted: set[NodeRoute], table: int, prune: bool) -> RouteChanges:
        index = self._index(ipr)
        for gateway in {(route.family, route.gateway) for route in wanted}:
            self._ensure_neighbour(ipr, index, *gateway)
        have = set(self._routes(index, table))
        kept = {(route.family, route.prefix) for route in wanted}
        ours = {(route.family, route.prefix) for route in have}
        missing = sorted(wanted - have)
        stale = sorted(route for route in have - wanted if prune or (route.family, route.prefix) in kept)
        # somebody else's route to the same prefix is an error, not overwritten
        changes = [("replace" if (route.family, route.prefix) in ours else "add", route) for route in missing]
        changes += [("del", route) for route in stale if (route.family, route.prefix) not in kept]
        refused = []
        for command, route in changes:
            try:
                self._route(ipr, command, index, route, table)
            except NetworkError as error:  # the address of one service may be wrong; others are not the worse for it
                refused.append(str(error))
        if refused:
            raise NetworkError("; ".join(refused[:5]) + (f"; and {len(refused) - 5} more" if refused[5:] else ""))
        return RouteChanges(tuple(route.prefix for route in missing), tuple(route.prefix for route in stale))

    def _ensure_neighbour(self, ipr: IPRoute, index: int, family: int, gateway: str) -> None:
        ipr.neigh("replace", family=FAMILY[family], dst=gateway, lladdr=GATEWAY_MAC, ifindex=index, state=NUD_PERMANENT)

    def _route(self, ipr: IPRoute, command: str, index: int, route: NodeRoute, table: int) -> None:
        try:
            ipr.route(
                command,
                family=FAMILY[route.family],
                dst=route.prefix,
                table=table,
                gateway=route.gateway,
                oif=index,
                prefsrc=route.source,
                flags=RTNH_F_ONLINK,
                proto=ROUTE_PROTOCOL,
                metrics={"mtu": route.mtu},
            )
        except NetlinkError as error:
            raise NetworkError(
                f"cannot {command} the route {route.prefix} via {route.gateway} dev {self._device} src {route.source}: "
                f"{error}"
            ) from error

    def _routes(self, index: int, table: int) -> list[NodeRoute]:
        return [
            NodeRoute(family, f"{row.destination}/{row.length}", row.gateway, row.source, row.mtu)
            for family in FAMILY
            for row in netlink.routes(family, table=table, protocol=ROUTE_PROTOCOL, device=index)
        ]

    def _index(self, ipr: IPRoute) -> int:
        try:
            return int(ipr.link("get", ifname=self._device)[0]["index"])
        except (NetlinkError, IndexError) as error:
            if isinstance(error, NetlinkError) and error.code != ENODEV:
                raise
            raise NetworkError(f"{self._device} does not exist: the switch has not made it") from error


def _wanted(
    prefixes: Iterable[Prefix], gateways: Iterable[Address], sources: Iterable[Address], mtu: int
) -> set[NodeRoute]:
    via = {family: netlink.text_of(each) for family, each in _first(gateways).items()}
    source = {family: netlink.text_of(each) for family, each in _first(sources).items()}
    return {
        NodeRoute(
            each.family,
            f"{netlink.text_of(Address(each.family, each.value))}/{each.length}",
            via[each.family],
            source[each.family],
            mtu,
        )
        for each in prefixes
        if each.family in via and each.family in source
    }


def _first(addresses: Iterable[Address]) -> dict[int, Address]:
    found: dict[int, Address] = {}
    for address in addresses:
        found.setdefault(address.family, address)
    return found

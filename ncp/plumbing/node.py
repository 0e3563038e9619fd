"""The node's own leg into the overlay: ``ncp-node0``, and the routes by which the node reaches pods.

The node's addresses stay where they are (its underlay device); packets to pods leave with one of them as their
source. Routes of ours carry protocol number 78, so that stale ones are told from everybody else's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ipam.address import Address, Prefix
from ncp.plumbing.namespace import Namespace, NetworkError, sysctl

ROUTE_PROTOCOL: Final = 78
GATEWAY_MAC: Final = "02:50:56:56:44:52"
FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
RTNH_F_ONLINK: Final = 4
NUD_PERMANENT: Final = 0x80
ENODEV: Final = 19


class NodeRoute(NamedTuple):
    """One route to pods: texts as netlink has them."""

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

    def __init__(self, netns: str = "", device: str = "ncp-node0") -> None:
        self._node = Namespace(netns, threads=1)
        self._device = device

    def close(self) -> None:
        """End the thread; the device stays."""
        self._node.close()

    def ensure_device(self, mac: str, mtu: int) -> None:
        """Bring the device up with its MAC and MTU, and let the node forward.

        The device gets no address of its own. Reverse-path filtering is loose: replies to a packet that left through
        the overlay may come from any prefix behind it.

        Raises:
            NetworkError: the switch has not made the device (see ``Ovsdb.ensure_node``), or the kernel refused.
        """
        self._node.call(lambda ipr: self._ensure_device(ipr, mac, mtu))

    def ensure_routes(
        self, prefixes: Iterable[Prefix], gateways: Iterable[Address], sources: Iterable[Address], mtu: int
    ) -> RouteChanges:
        """Make exactly these our routes: each prefix via the gateway of its family, which gets a fixed neighbour entry.

        ``sources`` are the node's addresses, the first of a family is used. A family without gateway or source gets
        no route. Routes that are not ours (protocol 78) stay untouched.

        Raises:
            NetworkError: the device is not there, or the kernel refused a route; the message names it.
        """
        gateway, source = _first(gateways), _first(sources)
        wanted = {
            NodeRoute(p.family, str(p), str(gateway[p.family]), str(source[p.family]), mtu)
            for p in prefixes
            if p.family in gateway and p.family in source
        }
        return self._node.call(lambda ipr: self._ensure_routes(ipr, wanted))

    def routes(self) -> frozenset[NodeRoute]:
        """Our routes as the kernel has them."""
        return self._node.call(lambda ipr: frozenset(self._routes(ipr, self._index(ipr))))

    def _ensure_device(self, ipr: IPRoute, mac: str, mtu: int) -> None:
        index = self._index(ipr)
        sysctl("net/ipv4/ip_forward", "1")
        sysctl(f"net/ipv4/conf/{self._device}/rp_filter", "2")
        sysctl("net/ipv6/conf/all/forwarding", "1")
        sysctl(f"net/ipv6/conf/{self._device}/disable_ipv6", "0")
        sysctl(f"net/ipv6/conf/{self._device}/accept_ra", "0")
        sysctl(f"net/ipv6/conf/{self._device}/accept_dad", "0")
        link = ipr.link("get", index=index)[0]
        if link.get("address") != mac.lower():
            ipr.link("set", index=index, address=mac)
        ipr.link("set", index=index, state="up", mtu=mtu)

    def _ensure_routes(self, ipr: IPRoute, wanted: set[NodeRoute]) -> RouteChanges:
        index = self._index(ipr)
        for gateway in {(route.family, route.gateway) for route in wanted}:
            self._ensure_neighbour(ipr, index, *gateway)
        have = set(self._routes(ipr, index))
        missing, stale = wanted - have, have - wanted
        kept = {(route.family, route.prefix) for route in wanted}
        ours = {(route.family, route.prefix) for route in have}
        for route in sorted(missing):  # somebody else's route to the same prefix is an error, not overwritten
            command = "replace" if (route.family, route.prefix) in ours else "add"
            self._route(ipr, command, index, route)
        for route in sorted(route for route in stale if (route.family, route.prefix) not in kept):
            self._route(ipr, "del", index, route)
        return RouteChanges(tuple(str(r.prefix) for r in sorted(missing)), tuple(str(r.prefix) for r in sorted(stale)))

    def _ensure_neighbour(self, ipr: IPRoute, index: int, family: int, gateway: str) -> None:
        ipr.neigh("replace", family=FAMILY[family], dst=gateway, lladdr=GATEWAY_MAC, ifindex=index, state=NUD_PERMANENT)

    def _route(self, ipr: IPRoute, command: str, index: int, route: NodeRoute) -> None:
        try:
            ipr.route(
                command,
                family=FAMILY[route.family],
                dst=route.prefix,
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

    def _routes(self, ipr: IPRoute, index: int) -> list[NodeRoute]:
        found = []
        for family in FAMILY:
            for row in ipr.get_routes(family=FAMILY[family], proto=ROUTE_PROTOCOL, oif=index):
                if row["proto"] == ROUTE_PROTOCOL and row.get("oif") == index:
                    found.append(_route_of(family, row))
        return found

    def _index(self, ipr: IPRoute) -> int:
        try:
            return int(ipr.link("get", ifname=self._device)[0]["index"])
        except (NetlinkError, IndexError) as error:
            if isinstance(error, NetlinkError) and error.code != ENODEV:
                raise
            raise NetworkError(f"{self._device} does not exist: the switch has not made it") from error


def _route_of(family: int, row: Any) -> NodeRoute:
    metrics = row.get("metrics")
    default = "0.0.0.0" if family == 4 else "::"
    return NodeRoute(
        family,
        f"{row.get('dst') or default}/{row['dst_len']}",
        str(row.get("gateway")),
        str(row.get("prefsrc")),
        int(metrics.get("mtu", 0)) if metrics else 0,
    )


def _first(addresses: Iterable[Address]) -> dict[int, Address]:
    found: dict[int, Address] = {}
    for address in addresses:
        found.setdefault(address.family, address)
    return found

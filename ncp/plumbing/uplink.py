"""Devices of a node's uplinks: what the switch has made, brought up with the addresses that go outside by them.

The devices are ours alone: an address on one that nobody wants goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ncp.plumbing import netlink
from ncp.plumbing.namespace import Namespace, sysctl
from ncp.plumbing.netlink import FAMILY
from ncp.translate.uplinks import Uplink

NO_DAD: Final = 0x02  # IFA_F_NODAD: an address in doubt cannot be used for a second
LINK_LOCAL: Final = "fe80:"

Held = tuple[int, str, int]
"""An address on a device: its family, itself as netlink has it, and the length of its prefix."""


class UplinkDevices:
    """The devices in the node's namespace (by name or path; empty: the process's own). Any thread may call."""

    def __init__(self, netns: str = "") -> None:
        self._node = Namespace(netns, threads=1)

    def close(self) -> None:
        """End the thread; the devices stay."""
        self._node.close()

    def ensure(self, wanted: Iterable[Uplink]) -> dict[str, str]:
        """Bring devices up with their addresses, and no others; why one could not be, by its name.

        The MTU is what the switch gives a port of such a bridge: that of its other devices.
        """
        wanted = tuple(wanted)
        return self._node.call(lambda ipr: _ensure(ipr, wanted)) if wanted else {}


def _ensure(ipr: IPRoute, wanted: tuple[Uplink, ...]) -> dict[str, str]:
    refused = {}
    held: dict[int, set[Held]] = {}
    for row in netlink.addresses():
        held.setdefault(row.device, set()).add((row.family, row.address, row.length))
    for uplink in wanted:
        try:
            _bring_up(ipr, uplink, held)
        except (NetlinkError, OSError) as error:
            refused[uplink.name] = f"the kernel refused its device or an address of it: {error}"
    return refused


def _bring_up(ipr: IPRoute, uplink: Uplink, held: dict[int, set[Held]]) -> None:
    link = ipr.link("get", ifname=uplink.name)[0]
    index = int(link["index"])
    # Who comes in by one uplink may be answered by another; the node tells no stranger its way by a router's advertisement.
    sysctl(f"net/ipv4/conf/{uplink.name}/rp_filter", "2")
    sysctl(f"net/ipv6/conf/{uplink.name}/disable_ipv6", "0")
    sysctl(f"net/ipv6/conf/{uplink.name}/accept_ra", "0")
    sysctl(f"net/ipv6/conf/{uplink.name}/accept_dad", "0")
    if link.get("state") != "up":
        ipr.link("set", index=index, state="up")
    wanted = {(each.family, netlink.text_of(each.address), each.length) for each in uplink.addresses}
    there = {each for each in held.get(index, ()) if not each[1].startswith(LINK_LOCAL)}
    for family, address, length in sorted(there - wanted):
        ipr.addr("del", index=index, family=FAMILY[family], address=address, prefixlen=length)
    for family, address, length in sorted(wanted - there):
        flags = {"flags": NO_DAD} if family == 6 else {}
        ipr.addr("replace", index=index, family=FAMILY[family], address=address, prefixlen=length, **flags)

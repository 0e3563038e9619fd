"""The cable between a pod and the switch: a veth pair, one end in the node's namespace and one in the pod's.

The switch end is silent: no ARP, no IPv6, strict reverse-path filter. In the userspace datapath the kernel sees
every frame of the pod as well as Open vSwitch does, and must neither answer nor route it past the firewall.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import EthtoolError
from pyroute2.netlink.exceptions import NetlinkError

from ipam.address import Address, Interface
from ncp.plumbing.namespace import Namespace, NamespaceMissing, NetworkError, opened, sysctl
from ncp.plumbing.offload import disable_offload

SWITCH_END_MTU: Final = 9216
"""MTU of the switch end. The pod end has the pod's MTU. A veth drops, in silence, a frame larger than the receiving
end's MTU; with the larger one here, a packet that is too big for the overlay (the pod's owner raised the MTU) still
reaches the switch, which can answer with "fragmentation needed" or "packet too big"."""

IFA_F_NODAD: Final = 0x02
IFA_F_PERMANENT: Final = 0x80
FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
DEFAULT: Final = {4: "0.0.0.0/0", 6: "::/0"}
ENODEV, EEXIST = 19, 17


def interface_name(container_id: str) -> str:
    """Name of the switch end, from the container id alone, so that a removal needs nothing but it."""
    return "veth" + hashlib.blake2b(container_id.encode(), digest_size=5).hexdigest()


@dataclass(frozen=True, slots=True)
class Wire:
    """A pod's cable as it should be. ``netns`` is the pod's namespace, by path or name; ``ifname`` the device in it."""

    container_id: str
    netns: str
    ifname: str
    mac: str
    addresses: tuple[Interface, ...]
    gateways: tuple[Address, ...]
    mtu: int

    @property
    def interface(self) -> str:
        """Name of the switch end."""
        return interface_name(self.container_id)

    @property
    def interface_mac(self) -> str:
        """MAC of the switch end, which nobody ever sends to: chosen, so that it need not be asked for."""
        return "02:4c:" + hashlib.blake2b(self.container_id.encode(), digest_size=4).digest().hex(":")


class Connected(NamedTuple):
    """A cable as it is. ``fresh`` says that it was made now, not found."""

    interface: str
    interface_mac: str
    fresh: bool


class PodPlumber:
    """Makes, checks and removes pods' cables. ``netns`` is the node's namespace; any thread may call."""

    def __init__(self, netns: str = "") -> None:
        self._node = Namespace(netns)

    def close(self) -> None:
        """End the threads; cables stay."""
        self._node.close()

    def connect(self, wire: Wire) -> Connected:
        """Make the cable, or adopt the one of the same container; returns as soon as the switch end is there and up.

        Nothing goes over it yet: that takes :meth:`configure`, while which the switch may open the switch end.

        Raises:
            NamespaceMissing: the pod's or the node's namespace does not exist.
            NetworkError: the pod has another device of that name, or the kernel refused.
        """
        return self._node.call(lambda ipr: self._connect(ipr, wire))

    def configure(self, wire: Wire) -> Future[None]:
        """Silence the switch end, give the pod end its addresses and routes; repeating it changes nothing.

        Errors as for :meth:`connect`.
        """
        return self._node.submit(lambda ipr: self._configure(wire))

    def disconnect(self, container_id: str) -> bool:
        """Remove a container's cable; False when there was none."""
        return self._node.call(lambda ipr: _remove(ipr, interface_name(container_id)))

    def check(self, wire: Wire) -> tuple[str, ...]:
        """What is missing or wrong about a cable, as sentences; empty when all is well."""
        return self._node.call(lambda ipr: self._check(ipr, wire))

    def _connect(self, ipr: IPRoute, wire: Wire) -> Connected:
        with opened(wire.netns) as pod, _explained(wire, f"connect {wire.interface}"):
            if _create(ipr, pod, wire):
                return Connected(wire.interface, wire.interface_mac, fresh=True)
            switch_end = _link(ipr, wire.interface)
            if switch_end is not None and self._is_connected(pod, wire, switch_end):
                ipr.link("set", index=switch_end["index"], state="up", arp=False, mtu=SWITCH_END_MTU)
                return Connected(wire.interface, str(switch_end.get("address")), fresh=False)
            if switch_end is not None:
                ipr.link("del", index=switch_end["index"])
            if not _create(ipr, pod, wire):
                raise NetworkError(f"{wire.netns} has another device {wire.ifname} already: remove it")
            return Connected(wire.interface, wire.interface_mac, fresh=True)

    def _is_connected(self, pod: int, wire: Wire, switch_end: Any) -> bool:
        with self._node.visiting(pod) as inside:
            pod_end = _link(inside, wire.ifname)
        return (
            pod_end is not None
            and pod_end.get("link") == switch_end["index"]
            and switch_end.get("link") == pod_end["index"]
            and pod_end.get("address") == wire.mac.lower()
        )

    def _configure(self, wire: Wire) -> None:
        with opened(wire.netns) as pod, _explained(wire, f"configure {wire.interface}"):
            _quiet(wire.interface)
            disable_offload(wire.interface)
            with self._node.visiting(pod) as ipr, _explained(wire, f"configure {wire.ifname}"):
                _configure_pod_end(ipr, wire)

    def _check(self, ipr: IPRoute, wire: Wire) -> tuple[str, ...]:
        missing = []
        switch_end = _link(ipr, wire.interface)
        if switch_end is None:
            missing.append(f"the switch end {wire.interface} is gone")
        elif not switch_end["flags"] & 1:
            missing.append(f"the switch end {wire.interface} is down")
        try:
            with opened(wire.netns) as pod, self._node.visiting(pod) as inside:
                missing.extend(_check_pod_end(inside, wire))
        except NamespaceMissing as error:
            missing.append(str(error))
        return tuple(missing)


def _create(ipr: IPRoute, pod: int, wire: Wire) -> bool:
    """Make the pair, its switch end up and without ARP; False when either name is taken.

    All in one message, so that the switch may open the device as soon as it exists: it reads, changes and writes the
    device's flags itself, and would undo what changes in between. Until the pod end is up, nothing goes over the cable.
    """
    peer = {"ifname": wire.ifname, "net_ns_fd": pod, "address": wire.mac, "mtu": wire.mtu}
    switch_end = {"ifname": wire.interface, "address": wire.interface_mac, "mtu": SWITCH_END_MTU}
    try:
        ipr.link("add", kind="veth", **switch_end, state="up", arp=False, peer=peer)
    except NetlinkError as error:
        if error.code != EEXIST:
            raise
        return False
    return True


def _configure_pod_end(ipr: IPRoute, wire: Wire) -> None:
    try:
        index = socket.if_nametoindex(wire.ifname)  # asking netlink takes a hundred times as long
    except OSError as error:
        raise NetworkError(f"{wire.netns} has no device {wire.ifname}") from error
    _prepare_ipv6(wire)
    disable_offload(wire.ifname)
    ipr.link("set", index=index, state="up", mtu=wire.mtu)
    for address in wire.addresses:
        ipr.addr("replace", index=index, **_address(address))
    for gateway in wire.gateways:
        ipr.route("replace", family=FAMILY[gateway.family], dst=DEFAULT[gateway.family], **_via(gateway, index))
    ipr.link("set", index=1, state="up")


def _check_pod_end(ipr: IPRoute, wire: Wire) -> Iterator[str]:
    link = _link(ipr, wire.ifname)
    if link is None:
        yield f"device {wire.ifname} is gone from {wire.netns}"
        return
    if not link["flags"] & 1:
        yield f"{wire.ifname} is down"
    if link.get("address") != wire.mac.lower():
        yield f"{wire.ifname} has MAC {link.get('address')}, not {wire.mac.lower()}"
    if link.get("mtu") != wire.mtu:
        yield f"{wire.ifname} has MTU {link.get('mtu')}, not {wire.mtu}"
    index = link["index"]
    have = {(row["family"], row.get("address"), row["prefixlen"]) for row in ipr.get_addr(index=index)}
    for address in wire.addresses:
        if (FAMILY[address.family], str(address.address), address.length) not in have:
            yield f"{wire.ifname} lacks address {address}"
    defaults = {
        (row["family"], row.get("gateway"))
        for family in FAMILY.values()
        for row in ipr.get_default_routes(family=family)
        if row.get("oif") == index
    }
    for gateway in wire.gateways:
        if (FAMILY[gateway.family], str(gateway)) not in defaults:
            yield f"{wire.ifname} lacks the default route via {gateway}"


def _prepare_ipv6(wire: Wire) -> None:
    """Before the pod end goes up: no waiting for duplicate address detection, no router advertisements.

    The link-local address stays the kernel's own (EUI-64 of the MAC: RFC 4291 appendix A), as the spoof guard expects.
    """
    if not any(address.family == 6 for address in wire.addresses):
        return
    base = f"net/ipv6/conf/{wire.ifname}"
    sysctl(f"{base}/accept_dad", "0")
    sysctl(f"{base}/dad_transmits", "0")
    sysctl(f"{base}/accept_ra", "0")
    sysctl(f"{base}/addr_gen_mode", "0")
    sysctl("net/ipv6/conf/lo/disable_ipv6", "0")
    sysctl(f"{base}/disable_ipv6", "0")


def _quiet(interface: str) -> None:
    sysctl(f"net/ipv6/conf/{interface}/disable_ipv6", "1")
    sysctl(f"net/ipv4/conf/{interface}/rp_filter", "1")


def _link(ipr: IPRoute, name: str) -> Any:
    """A device by name, None when there is none."""
    try:
        return next(iter(ipr.link("get", ifname=name)), None)
    except NetlinkError as error:
        if error.code == ENODEV:
            return None
        raise


def _remove(ipr: IPRoute, name: str) -> bool:
    link = _link(ipr, name)
    if link is None:
        return False
    try:
        ipr.link("del", index=link["index"])
    except NetlinkError as error:
        if error.code != ENODEV:
            raise
        return False  # it went by itself, with the pod's namespace
    return True


def _address(interface: Interface) -> dict[str, object]:
    found: dict[str, object] = {"address": str(interface.address), "prefixlen": interface.length}
    if interface.family == 6:
        found["flags"] = IFA_F_NODAD | IFA_F_PERMANENT
    return found


def _via(gateway: Address, index: int) -> dict[str, object]:
    return {"gateway": str(gateway), "oif": index}


@contextlib.contextmanager
def _explained(wire: Wire, what: str) -> Iterator[None]:
    try:
        yield
    except (NetlinkError, EthtoolError, OSError) as error:
        raise NetworkError(f"cannot {what} of container {wire.container_id} in {wire.netns}: {error}") from error

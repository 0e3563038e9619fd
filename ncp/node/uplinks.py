"""A node's uplinks: their ports on the switch, their devices, and whether they lead anywhere."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable

from ipam.address import Address, Prefix
from ncp.plumbing.uplink import UplinkDevices
from ncp.translate.objects import Object, format_mac, origin_of
from ncp.translate.uplinks import Uplink, uplinks
from sdn.model import Origin, Problem
from sdn.ovsdb.client import AttachError, Ovsdb, OvsdbUnavailable
from sdn.ovsdb.uplinks import UplinkPort

log = logging.getLogger(__name__)


class NodeUplinks:
    """Keeps a node's uplinks as its Node object says. ``on_change`` is called when :meth:`up` or :meth:`problems` changed.

    :meth:`keep` is called by one thread, :meth:`look` by any.
    """

    def __init__(self, node: str, ovsdb: Ovsdb, devices: UplinkDevices, on_change: Callable[[], None]) -> None:
        self._node = node
        self._ovsdb = ovsdb
        self._devices = devices
        self._on_change = on_change
        self._wanted: tuple[Uplink, ...] = ()
        self._made: tuple[Uplink, ...] = ()
        self._origin = Origin("Node", "", node)
        self._wrong: tuple[Problem, ...] = ()
        self._said: tuple[frozenset[str], tuple[Problem, ...]] = (frozenset(), ())

    def keep(self, node: Object, own: Iterable[Address], blocks: Iterable[Prefix]) -> None:
        """Make the uplinks so; what is wrong is in :meth:`problems`. An annotation that is wrong changes nothing.

        Args:
            node: the Node object.
            own: the node's addresses, whose networks are no uplink's.
            blocks: where pods have their addresses.
        """
        self._origin = origin_of("Node", node)
        wanted, wrong = uplinks(node)
        if wanted is not None:
            taken = [
                ("the node's own address", Prefix(each.family, each.value, 32 if each.family == 4 else 128))
                for each in own
            ]
            taken += [("the block of pods' addresses", each) for each in blocks]
            refused = overlapping(wanted, taken)
            self._wanted = tuple(each for each in wanted if each.name not in refused)
            wrong = tuple(Problem(self._origin, "UPLINK_INVALID", refused[name]) for name in sorted(refused))
        self._wrong = (*wrong, *self._make())
        self.look()

    def up(self) -> frozenset[str]:
        """Names of the uplinks that are there and have a device outside with a carrier."""
        carriers = self._ovsdb.carriers()
        return frozenset(each.name for each in self._made if carriers.get(each.name))

    @property
    def wanted(self) -> tuple[Uplink, ...]:
        """The uplinks there should be; none: the node uses the devices it has."""
        return self._wanted

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the uplinks now."""
        up = self.up()
        return (*self._wrong, *(self._lost(each) for each in self._made if each.name not in up))

    def look(self) -> None:
        """Tell of what changed, if anything did: a carrier may have come or gone."""
        says = (self.up(), self.problems())
        if says != self._said:
            if says[0] != self._said[0]:
                log.info("node %s: uplinks that are up: %s", self._node, ", ".join(sorted(says[0])) or "none")
            self._said = says
            self._on_change()

    def close(self) -> None:
        """End the thread that works on devices; they stay."""
        self._devices.close()

    def _make(self) -> list[Problem]:
        ports = [
            UplinkPort(each.name, each.bridge, each.vlan, uplink_mac(self._node, each.name)) for each in self._wanted
        ]
        try:
            refused = dict(self._ovsdb.ensure_uplinks(ports).refused)
        except (AttachError, OvsdbUnavailable) as error:
            log.warning("node %s: its uplinks are not as they should be: %s; trying again", self._node, error)
            return []
        made = tuple(each for each in self._wanted if each.name not in refused)
        refused |= self._devices.ensure(made)
        self._made = tuple(each for each in made if each.name not in refused)
        return [
            Problem(self._origin, "UPLINK_INVALID", f"uplink {name!r} of node {self._node}: {why}")
            for name, why in sorted(refused.items())
        ]

    def _lost(self, uplink: Uplink) -> Problem:
        why = f"none of the devices that lead outside of bridge {uplink.bridge} has a carrier, or there is none"
        return Problem(self._origin, "UPLINK_DOWN", f"uplink {uplink.name!r} of node {self._node} leads nowhere: {why}")


def overlapping(wanted: Iterable[Uplink], taken: Iterable[tuple[str, Prefix]]) -> dict[str, str]:
    """Uplinks that would take the way to what is elsewhere, by name: why."""
    taken = tuple(taken)
    return {
        each.name: f"uplink {each.name!r}: addresses: the network of {address} has {whose} {prefix} in it; give it another network"
        for each in wanted
        for address in each.addresses
        for whose, prefix in taken
        if address.prefix.overlaps(prefix)
    }


def uplink_mac(node: str, name: str) -> str:
    """The Ethernet address of an uplink's device: 02:4f and four bytes that follow from the node's and the uplink's name."""
    digest = hashlib.blake2b(f"{node}/{name}".encode(), digest_size=4).digest()
    return format_mac(0x024F << 32 | int.from_bytes(digest, "big"))

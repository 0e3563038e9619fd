"""Policy rules (ip-rule(8)) that hand packets for services at the node's own addresses to the switch.

The kernel asks its ``local`` table first, where a node's own addresses end every journey. So that table's rule moves behind ours.
Rules of ours carry protocol number 78 (FRA_PROTOCOL, Linux 4.17), so that stale ones are told from everybody else's.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ipam.address import WIDTH, Address
from ncp.plumbing import netlink
from ncp.plumbing.namespace import NetworkError
from ncp.plumbing.netlink import FAMILY

PROTOCOL: Final = 78
TABLE: Final = 78
"""Holds a default route to the switch."""
LOCAL: Final = 255
FROM_SWITCH: Final = 90
TO_SWITCH: Final = 95
LOCAL_LAST: Final = 200
"""Preferences of our rules; the last is where the ``local`` table's own rule goes, from 0."""
NUMBERS: Final = {"tcp": 6, "udp": 17, "sctp": 132}


class Rule(NamedTuple):
    """One rule, by what it asks of a packet; empty and 0 mean anything."""

    family: int  # 4 or 6
    preference: int
    table: int
    device: str = ""
    to: str = ""
    protocol: int = 0
    ports: tuple[int, int] = (0, 0)  # first and last destination port

    def __str__(self) -> str:
        ports = "{}-{}".format(*self.ports) if self.protocol else ""
        words = {"from device": self.device, "to": self.to, "protocol": self.protocol, "ports": ports}
        said = "".join(f" {name} {value}" for name, value in words.items() if value)
        return f"IPv{self.family} rule {self.preference}:{said} table {self.table}"


def wanted(
    device: str, own: Iterable[Address], node_ports: tuple[int, int], ports: Iterable[tuple[str, int]]
) -> list[Rule]:
    """Rules of a node with these addresses: node ports and single ports (protocol, number) go to the switch by way of ``device``.

    What the switch gives back is the node's, or what it does not serve would run in circles.
    """
    spans = [(NUMBERS[name], node_ports) for name in NUMBERS]
    spans += [(NUMBERS[name], (port, port)) for name, port in ports if not node_ports[0] <= port <= node_ports[1]]
    found = [Rule(family, *each) for family in FAMILY for each in ((FROM_SWITCH, LOCAL, device), (LOCAL_LAST, LOCAL))]
    for address in own:
        found += [Rule(address.family, TO_SWITCH, TABLE, to=str(address), protocol=p, ports=s) for p, s in spans]
    return found


def ensure(ipr: IPRoute, rules: Iterable[Rule]) -> int:
    """Make exactly these our rules, and the ``local`` table be asked at our place only; how many were changed.

    A packet always finds a rule for the ``local`` table: the new one is there before the old one goes.

    Raises:
        NetworkError: the kernel refused a rule; the message names it.
    """
    want, changed = set(rules), 0
    have = [row for family in FAMILY for row in netlink.rules(family) if not row.more]
    ours = {Rule(*row[:7]) for row in have if row.made_by == PROTOCOL}
    for rule in sorted(want - ours, key=lambda each: -each.preference):
        changed += _change(ipr, "add", rule, PROTOCOL)
    for rule in sorted(ours - want):
        changed += _change(ipr, "del", rule, PROTOCOL)
    for row in have:
        if Rule(*row[:7]) == Rule(row.family, 0, LOCAL) and Rule(row.family, LOCAL_LAST, LOCAL) in want:
            changed += _change(ipr, "del", Rule(*row[:7]), row.made_by)
    return changed


def _change(ipr: IPRoute, command: str, rule: Rule, protocol: int) -> int:
    """Do it; 0 where it was so already."""
    said: dict[str, Any] = {"family": FAMILY[rule.family], "priority": rule.preference, "table": rule.table}
    if rule.device:
        said["iifname"] = rule.device
    if rule.to:
        said |= {"dst": rule.to, "dst_len": WIDTH[rule.family]}
    if rule.protocol:
        said |= {"ip_proto": rule.protocol, "dport_range": "{}:{}".format(*rule.ports)}
    if protocol:
        said["protocol"] = protocol
    try:
        ipr.rule(command, **said)
    except NetlinkError as error:
        if command == "add" and error.code == errno.EEXIST:  # somebody else's, which does the same
            return 0
        raise NetworkError(f"cannot {command} the {rule}: {error}") from error
    return 1

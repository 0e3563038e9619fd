"""Conntrack zones of ports that come and go with a change. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable

from sdn.openflow.conntrack import Flush
from sdn.openflow.match import unpack_match
from sdn.pipeline.flow import Match
from sdn.pipeline.registers import GENEVE_PORT, NODE_PORT
from sdn.pipeline.tables import T
from sdn.program import Changes


def zones_of_new_ports(changes: Changes, installed: Container[bytes]) -> list[Flush]:
    """The zones of ports that packets are taken from for the first time.

    Args:
        changes: what is to be sent.
        installed: keys of the flows that are on the switch already.
    """
    new = (each for each in changes.add if each.flow.table == T["classify"] and each.key not in installed)
    return _zones(each.flow.match for each in new)


def zones_of_old_ports(changes: Changes) -> list[Flush]:
    """The zones of ports that packets are no longer taken from."""
    return _zones(unpack_match(match) for table, _, match in changes.delete if table == T["classify"])


def _zones(matches: Iterable[Match]) -> list[Flush]:
    ports = {value for match in matches for name, value, _ in match if name == "in_port"}
    return [Flush(zone=port) for port in sorted(ports - {GENEVE_PORT, NODE_PORT})]

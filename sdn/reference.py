"""The intent as the firewall's oracle sees it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from firewall.rules import Section
from firewall.verdict import Workload, World, world
from sdn.model import Intent, LogicalPort


def workload(port: LogicalPort) -> Workload:
    """A port as the oracle knows it."""
    return Workload(port.name, port.identity, port.addresses, port.node)


def reference(intent: Intent, sections: Iterable[Section] | None = None, domain: int = 0) -> World:
    """The world that verdicts about connections in one routing domain are asked of; with these sections only, where they are given.

    Of two ports that claim an address the one whose name sorts first has it, as in programs.
    """
    inside = (port for port in intent.ports.values() if intent.domain_of(port) == domain)
    return world(
        intent.sections.values() if sections is None else sections,
        map(workload, sorted(inside, key=lambda port: port.name, reverse=True)),
        intent.namespaces,
        nodes={} if domain else {node.name: node.addresses for node in intent.nodes.values()},
        blocks=intent.domains.get(domain, ()) if domain else intent.blocks,
        priorities=intent.firewall.priorities,
    )

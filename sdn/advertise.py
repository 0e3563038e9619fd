"""Which networks a node says, in a routing protocol, are reached over it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, Literal, TypeAlias

from ipam.address import WIDTH, Address, Prefix
from sdn.model import Intent, LogicalSwitch
from sdn.services import Slice, VirtualServer

What: TypeAlias = Literal["vips", "snat", "no_snat", "segments"]
KINDS: Final[tuple[What, ...]] = ("vips", "snat", "no_snat", "segments")


def advertised(intent: Intent, me: str, kinds: Collection[str], *, everywhere: bool = False) -> tuple[Prefix, ...]:
    """The networks that node ``me`` announces, sorted, each once.

    Only the node that traffic leaves by announces; with ``everywhere`` all that ask do, but for addresses that traffic is
    translated to: answers to those have to come to the node that translated.

    Args:
        intent: the network.
        me: a node that speaks with routers outside.
        kinds: which of :data:`KINDS` are wanted.
        everywhere: edges are all active.
    """
    active = intent.tier0.exit_node == me
    found: set[Prefix] = set()
    if active or everywhere:
        if "vips" in kinds:
            found.update(map(_host, _virtual(intent, me)))
        for switch in intent.switches.values():
            found.update(_networks(intent, switch, kinds))
    if active and "snat" in kinds:
        found.update(map(_host, _translated(intent)))
    return tuple(sorted(found))


def _virtual(intent: Intent, me: str) -> Iterator[Address]:
    """Addresses of load balancers that somebody answers at; where only a node's own members count, one of this node."""
    taken = {address for node in intent.nodes.values() for address in node.addresses}
    for name, server in intent.services.items():
        if server.balancers:
            slices = intent.slices.get(name, {}).values()
            only = me if "external" in server.local else ""
            for family in {each.family for each in server.balancers}:
                if _answers(server, slices, family, only):
                    yield from (each for each in server.balancers if each.family == family and each not in taken)


def _answers(server: VirtualServer, slices: Iterable[Slice], family: int, only: str) -> bool:
    """Whether a port has a member that takes connections (see :func:`sdn.services.members`)."""
    return any(
        each.ready or server.takes_unready or (each.serving and each.terminating)
        for part in slices
        for port in server.ports
        for each in part.behind(port, family).values()
        if not only or each.node == only
    )


def _networks(intent: Intent, switch: LogicalSwitch, kinds: Collection[str]) -> Iterator[Prefix]:
    """Of a segment: all networks, or those whose pods keep their addresses on the way out."""
    for gateway in switch.gateways:
        translated = switch.snat and gateway.family in intent.snat_families
        if "segments" in kinds or ("no_snat" in kinds and not translated):
            yield gateway.prefix


def _translated(intent: Intent) -> Iterator[Address]:
    for switch in intent.switches.values():
        yield from switch.translated
    for server in intent.services.values():
        yield from server.translated
    for binding in intent.bindings.values():
        yield from binding.external


def _host(address: Address) -> Prefix:
    return Prefix(address.family, address.value, WIDTH[address.family])

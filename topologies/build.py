"""Builds an underlay on this machine from network namespaces, veth pairs and Linux bridges."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from ipam.address import Prefix
from topologies import netns
from topologies.plan import Batch, namespace, namespaces, plan, plugs
from topologies.spec import Topology, TopologyError

PARALLEL = 4


def build(topology: Topology, lab: str, undo: ExitStack, blocks: Iterable[Prefix] = ()) -> None:
    """Build the underlay of a lab; every creation registers its removal on ``undo``.

    A network with a VLAN is left as wires' ends that a switch, which the lab makes, is to join.

    Args:
        topology: what to build.
        lab: the lab's id, part of every namespace's name.
        undo: closed by the caller when the lab goes down or its start fails.
        blocks: where pods have their addresses: routed to the exit node by the external host and the routers.

    Raises:
        NamespaceError: the kernel refused; what was made so far is removed by ``undo``.
    """
    first, *others = plan(topology, lab, blocks)
    with ThreadPoolExecutor(PARALLEL) as pool:
        for made in [pool.submit(_create, name, undo) for name in namespaces(topology, lab)]:
            made.result()
        _apply(first)  # lays every wire; the others own an end of one
        for applied in [pool.submit(_apply, batch) for batch in others]:
            applied.result()


def remove(lab: str) -> tuple[str, ...]:
    """Remove every namespace that carries the lab's id, whoever made it; returns their names."""
    found = netns.with_prefix(f"ncp{lab}-")
    with ThreadPoolExecutor(PARALLEL) as pool:
        for removed in [pool.submit(netns.remove, name) for name in found]:
            removed.result()
    return found


def set_wire(topology: Topology, lab: str, owner: str, network: str, *, up: bool) -> None:
    """Plug a wire of a host or router in, or pull it out: its far end, so that the owner sees its carrier come and go.

    Raises:
        TopologyError: nobody of that name has a link to that network.
        NamespaceError: the underlay is not there.
    """
    port = next((each.port for each in plugs(topology) if (each.owner, each.link.network) == (owner, network)), None)
    if port is None:
        there = ", ".join(f"{each.owner} to {each.link.network}" for each in plugs(topology))
        raise TopologyError(f"no wire of {owner!r} to network {network!r}; there are {there}")
    netns.ip("-n", namespace(lab, "ul"), "link", "set", port, "up" if up else "down")


def _create(name: str, undo: ExitStack) -> None:
    undo.callback(netns.remove, name)
    netns.create(name)


def _apply(batch: Batch) -> None:
    from ncp.plumbing.offload import disable_offload  # only here: it brings a netlink library that takes 0.3 s

    def prepare() -> None:
        netns.set_sysctls(batch.sysctls)
        for device in batch.plain:
            disable_offload(device)

    netns.inside(batch.namespace, prepare)
    netns.batch(batch.namespace, batch.commands)

"""Builds an underlay on this machine from network namespaces, veth pairs and Linux bridges."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from ipam.address import Prefix
from topologies import netns
from topologies.plan import Batch, namespaces, plan
from topologies.spec import Topology

PARALLEL = 4


def build(topology: Topology, lab: str, undo: ExitStack, blocks: Iterable[Prefix] = ()) -> None:
    """Build the underlay of a lab; every creation registers its removal on ``undo``.

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

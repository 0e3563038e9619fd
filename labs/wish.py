"""What `up` is asked for, and the topology that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labs.errors import LabError, UsageError
from labs.state import State, read_record
from topologies import catalog, document
from topologies.spec import Topology, TopologyError

EMBEDDED, REAL = "embedded", "real"


@dataclass(frozen=True, slots=True)
class Wish:
    """What `up` was asked for; None leaves it as the lab was before, or to the default."""

    topology: str | None = None  # a name or a file
    nodes: int | None = None
    kube: str | None = None  # EMBEDDED or REAL
    config: Path | None = None
    keep: bool = False  # leave what a failed start has made


def topology_for(state: State, wish: Wish) -> Topology:
    """The topology wished for; else the one the lab was made with; else the default.

    Raises:
        UsageError: there is no such topology, or it cannot be built.
        LabError: the lab was made with another one.
    """
    try:
        before = document.load(state.topology) if state.exists() and state.topology.exists() else None
        wished = _wished(wish)
    except TopologyError as error:
        raise UsageError(str(error)) from error
    if before and wished and before != wished:
        made = f"the lab in {state.root} was made as {before.name} with {len(before.nodes)} nodes"
        asked = f"asked for is {wished.name} with {len(wished.nodes)}"
        raise LabError(f"{made}, {asked}: take it down first (ncp lab down --state {state.root})")
    return wished or before or catalog.named(catalog.DEFAULT)


def kube_for(state: State, wish: Wish) -> str:
    """The kind of API wished for; else the one the lab was made with; else the embedded one.

    Raises:
        LabError: the lab was made with the other one, which has its objects.
    """
    before = read_record(state).get("kube")
    if before and wish.kube and before != wish.kube:
        down = f"take it down first (ncp lab down --state {state.root})"
        raise LabError(f"the lab in {state.root} has its objects in its {before} API, asked for is {wish.kube}: {down}")
    return wish.kube or before or EMBEDDED


def _wished(wish: Wish) -> Topology | None:
    if wish.topology is None:
        return None if wish.nodes is None else catalog.named(catalog.DEFAULT, wish.nodes)
    if wish.topology in catalog.CATALOG or not Path(wish.topology).exists():
        return catalog.named(wish.topology, wish.nodes)
    if wish.nodes is not None:
        raise TopologyError(f"--nodes {wish.nodes}: a file says itself which nodes there are")
    return document.load(Path(wish.topology))


def topology_of(state: State) -> Topology:
    """The topology a lab was made with.

    Raises:
        LabError: there is no lab here.
    """
    if not state.exists() or not state.topology.exists():
        raise LabError(f"there is no lab in {state.root}; `ncp lab up --state {state.root}` makes one")
    return document.load(state.topology)

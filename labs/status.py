"""What a lab is doing: every process, every node, how many pods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labs import ready
from labs import state as states
from labs.processes import Table
from labs.state import State
from labs.wish import topology_of
from ncp.kube.client import AccessError, ApiError, Kube
from ncp.kube.resources import PODS


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process: its pid, whether it runs, how often `restart` replaced it, its loopback port if it serves one."""

    name: str
    pid: int
    up: bool
    restarts: int
    port: int | None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node: whether its agent speaks to its switch, has programmed it, is Ready in the API, and its pods by phase."""

    name: str
    addresses: tuple[str, ...]
    connected: bool
    in_step: bool
    ready: bool
    flows: int
    ports: int
    pods: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LabStatus:
    """A lab at one moment."""

    state: str
    lab: str
    topology: str
    kube: str
    api: bool
    processes: tuple[ProcessStatus, ...]
    nodes: tuple[NodeStatus, ...]

    @property
    def down(self) -> tuple[str, ...]:
        """What is not as it should be, in words."""
        gone = tuple(f"{one.name} is down" for one in self.processes if not one.up)
        api = () if self.api or not self.processes else ("the API does not answer",)
        nodes = tuple(f"{one.name}'s agent is not connected" for one in self.nodes if not one.connected)
        waiting = tuple(f"{one.name} is not Ready" for one in self.nodes if one.connected and not one.ready)
        return (*gone, *api, *nodes, *(waiting if self.api else ())) if self.processes else ("nothing of it runs",)


def status(state: State) -> LabStatus:
    """Look at a lab.

    Raises:
        LabError: there is no lab here.
    """
    topology = topology_of(state)
    record = states.read_record(state)
    ports: Mapping[str, int] = record.get("ports", {})
    processes = tuple(
        ProcessStatus(one.command.name, one.pid, one.alive, one.restarts, ports.get(one.command.name))
        for one in Table(state)
    )
    nodes_ready = ready.nodes_ready(state)
    pods = _pods(state) if nodes_ready is not None else {}
    nodes = tuple(
        _node(state, node.name, tuple(str(one.address) for one in node.link.addresses), nodes_ready or set(), pods)
        for node in topology.nodes
    )
    kube = str(record.get("kube", ""))
    return LabStatus(str(state.root), state.lab, topology.name, kube, nodes_ready is not None, processes, nodes)


def _node(
    state: State, name: str, addresses: tuple[str, ...], nodes_ready: set[str], pods: Mapping[str, Mapping[str, int]]
) -> NodeStatus:
    said: Mapping[str, Any] = ready.agent_status(state, name) or {}
    return NodeStatus(
        name=name,
        addresses=addresses,
        connected=bool(said.get("connected")),
        in_step=bool(said.get("in_step")),
        ready=name in nodes_ready,
        flows=int(said.get("flows") or 0),
        ports=len(said.get("ports") or ()),
        pods=pods.get(name, {}),
    )


def _pods(state: State) -> dict[str, dict[str, int]]:
    try:
        pods, _ = Kube.connect(str(state.kubeconfig)).list(PODS)
    except (ApiError, AccessError):
        return {}
    found: dict[str, Counter[str]] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName") or ""
        found.setdefault(node, Counter())[pod.get("status", {}).get("phase", "Pending")] += 1
    return {node: dict(count) for node, count in found.items()}

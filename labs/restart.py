"""Killing one part of a lab and starting it again, as a crash and its recovery would."""

from __future__ import annotations

import time
from collections.abc import Callable

from labs import parts, processes, ready, requirements, routers, switches
from labs import state as states
from labs.errors import LabError, explained
from labs.processes import Table
from labs.progress import Progress
from labs.ready import Waiter
from labs.state import State
from labs.wish import REAL, topology_of
from topologies import bgp
from topologies.spec import Topology, TopologyError

PER_NODE = ("node", "switch", "router")
SINGLE = (parts.MANAGER, parts.API, parts.CLUSTER, parts.KUBELET)


def restart(state: State, part: str, node: str = "", progress: Progress | None = None) -> None:
    """Kill one part (SIGKILL), start it again with the same arguments, and return when it is ready.

    Args:
        state: the lab.
        part: one of SINGLE, or of PER_NODE with ``node``.
        node: whose agent or switch; for ``router`` a router that speaks BGP, or ``ext``: its routing daemons.
        progress: told when it is ready again.

    Raises:
        LabError: no lab, no such node, or the part does not come back.
    """
    topology = topology_of(state)
    if part == "router":
        _check_speaker(topology, node)
    elif part in PER_NODE:
        try:
            topology.node(node)
        except TopologyError as error:
            raise LabError(str(error)) from error
    requirements.check_root()
    with states.locked(state), explained(), (progress or Progress()).step(f"restarted {part} {node}".rstrip()):
        table = Table(state)
        if part == "switch":
            _restart_switch(state, topology, table, node)
        elif part == "router":
            for name in routers.names(node):
                processes.kill(table.get(name))
            routers.start(state, topology, table, Waiter(state), node)
        elif part == parts.API and states.read_record(state).get("kube") == REAL:
            _restart_real_api(state, table)
        else:
            name = parts.agent(node) if part == "node" else part
            since = time.time()
            _replace(table, name)
            Waiter(state).until(f"{name} is ready", _condition(state, topology, name, since), [table.get(name)])


def _check_speaker(topology: Topology, name: str) -> None:
    who = bgp.speakers(topology)
    if name not in who:
        raise LabError(
            f"no router {name!r} speaks BGP in topology {topology.name}; there are {', '.join(who) or 'none'}"
        )


def _replace(table: Table, name: str) -> None:
    running = table.get(name)
    processes.kill(running)
    table.start(running.command)


def _restart_switch(state: State, topology: Topology, table: Table, node: str) -> None:
    if not table.get(parts.database(node)).alive:
        _replace(table, parts.database(node))
    _replace(table, parts.switch(node))
    switches.await_configured(state, node)
    switches.connect(state, topology, node)
    if table.get(parts.agent(node)).alive:
        needs = [table.get(parts.agent(node)), table.get(parts.switch(node))]
        Waiter(state).until(f"{node} is programmed", lambda: ready.agent_ready(state, node), needs)


def _restart_real_api(state: State, table: Table) -> None:
    port = states.read_record(state)["ports"][parts.API]
    for command, is_ready in parts.real_api(state, port):
        _replace(table, command.name)
        Waiter(state).until(f"{command.name} is ready", is_ready, [table.get(command.name)])


def _condition(state: State, topology: Topology, name: str, since: float) -> Callable[[], object]:
    if name == parts.API:
        return lambda: ready.api_answers(state)
    if name == parts.MANAGER:
        port = states.read_record(state)["ports"][parts.MANAGER]
        return lambda: ready.health(port)
    if name.startswith("node-"):
        return lambda: ready.agent_ready(state, name.removeprefix("node-"))
    names = {node.name for node in topology.nodes}
    after = since if name == parts.KUBELET else 0.0
    return lambda: names <= (ready.nodes_ready(state, after) or set())

"""The processes a lab consists of: their names, and how each is run."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from labs.errors import UsageError
from labs.processes import Command, python
from labs.state import State
from ncp.cni import protocol
from ncp.cni.install import install
from ncp.translate.objects import EDGE
from ncp.translate.uplinks import UPLINKS
from topologies.plan import namespace, uplink_bridge
from topologies.spec import Node, Topology

API, MANAGER, CLUSTER, KUBELET = "api", "manager", "cluster", "kubelet"


def agent(node: str) -> str:
    """Name of a node's agent."""
    return f"node-{node}"


def database(node: str) -> str:
    """Name of a node's OVSDB server."""
    return f"ovsdb-{node}"


def switch(node: str) -> str:
    """Name of a node's switch daemon."""
    return f"switch-{node}"


def listeners(topology: Topology) -> tuple[str, ...]:
    """Processes that serve a TCP port on the loopback interface."""
    return (API, MANAGER, *(agent(node.name) for node in topology.nodes))


def ports(wanted: Sequence[str], before: Mapping[str, int]) -> dict[str, int]:
    """A free loopback port for each name: the same as before where nobody took it meanwhile."""
    found: dict[str, int] = {}
    with ExitStack() as held:  # all at once, so that no two get the same
        for name in wanted:
            listener = held.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", before.get(name, 0)))
            except OSError:
                listener.bind(("127.0.0.1", 0))
            found[name] = listener.getsockname()[1]
    return found


def api_command(state: State, port: int) -> Command:
    """The embedded Kubernetes API."""
    return Command(
        API,
        python(
            *("-m", "labs.api", "--data", str(state.api), "--port", str(port)),
            *("--kubeconfig", str(state.kubeconfig), "--pod-logs", str(state.pod_logs)),
        ),
    )


def control_commands(state: State, topology: Topology, port: Mapping[str, int], *, real: bool) -> tuple[Command, ...]:
    """What runs beside the API: manager, node agents, cluster controllers, kubelets."""
    kubeconfig = ("--kubeconfig", str(state.kubeconfig))
    configured = ("--config", str(state.ini), *kubeconfig)
    collector = ("--standalone-gc",) if real else ()  # the embedded API collects what lost its owner by itself
    # The same name after a crash: it leads again at once, instead of after its own lease has run out.
    own = ("--identity", MANAGER, "--health-port", str(port[MANAGER]))
    manager = python("-m", "ncp", "manager", *configured, *own)
    return (
        Command(MANAGER, manager),
        *(_agent_command(state, node.name, configured, port[agent(node.name)]) for node in topology.nodes),
        Command(CLUSTER, python("-m", "labs.cluster", *kubeconfig, *collector)),
        Command(KUBELET, python("-m", "labs.kubelet", *kubeconfig, "--config", str(state.kubelet))),
    )


def _agent_command(state: State, node: str, configured: tuple[str, ...], port: int) -> Command:
    paths = state.node(node)
    places = ("--ovs-rundir", str(paths.ovs), "--cni-socket", str(paths.cni), "--api-socket", str(paths.api))
    inside = ("--netns", namespace(state.lab, node))
    argv = python("-m", "ncp", "node", *configured, "--node", node, *places, *inside, "--health-port", str(port))
    return Command(agent(node), argv)


def kubelet_config(state: State, topology: Topology) -> dict[str, Any]:
    """The lab kubelet's configuration, see :mod:`labs.kubelet.config`."""
    return {
        "nodes": [
            {
                "name": node.name,
                "netns": namespace(state.lab, node.name),
                "addresses": [str(one.address) for one in node.link.addresses],
                "cni_socket": str(state.node(node.name).cni),
                "labels": dict(node.labels) | ({EDGE: "true"} if node in topology.edges else {}),
                "annotations": _annotations(topology, node),
            }
            for node in topology.nodes
        ],
        "cni_command": [str(state.cni_plugin)],
        "cni_config": {"cniVersion": "1.0.0", "name": "ncp", "type": "ncp-cni"},
        "pod_netns_prefix": namespace(state.lab, "p-"),
        "pod_logs": str(state.pod_logs),
        "state": str(state.sandboxes),
    }


def _annotations(topology: Topology, node: Node) -> dict[str, str]:
    """What the node's agent is to be told of its uplinks; an untagged one has no VLAN."""
    if not node.uplinks:
        return {}
    found = []
    for index, uplink in enumerate(node.uplinks):
        vlan = topology.network(uplink.link.network).vlan
        addresses = [str(one) for one in uplink.link.addresses]
        tag = {"vlan": vlan} if vlan else {}
        found.append({"name": uplink.name, "bridge": uplink_bridge(index), **tag, "addresses": addresses})
    return {UPLINKS: json.dumps(found)}


def install_cni(state: State) -> None:
    """Put the CNI plugin where the lab's kubelet calls it, as it would be put on a node."""
    state.cni_plugin.parent.mkdir(parents=True, exist_ok=True)
    install(state.cni_plugin.parent, None, protocol.SOCKET)  # the kubelet's configuration names each node's own socket


def write_external(state: State, topology: Topology) -> None:
    """Tell probes where the external host is."""
    described = {
        "netns": namespace(state.lab, "ext"),
        "addresses": [str(one.address) for one in topology.external.link.addresses],
    }
    state.external.write_text(json.dumps(described) + "\n")


def real_api(state: State, port: int) -> Iterator[tuple[Command, Callable[[], bool]]]:
    """etcd and kube-apiserver with what tells that each is ready, in the order to start them; writes the kubeconfig.

    Raises:
        UsageError: they are not on this machine; the message says how to get them.
    """
    from labs import realkube

    try:
        binaries = realkube.find_binaries()
    except realkube.BinariesMissingError as error:
        raise UsageError(f"--kube real: {error}") from error
    realkube.write_kubeconfig(state.root, port)
    for command in realkube.commands(state.root, binaries, port):
        yield Command(command.name, command.argv, dict(command.env)), command.ready

"""A node's Open vSwitch: a database server and a switch daemon of its own, inside the node's namespace.

The database is written before either daemon starts, so the underlay bridge is there as soon as the switch is up.
``flow-restore-wait`` stays off on purpose: it would hold back the underlay bridge as well, whose one flow needs no
controller, and ``br-int`` needs no protection from half a program: it drops everything until the node agent has
written all of it in one bundle.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from labs.errors import LabError
from labs.processes import Command
from labs.state import NodePaths, State
from topologies import netns
from topologies.plan import (
    UNDERLAY_BRIDGE,
    mac,
    namespace,
    neighbours,
    node_commands,
    physical_bridge,
    plugs,
    uplink_bridge,
    wires,
)
from topologies.spec import Topology

UNDERLAY = "ul"
"""Whose switch joins the wires of networks with a VLAN; named like its namespace."""
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
START_SECONDS = 15
NEIGHBOUR_SECONDS = 3600  # the longest that `tnl/neigh/aging` takes; use renews it


def environment(paths: NodePaths) -> Mapping[str, str]:
    """What any Open vSwitch tool needs to talk to this node's daemons and to no others."""
    return {name: str(paths.ovs) for name in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")}


def database_command(state: State, node: str) -> Command:
    """The node's ovsdb-server."""
    paths = state.node(node)
    argv = ("ovsdb-server", str(paths.ovs / "conf.db"), f"--remote=punix:{paths.database}", "--pidfile")
    return Command(f"ovsdb-{node}", argv, environment(paths), namespace(state.lab, node))


def switch_command(state: State, node: str) -> Command:
    """The node's ovs-vswitchd."""
    paths = state.node(node)
    argv = ("ovs-vswitchd", f"unix:{paths.database}", "--disable-system", "--pidfile")
    return Command(f"switch-{node}", argv, environment(paths), namespace(state.lab, node))


def create_database(state: State, topology: Topology, node: str) -> None:
    """Write the database of a node, or of the underlay (``ul``): bridges with their wires, nothing of the overlay."""
    paths = state.node(node)
    paths.ovs.mkdir(parents=True, exist_ok=True)
    stored = paths.ovs / "conf.db"
    stored.unlink(missing_ok=True)
    _tool(paths, "ovsdb-tool", "create", str(stored), str(SCHEMA))
    _tool(paths, "ovsdb-tool", "transact", str(stored), json.dumps(_rows(topology, node)))


class Wire(NamedTuple):
    """A device that is a port of a bridge; ``columns`` are what its Port row has beside its name."""

    device: str
    columns: Mapping[str, object] = {}


class Bridge(NamedTuple):
    """A bridge that forwards by itself, with its wires. ``hwaddr`` is the Ethernet address of its own port; empty: any."""

    name: str
    wires: tuple[Wire, ...]
    hwaddr: str = ""


def bridges(topology: Topology, owner: str) -> tuple[Bridge, ...]:
    """The bridges that a node, or the underlay (``ul``), has beside what an agent makes.

    In the underlay that is a bridge for each network with a VLAN, as a switch in a rack would be: frames are tagged on the wires to
    nodes, and untagged at the access ports of everybody else.
    """
    if owner == UNDERLAY:
        nodes = {node.name for node in topology.nodes}
        return tuple(
            Bridge(
                physical_bridge(topology, network.name),
                tuple(
                    Wire(each.port, _tagged(network.vlan) if each.owner in nodes else {"tag": network.vlan})
                    for each in plugs(topology)
                    if each.link.network == network.name
                ),
            )
            for network in topology.networks
            if network.vlan
        )
    node = topology.node(owner)
    underlay, *uplinks = wires(node)
    return (
        Bridge(UNDERLAY_BRIDGE, (Wire(underlay),), mac(owner, node.link.network)),
        *(Bridge(uplink_bridge(index), (Wire(device),)) for index, device in enumerate(uplinks)),
    )


def has_switch(topology: Topology) -> bool:
    """Whether the underlay needs a switch of its own: the kernel's bridges may not know VLANs."""
    return any(network.vlan for network in topology.networks)


def _tagged(vlan: int) -> dict[str, object]:
    return {"vlan_mode": "trunk", "trunks": vlan}


def _rows(topology: Topology, owner: str) -> list[object]:
    external_ids = ["map", [["system-id", owner], ["hostname", owner]]]
    # One thread for misses and one for expiry: a lab has many switches and few cores.
    threads = ["map", [["n-handler-threads", "1"], ["n-revalidator-threads", "1"]]]
    found = list(enumerate(bridges(topology, owner)))
    return [
        "Open_vSwitch",
        *(row for number, bridge in found for row in _bridge_rows(number, bridge)),
        {
            "op": "insert",
            "table": "Open_vSwitch",
            "row": {
                "bridges": ["set", [["named-uuid", f"bridge{number}"] for number, _ in found]],
                "external_ids": external_ids,
                "other_config": threads,
                "next_cfg": 1,
            },
        },
    ]


def _bridge_rows(number: int, bridge: Bridge) -> Iterator[dict[str, object]]:
    ports = []
    internal = Wire(bridge.name)
    for at, wire in enumerate((internal, *bridge.wires)):
        interface, port = f"interface{number}_{at}", f"port{number}_{at}"
        ports.append(["named-uuid", port])
        kind = {"type": "internal"} if wire is internal else {}
        yield _insert("Interface", interface, {"name": wire.device, **kind})
        yield _insert("Port", port, {"name": wire.device, "interfaces": ["named-uuid", interface], **wire.columns})
    yield _insert(
        "Bridge",
        f"bridge{number}",
        {
            "name": bridge.name,
            "datapath_type": "netdev",
            "fail_mode": "standalone",
            "other_config": ["map", [["hwaddr", bridge.hwaddr]] if bridge.hwaddr else []],
            "ports": ["set", ports],
        },
    )


def _insert(table: str, uuid_name: str, row: Mapping[str, object]) -> dict[str, object]:
    return {"op": "insert", "table": table, "uuid-name": uuid_name, "row": row}


def await_configured(state: State, node: str) -> None:
    """Return when the running ovs-vswitchd has made everything its database asks for.

    Raises:
        LabError: it did not within the time ovs-vsctl waits.
    """
    # A change makes ovs-vsctl wait for the daemon's answer to it, however stale what it finds on disk is.
    _tool(
        state.node(node),
        "ovs-vsctl",
        f"--timeout={START_SECONDS}",
        "set",
        "Open_vSwitch",
        ".",
        f"external_ids:lab-started={time.time_ns()}",
    )


def connect(state: State, topology: Topology, node: str) -> None:
    """Give the node its underlay addresses, its routes and its neighbours; safe to repeat, needed after a restart."""
    netns.batch(namespace(state.lab, node), node_commands(topology, node))
    paths = state.node(node)
    _tool(paths, "ovs-appctl", "tnl/neigh/aging", str(NEIGHBOUR_SECONDS))
    for address, ethernet in neighbours(topology, node):
        _tool(paths, "ovs-appctl", "tnl/neigh/set", UNDERLAY_BRIDGE, address, ethernet)


def _tool(paths: NodePaths, *command: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment(paths)}, capture_output=True, text=True, timeout=START_SECONDS + 5
    )
    if done.returncode != 0:
        raise LabError(f"{' '.join(command[:3])}: {done.stderr.strip() or done.returncode}")
    return done.stdout

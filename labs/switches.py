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
from collections.abc import Mapping
from pathlib import Path

from labs.errors import LabError
from labs.processes import Command
from labs.state import NodePaths, State
from topologies import netns
from topologies.plan import UNDERLAY_BRIDGE, UPLINK, mac, namespace, neighbours, node_commands
from topologies.spec import Topology

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
    """Write the node's database: the underlay bridge with the underlay link, nothing of the overlay."""
    paths = state.node(node)
    paths.ovs.mkdir(parents=True, exist_ok=True)
    stored = paths.ovs / "conf.db"
    stored.unlink(missing_ok=True)
    _tool(paths, "ovsdb-tool", "create", str(stored), str(SCHEMA))
    _tool(paths, "ovsdb-tool", "transact", str(stored), json.dumps(_rows(topology, node)))


def _rows(topology: Topology, node: str) -> list[object]:
    hwaddr = mac(node, topology.node(node).link.network)
    external_ids = ["map", [["system-id", node], ["hostname", node]]]
    # One thread for misses and one for expiry: a lab has many switches and few cores.
    threads = ["map", [["n-handler-threads", "1"], ["n-revalidator-threads", "1"]]]
    bridge = {
        "name": UNDERLAY_BRIDGE,
        "datapath_type": "netdev",
        "fail_mode": "standalone",
        "other_config": ["map", [["hwaddr", hwaddr]]],
        "ports": ["set", [["named-uuid", "port_internal"], ["named-uuid", "port_link"]]],
    }
    return [
        "Open_vSwitch",
        _insert("Interface", "interface_internal", {"name": UNDERLAY_BRIDGE, "type": "internal"}),
        _insert("Interface", "interface_link", {"name": UPLINK}),
        _insert("Port", "port_internal", {"name": UNDERLAY_BRIDGE, "interfaces": ["named-uuid", "interface_internal"]}),
        _insert("Port", "port_link", {"name": UPLINK, "interfaces": ["named-uuid", "interface_link"]}),
        _insert("Bridge", "bridge", bridge),
        {
            "op": "insert",
            "table": "Open_vSwitch",
            "row": {
                "bridges": ["named-uuid", "bridge"],
                "external_ids": external_ids,
                "other_config": threads,
                "next_cfg": 1,
            },
        },
    ]


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

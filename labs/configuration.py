"""The lab's ``ncp.ini``: the project's defaults, with what a lab's network needs."""

from __future__ import annotations

import configparser
from pathlib import Path

from ipam.address import Prefix
from labs.errors import UsageError
from labs.state import State
from topologies.spec import Topology

CONTAINER_BLOCKS = "10.4.0.0/16, fd00:10:4::/48"
NO_SNAT_BLOCKS = "10.5.0.0/16, fd00:10:5::/48"


def render(state: State, topology: Topology) -> dict[str, dict[str, str]]:
    """Sections and options of a lab's configuration."""
    return {
        "coe": {"cluster": f"lab-{state.lab}"},
        "nsx_v3": {"container_ip_blocks": CONTAINER_BLOCKS, "no_snat_ip_blocks": NO_SNAT_BLOCKS},
        "nsx_node_agent": {
            "mtu": str(min(network.mtu for network in topology.networks)),
            "enable_ipv6": "True",
        },
        "ncp": {"exit_node": topology.exit_node.name},
    }


def write(state: State, topology: Topology, given: Path | None) -> None:
    """Put the configuration in place: the given file's content, else the lab's own.

    Raises:
        UsageError: the given file cannot be read.
    """
    if given is not None:
        try:
            state.ini.write_bytes(given.read_bytes())
        except OSError as error:
            raise UsageError(f"--config {given}: {error.strerror}") from error
        return
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_dict(render(state, topology))
    with state.ini.open("w") as file:
        ini.write(file)


def blocks(state: State) -> tuple[Prefix, ...]:
    """Where pods have their addresses, by the configuration in place.

    Raises:
        UsageError: the configuration is wrong; the message names section, option and value.
    """
    from ncp.settings import SettingsError, load
    from ncp.translate.fabric import pod_blocks

    try:
        return pod_blocks(load(state.ini))
    except SettingsError as error:
        raise UsageError(str(error)) from error

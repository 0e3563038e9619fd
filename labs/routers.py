"""Routing daemons (FRR) of the upstream routers, and of an external host that speaks BGP: each set in a namespace of its own.

They are as root what they would be as frr: a lab's directory is root's alone, and theirs is in it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from labs.errors import UsageError
from labs.processes import Command, Table
from labs.ready import Waiter
from labs.state import State
from topologies import bgp
from topologies.plan import namespace
from topologies.spec import Topology

DAEMONS = Path("/usr/lib/frr")
SHELL = "/usr/bin/vtysh"
GROUP = "frrvty"  # a daemon refuses a user that is not in this group


def check(topology: Topology) -> None:
    """Refuse a machine without FRR where somebody is to speak BGP.

    Raises:
        UsageError: saying how to get it.
    """
    who = bgp.speakers(topology)
    if who and not (DAEMONS / "bgpd").exists():
        raise UsageError(f"topology {topology.name}: {', '.join(who)} speak BGP, which takes FRR: apt-get install frr")


def names(owner: str) -> tuple[str, ...]:
    """Names of the processes of a router, or of the external host (``ext``)."""
    return tuple(f"{daemon}-{owner}" for daemon in ("zebra", "bfdd", "bgpd"))


def start(state: State, topology: Topology, table: Table, waiter: Waiter, owner: str) -> None:
    """Start the daemons of a router or of the external host, and return when each can be spoken to.

    What an earlier set left of its sockets is removed.

    Raises:
        LabError: one did not come up.
    """
    directory = state.node(owner).routing
    _write_shell(directory)
    for daemon, text in bgp.configuration(topology, owner).items():
        (directory / f"{daemon}.conf").write_text(text)
        answers = directory / ("zserv.api" if daemon == "zebra" else f"{daemon}.vty")
        answers.unlink(missing_ok=True)
        running = table.start(_command(state, daemon, owner))
        waiter.until(f"{daemon} of {owner} answers", answers.exists, [running])


def environment(state: State, owner: str) -> Mapping[str, str]:
    """With which ``vtysh`` speaks to the daemons of this router or external host."""
    return {"PATH": f"{state.node(owner).routing / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def _command(state: State, daemon: str, owner: str) -> Command:
    directory = state.node(owner).routing
    argv = (
        *(str(DAEMONS / daemon), "-u", "root", "-g", GROUP, "-P", "0", "--log", "stdout"),
        *("-f", str(directory / f"{daemon}.conf"), "-i", str(directory / f"{daemon}.pid")),
        *("--vty_socket", str(directory), "-z", str(directory / "zserv.api")),
        *(("--bfdctl", str(directory / "bfdd.sock")) if daemon == "bfdd" else ()),
    )
    return Command(f"{daemon}-{owner}", argv, {}, namespace(state.lab, owner))


def _write_shell(directory: Path) -> None:
    """A ``vtysh`` for these daemons: it takes the place of its sockets as an argument alone."""
    shell = directory / "bin" / "vtysh"
    shell.parent.mkdir(parents=True, exist_ok=True)
    where = shlex.quote(str(directory))
    shell.write_text(f'#!/bin/sh\nexec {SHELL} --vty_socket {where} --config_dir {where} "$@"\n')
    shell.chmod(0o755)
    (directory / "vtysh.conf").touch()  # it complains without one

"""``ncp lab``: a whole cluster on this host, from network namespaces."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from labs.commands import LabStatus, Place, State

OUTPUT = click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True)


class Failure(click.ClickException):
    """An operation on a lab that failed, with its exit code."""

    def __init__(self, error: Exception, exit_code: int) -> None:
        super().__init__(str(error))
        self.exit_code = exit_code


def in_lab(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option ``--state``, given to the command as the lab's State; failures become exit codes."""

    @click.option(
        "--state",
        "directory",
        metavar="DIR",
        type=click.Path(file_okay=False),
        envvar="NCP_LAB_STATE",
        show_envvar=True,
        help="The lab's directory; several labs may run at once, each in its own.  [default: /var/lib/ncp-lab]",
    )
    @functools.wraps(function)
    def command(directory: str | None, **arguments: Any) -> Any:
        from labs.commands import LabError, locate

        try:
            return function(locate(directory), **arguments)
        except LabError as error:
            raise Failure(error, error.exit_code) from error

    return command


@click.group("lab")
def command() -> None:
    """A whole cluster on this host: nodes, switches, tunnels, a Kubernetes API and pods, from network namespaces."""


@command.command()
@click.option("--nodes", type=click.IntRange(min=1), help="Number of nodes of three-nodes.")
@click.option("--topology", metavar="NAME|FILE", help="See `ncp lab topologies`, or a JSON or YAML file.")
@click.option("--kube", type=click.Choice(["embedded", "real"]), help="The embedded API (default), or kube-apiserver.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An ncp.ini to use.")
@click.option("--keep", is_flag=True, help="Leave what a failed start has made, to look at it.")
@click.option("--quiet", "-q", is_flag=True, help="Print the kubeconfig's path and nothing else.")
@in_lab
def up(state: State, *, quiet: bool, **wish: Any) -> None:
    """Bring a lab up; return when it is ready, and print its kubeconfig's path.

    A lab that was killed comes back with the objects and addresses it had.
    """
    from rich.console import Console

    from labs import commands

    console = Console(stderr=True, highlight=False, quiet=quiet)
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        with console.status("bringing the lab up"):
            started = commands.up(state, commands.Wish(**wish), commands.Progress(console.print))
    except KeyboardInterrupt as error:
        left = "left as it is (--keep)" if wish["keep"] else "stopped and removed"
        raise click.ClickException(f"interrupted; what had been started was {left}") from error
    topology = commands.topology_of(state)
    console.print(
        f"{'up' if started else 'runs already'}: {topology.name}, {len(topology.nodes)} nodes, in {state.root}"
    )
    click.echo(state.kubeconfig)


def _interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


@command.command()
@click.option("--quiet", "-q", is_flag=True, help="Print nothing.")
@in_lab
def down(state: State, *, quiet: bool) -> None:
    """Stop a lab and remove everything it made, its objects included; harmless where there is none."""
    from rich.console import Console

    from labs import commands

    console = Console(stderr=True, highlight=False, quiet=quiet)
    with console.status("taking the lab down"):
        was_there = commands.down(state, commands.Progress(console.print))
    console.print(f"{'down' if was_there else 'there was no lab'}: {state.root}")


@command.command()
@OUTPUT
@in_lab
def status(state: State, *, output: str) -> None:
    """Show every process and node; exit code 1 when something is down."""
    from labs import commands

    found = commands.status(state)
    if output == "json":
        _echo_json(found, down=found.down)
    else:
        _show(found)
    if found.down:
        click.echo(f"not well: {'; '.join(found.down)}", err=True)
        sys.exit(1)


@command.command()
@in_lab
def kubeconfig(state: State) -> None:
    """Print the path of the lab's kubeconfig, for `export KUBECONFIG=$(ncp lab kubeconfig)`."""
    from labs import commands

    commands.topology_of(state)
    if not state.kubeconfig.exists():
        raise click.ClickException(f"the lab in {state.root} has no kubeconfig yet: it never came up")
    click.echo(state.kubeconfig)


@command.command("exec", short_help="Run a command in a pod, on a node or router, or on the external host.")
@click.option("--node", metavar="NAME", help="On this node; Open vSwitch's tools speak to its switch.")
@click.option("--router", metavar="NAME", help="On this router; vtysh speaks to its routing daemons.")
@click.option("--external", is_flag=True, help="On the external host beyond the tier-0 uplink.")
@click.argument("words", nargs=-1, metavar="[NAMESPACE/POD] -- COMMAND...")
@in_lab
def execute(state: State, *, node: str | None, router: str | None, external: bool, words: tuple[str, ...]) -> None:
    """Run COMMAND in the network namespace of a pod, a node, a router or the external host; its exit code is COMMAND's.

    \b
    ncp lab exec default/web-0 -- ping -c1 10.4.0.3
    ncp lab exec --node node1 -- ovs-vsctl show
    ncp lab exec --external -- curl http://10.4.0.3:8080/hostname
    ncp lab exec --router up1 -- vtysh -c 'show bgp summary'
    """
    from labs import commands

    place, arguments = _place(state, node, router, external, words)
    commands.become(place, arguments)


def _place(
    state: State, node: str | None, router: str | None, external: bool, words: tuple[str, ...]
) -> tuple[Place, tuple[str, ...]]:
    from labs import commands

    given = [name for name, value in (("--node", node), ("--router", router), ("--external", external)) if value]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} are {len(given)} places; give one")
    if node:
        return commands.of_node(state, node), words
    if router:
        return commands.of_router(state, router), words
    if external:
        return commands.of_external(state), words
    if not words:
        raise click.UsageError("where? give NAMESPACE/POD, --node NAME, --router NAME or --external, then -- COMMAND")
    return commands.of_pod(state, words[0]), words[1:]


@command.command()
@click.argument("part", type=click.Choice(["manager", "node", "switch", "router", "api", "cluster", "kubelet"]))
@click.argument("node", required=False, default="", metavar="[NODE|ROUTER]")
@in_lab
def restart(state: State, *, part: str, node: str) -> None:
    """Kill one part and start it again, as a crash and its recovery would; return when it is ready.

    \b
    ncp lab restart manager | api | cluster | kubelet
    ncp lab restart node node1      the node's agent; its switch keeps forwarding
    ncp lab restart switch node1    the node's switch daemon
    ncp lab restart router up1      the router's routing daemons (ext: the external host's)
    """
    from labs import commands

    if part in commands.PER_NODE and not node:
        raise click.UsageError(f"restart {part}: whose? give its name")
    if part not in commands.PER_NODE and node:
        raise click.UsageError(f"restart {part}: takes no node, {node!r} given")
    commands.restart(state, part, node, commands.Progress(click.echo))


@command.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on as it grows.")
@click.option("--lines", "-n", type=click.IntRange(min=0), default=50, show_default=True, help="How many from its end.")
@in_lab
def logs(state: State, *, name: str, follow: bool, lines: int) -> None:
    """Print the log of a process: its name as `ncp lab status` shows it."""
    path = state.log(name)
    if not path.exists():
        known = ", ".join(sorted(one.stem for one in state.logs.glob("*.log"))) if state.logs.is_dir() else ""
        raise click.ClickException(f"no log of {name!r} in {state.logs}; there are: {known or 'none'}")
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), str(path)])


@command.command()
@OUTPUT
def topologies(output: str) -> None:
    """Show the topologies that come with the project, drawn."""
    from labs import commands

    found = [commands.named(name) for name in commands.CATALOG]
    if output == "json":
        click.echo(_json([commands.render(one) for one in found]))
        return
    for one in found:
        click.echo(f"{click.style(one.name, bold=True)}: {one.summary}\n\n{commands.draw(one)}\n")


def _show(found: LabStatus) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"lab {found.lab} in {found.state}: {found.topology}, {found.kube} API")
    processes = Table("process", "pid", "state", "restarts", "port")
    for one in found.processes:
        running = "up" if one.up else "[red]down[/red]"
        processes.add_row(one.name, str(one.pid), running, str(one.restarts), str(one.port or ""))
    console.print(processes)
    nodes = Table("node", "addresses", "connected", "in step", "ready", "flows", "ports", "pods")
    for node in found.nodes:
        pods = ", ".join(f"{count} {phase}" for phase, count in sorted(node.pods.items())) or "0"
        flags = ("yes" if flag else "[red]no[/red]" for flag in (node.connected, node.in_step, node.ready))
        nodes.add_row(node.name, " ".join(node.addresses), *flags, str(node.flows), str(node.ports), pods)
    console.print(nodes)


def _echo_json(value: Any, **more: Any) -> None:
    from dataclasses import asdict

    click.echo(_json(asdict(value) | more))


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=2)

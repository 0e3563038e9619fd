"""``ncp probe``: crafted packets, and the three-way matrix of intent, flows and wire."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ncp.probe.model import Probe, Result
    from ncp.probe.site import Site

OPTIONS = [
    click.option("--kubeconfig", default=None, help="Default: KUBECONFIG, else the lab's."),
    click.option("--state", type=click.Path(path_type=Path), default=None, help="The lab's state directory."),
    click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True),
]


def common(function: Any) -> Any:
    """Options every probe command has."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.group("probe")
def command() -> None:
    """Ask the intent, the programmed flows and the wire the same question; exit code 1 where they disagree."""


@command.command()
@click.option("-n", "--namespace", multiple=True, help="Only pods of these namespaces; repeatable.")
@click.option("--pod", "pods", multiple=True, metavar="NAMESPACE/POD", help="Only these pods; repeatable.")
@click.option("--family", multiple=True, type=click.Choice(["4", "6"]), help="Default: both.")
@click.option("--protocol", multiple=True, type=click.Choice(["tcp", "udp", "sctp", "icmp", "neighbour"]))
@click.option("--external/--no-external", default=False, help="With the host beyond tier-0 among the sources.")
@common
def matrix(
    namespace: tuple[str, ...],
    pods: tuple[str, ...],
    family: tuple[str, ...],
    protocol: tuple[Any, ...],
    external: bool,
    kubeconfig: str | None,
    state: Path | None,
    output: str,
) -> None:
    """Every pod to every other on its container ports: expected, traced and observed."""
    from ncp.probe import run
    from ncp.probe.model import EXTERNAL, PROTOCOLS, is_host
    from ncp.probe.site import matrix as all_probes

    site = run.site(kubeconfig, state)
    names = [
        name
        for name in sorted(site.endpoints)
        if not is_host(name) and (not pods or name in pods) and (not namespace or name.split("/")[0] in namespace)
    ]
    unknown = [name for name in pods if name not in site.endpoints]
    if unknown:
        raise click.ClickException(f"no logical port is called {unknown[0]}; `ncp get ports` lists them")
    if external and EXTERNAL in site.endpoints:
        names.append(EXTERNAL)
    families = tuple(int(each) for each in family) or (4, 6)
    probes = all_probes(site, names, families, protocol or PROTOCOLS)
    if not probes:
        raise click.ClickException("there is nothing to probe: fewer than two pods match")
    finish(site, probes, names, output)


@command.command()
@click.argument("source")
@click.argument("destination")
@click.option("--tcp", "protocol", flag_value="tcp", help="TCP SYN to --port.")
@click.option("--udp", "protocol", flag_value="udp", help="A UDP datagram to --port.")
@click.option("--sctp", "protocol", flag_value="sctp", help="SCTP INIT to --port.")
@click.option("--icmp", "protocol", flag_value="icmp", default=True, help="ICMP or ICMPv6 echo request (default).")
@click.option("--neighbour", "protocol", flag_value="neighbour", help="ARP request or neighbour solicitation.")
@click.option("--port", type=click.IntRange(1, 65535), default=None)
@click.option("--family", type=click.Choice(["4", "6"]), default="4", show_default=True)
@common
def send(
    source: str,
    destination: str,
    protocol: Any,
    port: int | None,
    family: str,
    kubeconfig: str | None,
    state: Path | None,
    output: str,
) -> None:
    """One probe from SOURCE to DESTINATION (NAMESPACE/POD, or ``external``)."""
    from ncp.probe import run
    from ncp.probe.model import Probe

    if protocol in ("tcp", "udp", "sctp") and port is None:
        raise click.UsageError(f"--{protocol} needs --port")
    site = run.site(kubeconfig, state)
    for name in (source, destination):
        if name not in site.endpoints:
            raise click.ClickException(f"no logical port is called {name}; `ncp get ports` lists them")
    number = 4 if family == "4" else 6
    finish(site, [Probe(source, destination, number, protocol, port or 0)], [source, destination], output)


def finish(site: Site, probes: list[Probe], names: list[str], output: str) -> None:
    """Ask, show, and exit with 1 where anybody disagrees."""
    from ncp.probe import run, show

    results: list[Result] = run.ask(site, probes, quiet=output == "json")
    disagreeing = [result for result in results if not result.agrees]
    if output == "json":
        show.as_json(results)
    else:
        show.as_table(results, names)
    if disagreeing:
        click.echo(f"{len(disagreeing)} of {len(results)} probes disagree; the first: {disagreeing[0].probe}", err=True)
        sys.exit(1)

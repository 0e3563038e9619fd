"""Asking: reading the site, then every probe three ways, with progress."""

from __future__ import annotations

import logging
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ipam.address import parse_address
from ncp.cli import nodeapi
from ncp.kube.client import Kube
from ncp.probe.expect import expected
from ncp.probe.model import Endpoint, Probe, Result
from ncp.probe.site import Site, look
from ncp.probe.trace import traced
from ncp.settings import load
from ncp.translate.fabric import fabric_of
from sdn.reference import reference


def site(kubeconfig: str | None, state: Path | None) -> Site:
    """The cluster within reach: its API server, its node agents, and the lab's external host."""
    directory = nodeapi.state_directory(state)
    agents = nodeapi.statuses(state)
    kube = Kube.connect(nodeapi.kubeconfig(kubeconfig, state))
    settings = load(directory / "ncp.ini" if (directory / "ncp.ini").exists() else Path("/etc/ncp/ncp.ini"))
    flows = lambda node: next(nodeapi.ask("/v1/flows", state, node))  # noqa: E731
    return look(kube, fabric_of(settings), agents, flows, _external(directory))


def _external(directory: Path) -> Endpoint | None:
    from ncp.probe.wire import external_endpoint

    path = directory / "external.json"
    if not path.exists():
        return None
    import orjson

    described = orjson.loads(path.read_bytes())
    return external_endpoint(described["netns"], tuple(parse_address(each) for each in described["addresses"]))


def ask(site: Site, probes: list[Probe], *, quiet: bool = False) -> list[Result]:
    """Every probe's three answers, in the order given."""
    logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
    from ncp.probe.wire import observe

    intent = site.translation.intent
    world = reference(intent)
    columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as progress:
        on_wire = progress.add_task("on wire", total=len(probes))
        observed = observe(site.endpoints, probes, progress=lambda done: progress.update(on_wire, completed=done))
        progress.update(on_wire, completed=len(probes))
        in_flows = progress.add_task("in flows", total=len(probes))
        found = []
        for probe in probes:
            found.append(
                Result(
                    probe,
                    expected(intent, world, site.endpoints, site.listening, probe),
                    traced(intent, site.endpoints, probe, site),
                    observed[probe],
                )
            )
            progress.advance(in_flows)
    return found

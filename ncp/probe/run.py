"""Asking: reading the site, then every probe three ways, with progress."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from ipam.address import parse_address
from ncp.cli import nodeapi
from ncp.kube.client import Kube
from ncp.probe.expect import domain_of, expected
from ncp.probe.model import Endpoint, Probe, Result, Verdict, arrives
from ncp.probe.progress import Meter
from ncp.probe.site import Site, look
from ncp.probe.trace import traced_all
from ncp.settings import load
from ncp.translate.fabric import fabric_of
from sdn.reference import reference

Traces: TypeAlias = Literal["all", "sample", "none"]
"""Which probes the flows are asked about. ``sample``: what somebody turns away, once for each kind of sender, receiver,
protocol and port; and all that the intent and the wire disagree on."""

NOT_ASKED: Final = Verdict("unknown", "the flows were not asked")
PATIENCE: Final = 1.0
"""Seconds that are waited for an answer the intent promises and nobody gave so far."""


def site(kubeconfig: str | None, state: Path | None, before: Site | None = None) -> Site:
    """The cluster within reach: its API server, its node agents, and the lab's external host.

    ``before`` is an earlier look, whose open connections are used further.
    """
    directory = nodeapi.state_directory(state)
    agents = nodeapi.statuses(state)
    kube = Kube.connect(nodeapi.kubeconfig(kubeconfig, state))
    settings = load(directory / "ncp.ini" if (directory / "ncp.ini").exists() else Path("/etc/ncp/ncp.ini"))
    flows = lambda node: next(nodeapi.ask("/v1/flows", state, node))  # noqa: E731
    return look(kube, fabric_of(settings), agents, flows, _external(directory), before)


def _external(directory: Path) -> Endpoint | None:
    from ncp.probe.wire import external_endpoint

    path = directory / "external.json"
    if not path.exists():
        return None
    import orjson

    described = orjson.loads(path.read_bytes())
    return external_endpoint(described["netns"], tuple(parse_address(each) for each in described["addresses"]))


def ask(
    site: Site, probes: Sequence[Probe], *, quiet: bool = False, trace: Traces = "all", meter: Meter | None = None
) -> list[Result]:
    """Every probe's three answers, in the order given.

    Raises:
        AppctlError: a switch could not be asked.
    """
    with meter or Meter(quiet=quiet) as shown:
        domains = {probe: domain_of(site.intent, probe) for probe in probes}
        worlds = {domain: reference(site.intent, domain=domain) for domain in set(domains.values())}
        said = {
            probe: expected(site.intent, worlds[domains[probe]], site.endpoints, site.listening, probe)
            for probe in probes
        }
        seen = _observed(site, said, shown)
        chosen = _chosen(site, said, seen, trace)
        told = lambda done: shown.tell("in flows", done, len(chosen))  # noqa: E731
        traces = dict(zip(chosen, traced_all(site.endpoints, chosen, site, told), strict=True))
    return [Result(probe, said[probe], traces.get(probe, NOT_ASKED), seen[probe]) for probe in probes]


def _observed(site: Site, said: Mapping[Probe, Verdict], meter: Meter) -> dict[Probe, Verdict]:
    """What the wire says; who is silent against the intent is given all the time he may need, and it is said of him."""
    logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
    from ncp.probe.wire import observe

    told = lambda done: meter.tell("on wire", done, len(said))  # noqa: E731
    found = observe(site.endpoints, said, progress=told)
    told(len(said))
    missing = [probe for probe, verdict in said.items() if verdict.answer != "no" and found[probe].answer == "no"]
    if missing:
        late = observe(site.endpoints, missing, waits=(PATIENCE,))
        found |= {
            probe: verdict._replace(why=f"{verdict.why}, to the third packet")
            for probe, verdict in late.items()
            if verdict.answer != "no"
        }
    return found


def _chosen(
    site: Site, said: Mapping[Probe, Verdict], seen: Mapping[Probe, Verdict], trace: Traces
) -> tuple[Probe, ...]:
    if trace == "all":
        return tuple(said)
    if trace == "none":
        return ()
    chosen: dict[object, Probe] = {}
    for probe, verdict in said.items():
        if not Result(probe, verdict, NOT_ASKED, seen[probe]).agrees:
            chosen[probe] = probe
        elif not arrives(verdict.answer):
            sender = site.intent.ports.get(probe.source)
            kind = (sender.identity if sender else probe.source, probe.destination, probe.protocol, probe.port)
            chosen.setdefault(kind, probe)
    return tuple(chosen.values())

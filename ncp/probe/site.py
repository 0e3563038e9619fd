"""Where probes are sent: the intent from the API server, and where its ports are attached from the node agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ncp.kube.client import Kube
from ncp.kube.listing import everything
from ncp.probe.model import EXTERNAL, Endpoint, Probe, Protocol
from ncp.translate.intent import Fabric, Translation, translated
from sdn.model import Origin
from sdn.ovsdb.appctl import Appctl


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster as probes see it: what should be, where things are, what listens, and how to ask a switch."""

    translation: Translation
    endpoints: Mapping[str, Endpoint]
    listening: Mapping[tuple[str, str, int], bool]
    agents: Mapping[str, Mapping[str, Any]]  # GET /v1/status of each node agent within reach, by node
    flows: Callable[[str], Mapping[str, Any]]  # GET /v1/flows of a node's agent
    _origins: dict[str, dict[int, Origin]] = field(default_factory=dict)

    def trace(self, node: str, flow: str) -> str:
        """``ofproto/trace`` on a node's switch."""
        return Appctl(self.agents[node]["ovs_rundir"]).call("ofproto/trace", "br-int", flow)

    def origin(self, node: str, cookie: str) -> Origin | None:
        """Who asked for the flow with that cookie on a node."""
        number = int(cookie, 16) if cookie.startswith("0x") else 0
        if number not in self._origins.get(node, {}):
            found = self.flows(node)["flows"]
            self._origins[node] = {int(each["cookie"], 16): Origin(**each["origin"]) for each in found}
        return self._origins[node].get(number)


def look(
    kube: Kube,
    fabric: Fabric,
    agents: Mapping[str, Mapping[str, Any]],
    flows: Callable[[str], Mapping[str, Any]],
    external: Endpoint | None,
) -> Site:
    """Read the cluster's objects and the agents' status into a :class:`Site`.

    Args:
        kube: the API server.
        fabric: the settings the intent starts from.
        agents: ``GET /v1/status`` of each node agent within reach, by node.
        flows: ``GET /v1/flows`` of a node's agent.
        external: the host beyond tier-0, where there is one.
    """
    objects = everything(kube)
    state = translated(fabric, objects)
    pods = objects["Pod"]
    attached = {port["name"]: port for status in agents.values() for port in status["ports"]}
    endpoints = {}
    for name, port in state.intent.ports.items():
        where = attached.get(name, {})
        endpoints[name] = Endpoint(
            name, port.addresses, where.get("netns", ""), "eth0", port.node, port.mac, port.vni, where.get("ofport", 0)
        )
    if external:
        endpoints[EXTERNAL] = external
    return Site(state, endpoints, _listening(pods), agents, flows)


def _listening(pods: list[dict[str, Any]]) -> dict[tuple[str, str, int], bool]:
    found = {}
    for pod in pods:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for container in (pod.get("spec") or {}).get("containers") or ():
            for port in container.get("ports") or ():
                found[name, port.get("protocol", "TCP").lower(), port["containerPort"]] = True
    return found


def matrix(site: Site, names: list[str], families: tuple[int, ...], protocols: tuple[Protocol, ...]) -> list[Probe]:
    """Every probe among some endpoints: each to each other, on what the destination listens on.

    Asks for ARP or ND only between neighbours, where somebody must answer.
    """
    found: list[Probe] = []
    intent = site.translation.intent
    for source in names:
        for destination in names:
            if source == destination:
                continue
            for family in families:
                if any(site.endpoints[n].address(family) is None for n in (source, destination)):  # type: ignore[arg-type]
                    continue
                for protocol in protocols:
                    found += _probes(site, intent.ports, source, destination, family, protocol)
    return found


def _probes(site: Site, ports: Any, source: str, destination: str, family: Any, protocol: Protocol) -> list[Probe]:
    if protocol == "icmp":
        return [Probe(source, destination, family, "icmp")]
    if protocol == "neighbour":
        here, there = ports.get(source), ports.get(destination)
        same = here is not None and there is not None and here.vni == there.vni
        return [Probe(source, destination, family, "neighbour")] if same else []
    if destination == EXTERNAL:
        return []  # nothing of the cluster's listens there
    numbers = sorted(port for name, kind, port in site.listening if name == destination and kind == protocol)
    return [Probe(source, destination, family, protocol, number) for number in numbers]

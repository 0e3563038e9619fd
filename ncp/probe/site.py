"""Where probes are sent: the intent from the API server, and where its ports are attached from the node agents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ncp.kube.client import Kube
from ncp.kube.listing import everything
from ncp.probe.model import EXTERNAL, NODE, PROTOCOLS, Endpoint, Probe, Protocol, is_host
from ncp.translate.intent import Fabric, Translation, translated
from sdn.model import Intent, Origin
from sdn.ovsdb.appctl import Appctl, Session
from sdn.pipeline.registers import NODE_PORT

Json = dict[str, Any]
BRIDGE: Final = "br-int"
NODE_INTERFACE: Final = "ncp-node0"


@dataclass(slots=True)
class Switches:
    """The control sockets of the switches, each opened when it is first asked and kept open; close them at the end."""

    rundirs: Mapping[str, str]  # by node
    _sessions: dict[str, Session] = field(default_factory=dict)

    def __enter__(self) -> Switches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened."""
        while self._sessions:
            self._sessions.popitem()[1].close()

    def calls(self, node: str, command: str, arguments: Iterable[tuple[str, ...]]) -> list[str]:
        """Run a command on a node's switch, once for each of some arguments.

        Raises:
            AppctlError: it is away, or refused one.
        """
        if node not in self._sessions:
            self._sessions[node] = Appctl(self.rundirs[node]).connect()
        try:
            return self._sessions[node].calls(command, arguments)
        except Exception:
            self._sessions.pop(node).close()  # it may be of no use any more, or the daemon another
            raise


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster as probes see it: what should be, where things are, what listens, and how to ask a switch."""

    objects: Mapping[str, list[Json]]  # by kind, as they were read
    translation: Translation
    endpoints: Mapping[str, Endpoint]
    listening: Mapping[tuple[str, str, int], bool]
    agents: Mapping[str, Mapping[str, Any]]  # GET /v1/status of each node agent within reach, by node
    flows: Callable[[str], Mapping[str, Any]]  # GET /v1/flows of a node's agent
    switches: Switches
    _origins: dict[int, Origin] = field(default_factory=dict)  # by cookie: equal cookies are equal flows

    @property
    def intent(self) -> Intent:
        """What should be."""
        return self.translation.intent

    def traces(self, node: str, flows: list[str]) -> list[str]:
        """``ofproto/trace`` of packets on a node's switch."""
        return self.switches.calls(node, "ofproto/trace", [(BRIDGE, flow) for flow in flows])

    def origin(self, node: str, cookie: str) -> Origin | None:
        """Who asked for the flow with that cookie on a node."""
        number = int(cookie, 16) if cookie.startswith("0x") else 0
        if number not in self._origins:
            for each in self.flows(node)["flows"]:
                self._origins[int(each["cookie"], 16)] = Origin(**each["origin"])
        found = self._origins.get(number)
        return found if found is not None and found.kind else None

    def attachments(self, node: str) -> dict[str, int]:
        """Where ports are attached on a node: logical port → OpenFlow port."""
        return {port["name"]: port["ofport"] for port in self.agents[node]["ports"] if port["ofport"] > 0}


def look(
    kube: Kube,
    fabric: Fabric,
    agents: Mapping[str, Mapping[str, Any]],
    flows: Callable[[str], Mapping[str, Any]],
    external: Endpoint | None,
    before: Site | None = None,
) -> Site:
    """Read the cluster's objects and the agents' status into a :class:`Site`.

    Args:
        kube: the API server.
        fabric: the settings the intent starts from.
        agents: ``GET /v1/status`` of each node agent within reach, by node.
        flows: ``GET /v1/flows`` of a node's agent.
        external: the host beyond tier-0, where there is one.
        before: an earlier look, whose open connections to switches are used further.
    """
    objects = everything(kube)
    state = translated(fabric, objects)
    rundirs = {node: str(status["ovs_rundir"]) for node, status in agents.items()}
    endpoints = _pods(state.intent, agents) | _nodes(state.intent, rundirs)
    if external:
        at = state.intent.nodes.get(state.intent.tier0.exit_node)
        where = {"node": at.name, "mac": at.mac, "ofport": NODE_PORT} if at else {}
        endpoints[EXTERNAL] = external._replace(**where)
    switches = before.switches if before and before.switches.rundirs == rundirs else Switches(rundirs)
    origins = before._origins if before else {}
    return Site(objects, state, endpoints, listening_of(objects["Pod"]), agents, flows, switches, origins)


def _pods(intent: Intent, agents: Mapping[str, Mapping[str, Any]]) -> dict[str, Endpoint]:
    attached = {port["name"]: port for status in agents.values() for port in status["ports"]}
    found = {}
    for name, port in intent.ports.items():
        where = attached.get(name, {})
        ofport = where.get("ofport", 0)
        found[name] = Endpoint(
            name, port.addresses, where.get("netns", ""), "eth0", port.node, port.mac, port.vni, ofport
        )
    return found


def _nodes(intent: Intent, rundirs: Mapping[str, str]) -> dict[str, Endpoint]:
    """The nodes as hosts: their switch runs where their addresses are."""
    return {
        NODE + name: Endpoint(
            NODE + name,
            node.addresses,
            _namespace_of(rundirs[name]) if name in rundirs else "",
            NODE_INTERFACE,
            name,
            node.mac,
            ofport=NODE_PORT if name in rundirs else 0,
            is_host=True,
        )
        for name, node in intent.nodes.items()
    }


def _namespace_of(rundir: str) -> str:
    """The network namespace that a switch runs in; empty where it cannot be told."""
    try:
        path = Path("/proc", Path(rundir, "ovs-vswitchd.pid").read_text().strip(), "ns", "net")
        return str(path) if path.exists() else ""
    except OSError:
        return ""


def listening_of(pods: Iterable[Json]) -> dict[tuple[str, str, int], bool]:
    """What pods answer on: their container ports, as (pod, protocol, port)."""
    found = {}
    for pod in pods:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for container in (pod.get("spec") or {}).get("containers") or ():
            for port in container.get("ports") or ():
                found[name, port.get("protocol", "TCP").lower(), port["containerPort"]] = True
    return found


def matrix(
    site: Site,
    names: list[str],
    families: tuple[int, ...],
    protocols: tuple[Protocol, ...] = PROTOCOLS,
    ports: tuple[int, ...] = (),
) -> list[Probe]:
    """Every probe among some endpoints: each to each other, on the ports given or else what the destination listens on.

    Asks for ARP or ND only between neighbours, where somebody must answer; hosts do not ask each other, and are asked by
    what their kernels answer themselves.
    """
    found: list[Probe] = []
    for source in names:
        for destination in names:
            if source == destination or (is_host(source) and is_host(destination)):
                continue
            for family in families:
                if any(site.endpoints[n].address(family) is None for n in (source, destination)):  # type: ignore[arg-type]
                    continue
                for protocol in protocols:
                    found += _probes(site, source, destination, family, protocol, ports)
    return found


def _probes(
    site: Site, source: str, destination: str, family: Any, protocol: Protocol, ports: tuple[int, ...]
) -> list[Probe]:
    if protocol == "icmp":
        return [Probe(source, destination, family, "icmp")]
    if protocol == "neighbour":
        here, there = site.intent.ports.get(source), site.intent.ports.get(destination)
        same = here is not None and there is not None and here.vni == there.vni
        return [Probe(source, destination, family, "neighbour")] if same else []
    if is_host(destination) and protocol != "tcp":
        return []  # kernels seldom say that nobody listens there
    numbers = sorted(ports) or sorted(
        port for name, kind, port in site.listening if name == destination and kind == protocol
    )
    return [Probe(source, destination, family, protocol, number) for number in numbers]

"""What the intent says of a probe: a reference that knows nothing of tables and flows. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from firewall.verdict import Connection, World, decide, judge
from ipam.address import Address
from ncp.probe.model import EXTERNAL, Endpoint, Probe, Verdict, is_host
from sdn.model import Intent, LogicalPort
from sdn.outside import outside

Listening = Mapping[tuple[str, str, int], bool]
"""(destination, protocol, port) → whether something answers there; absent: nothing listens."""


def expected(
    intent: Intent, world: World, endpoints: Mapping[str, Endpoint], listening: Listening, probe: Probe
) -> Verdict:
    """Whether the intent lets a probe through, whether something answers, and why. ``world`` is the intent's, for policies."""
    source, destination = endpoints.get(probe.source), endpoints.get(probe.destination)
    if source is None or destination is None:
        missing = probe.source if source is None else probe.destination
        return Verdict("no", f"{missing} does not exist")
    here, there = source.address(probe.family), destination.address(probe.family)
    if here is None or there is None:
        name = probe.source if here is None else probe.destination
        return Verdict("no", f"{name} has no IPv{probe.family} address")
    for endpoint in (source, destination):
        if not is_host(endpoint.name) and (why := _unplaced(intent, endpoint.name)):
            return Verdict("no", why)
    if probe.protocol == "neighbour":
        return _neighbour(intent, probe)
    if why := _apart(intent, probe):
        return Verdict("no", why)
    if EXTERNAL in (probe.source, probe.destination) and intent.tier0.exit_node not in intent.nodes:
        return Verdict("no", "tier-0 has no exit node")
    if why := _kept_in(intent, probe, here, there):
        return Verdict("no", why)
    protocol = None if probe.protocol == "icmp" else probe.protocol
    connection = Connection(here, there, protocol, probe.port)
    said = judge(world, connection)
    causes, stages = tuple(cause.brief for cause in said.causes), _stages(world, connection)
    if not said.allowed:
        return Verdict("rejected" if said.action == "reject" else "no", said.why, causes, stages)
    path = _path(intent, probe)
    if probe.protocol == "icmp" or listening.get((probe.destination, probe.protocol, probe.port)):
        return Verdict("yes", path, causes, stages)
    return Verdict("refused", f"{path}; nothing listens on {probe.protocol}/{probe.port}", causes, stages)


def _stages(world: World, connection: Connection) -> tuple[str, ...]:
    """What is said at the sender's port and, where it is let go, at the receiver's."""
    source, destination = world.at(connection.source), world.at(connection.destination)
    if source is not None and destination is not None and source.name == destination.name:
        return ()
    found = []
    for direction, own, peer in (("egress", source, destination), ("ingress", destination, source)):
        if own is None:
            continue
        said = decide(world, direction, own, peer, connection)
        why = " and ".join(cause.brief for cause in said.causes) or said.why
        found.append(f"{direction} of {own.name}: {said.action}, {why}")
        if not said.allowed:
            break
    return tuple(found)


def routers_crossed(intent: Intent, source: LogicalPort, destination: LogicalPort) -> int:
    """How many logical routers a packet passes, each lowering its TTL by one."""
    if source.vni == destination.vni:
        return 0
    one, other = intent.switches[source.vni].router, intent.switches[destination.vni].router
    return 1 if one == other else 3


def _unplaced(intent: Intent, name: str) -> str:
    port = intent.ports.get(name)
    if port is None:
        return f"{name} has no logical port"
    if port.vni not in intent.switches:
        return f"the segment of {name} does not exist"
    if port.node not in intent.nodes:
        return f"{name} is on no known node"
    return ""


def _apart(intent: Intent, probe: Probe) -> str:
    """Why no router leads from one end to the other; empty: both are in one routing domain."""
    one, other = (_domain(intent, name) for name in (probe.source, probe.destination))
    return "" if one == other else f"{probe.source} is in routing domain {one}, {probe.destination} in {other}"


def _domain(intent: Intent, name: str) -> int:
    """Nodes and the outside are in the cluster's own."""
    port = intent.ports.get(name)
    return intent.domain_of(port) if port else 0


def domain_of(intent: Intent, probe: Probe) -> int:
    """The routing domain that a probe's addresses are of; the sender's, where it leads to another."""
    return _domain(intent, probe.source)


def _kept_in(intent: Intent, probe: Probe, here: Address, there: Address) -> str:
    """Why a pod does not get to the outside, or is not reached from there, whatever policies say; empty: it does."""
    if probe.destination == EXTERNAL and (port := intent.ports.get(probe.source)):
        found = outside(intent, port, here)
        return "" if found.address else f"{port.name} has no address outside: {found.origin} has none"
    if probe.source == EXTERNAL and (port := intent.ports.get(probe.destination)):
        switch = intent.switches[port.vni]
        if switch.snat and there.family in intent.snat_families:
            return f"{port.name} is translated outside, so it is not reached by its own address"
    return ""


def _neighbour(intent: Intent, probe: Probe) -> Verdict:
    source, destination = intent.ports.get(probe.source), intent.ports.get(probe.destination)
    if source and destination and source.vni == destination.vni and source.name != destination.name:
        return Verdict("yes", f"both on segment {source.vni}")
    return Verdict("no", "not neighbours on one segment")


def _path(intent: Intent, probe: Probe) -> str:
    source, destination = intent.ports.get(probe.source), intent.ports.get(probe.destination)
    if source and destination:
        crossed = routers_crossed(intent, source, destination)
        return {0: f"on segment {source.vni}", 1: "by one tier-1"}.get(crossed, "by tier-1, tier-0, tier-1")
    return "by tier-0"

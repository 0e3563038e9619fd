"""What the intent says of a probe: a reference that knows nothing of tables and flows. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from firewall.verdict import Connection, World, judge
from ipam.address import Address
from ncp.probe.model import EXTERNAL, Endpoint, Probe, Verdict
from sdn.model import Intent, LogicalPort

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
        if endpoint.name != EXTERNAL and (why := _unplaced(intent, endpoint.name)):
            return Verdict("no", why)
    if probe.protocol == "neighbour":
        return _neighbour(intent, probe)
    if EXTERNAL in (probe.source, probe.destination) and intent.tier0.exit_node not in intent.nodes:
        return Verdict("no", "tier-0 has no exit node")
    protocol = None if probe.protocol == "icmp" else probe.protocol
    said = judge(world, Connection(here, there, protocol, probe.port))
    if not said.allowed:
        causes = tuple(cause.brief for cause in said.causes)
        return Verdict("rejected" if said.action == "reject" else "no", said.why, causes)
    path = _path(intent, probe, there)
    if probe.protocol == "icmp" or listening.get((probe.destination, probe.protocol, probe.port)):
        return Verdict("yes", path)
    return Verdict("refused", f"{path}; nothing listens on {probe.protocol}/{probe.port}")


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


def _neighbour(intent: Intent, probe: Probe) -> Verdict:
    source, destination = intent.ports.get(probe.source), intent.ports.get(probe.destination)
    if source and destination and source.vni == destination.vni and source.name != destination.name:
        return Verdict("yes", f"both on segment {source.vni}")
    return Verdict("no", "not neighbours on one segment")


def _path(intent: Intent, probe: Probe, there: Address) -> str:
    source, destination = intent.ports.get(probe.source), intent.ports.get(probe.destination)
    if source and destination:
        crossed = routers_crossed(intent, source, destination)
        return {0: f"on segment {source.vni}", 1: "by one tier-1"}.get(crossed, "by tier-1, tier-0, tier-1")
    return "by tier-0"

"""What a node agent counts, for Prometheus."""

from __future__ import annotations

from collections import Counter as Counts
from collections import deque
from collections.abc import Container, Mapping, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from ncp.metrics import LATENCY_BUCKETS, Reading, event_to_ack, flows_per_table, queue_depth
from ncp.node.bgp import RouterState
from ncp.node.loop import Loop, Outcome
from sdn.compile.terms import LOGGED, REJECTED, TOO_BIG, TTL_EXCEEDED
from sdn.edge import Peer
from sdn.model import Origin
from sdn.pipeline.tables import PIPELINE

_ANSWERS = {TTL_EXCEEDED: "ttl-exceeded", TOO_BIG: "too-big", REJECTED: "rejected", LOGGED: "logged"}


RECENT = 1000


class NodeMetrics:
    """Counters and gauges of one agent."""

    def __init__(self, node: str, registry: CollectorRegistry = REGISTRY) -> None:
        self._seconds = Histogram(
            "ncp_node_switch_update_seconds",
            "Time from computing a change to the switch's acknowledgement",
            ["reason"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
            registry=registry,
        )
        self._flows = Counter(
            "ncp_node_flows_sent", "Flows sent to the switch", ["reason", "change"], registry=registry
        )
        self._repaired = Counter("ncp_node_audit_repairs", "Flows repaired by the audit", registry=registry)
        self._packet_ins = Counter(
            "ncp_node_packet_ins", "Packets answered by the controller", ["answer"], registry=registry
        )
        self._errors = Gauge(
            "ncp_node_rows_failing", "1 while bridge, tunnel or routes cannot be made", registry=registry
        )
        self._health_ports = Gauge(
            "ncp_node_health_check_ports_failing",
            "Health check ports of services that cannot be served on this node",
            registry=registry,
        )
        self._peers = Gauge("ncp_bgp_peers", "Routers that this node peers with", ["state"], registry=registry)
        self._prefixes = Gauge("ncp_bgp_prefixes", "Networks announced and learned", ["direction"], registry=registry)
        self._restarts = Gauge(
            "ncp_bgp_daemon_restarts", "Daemons that ended and were started again", registry=registry
        )
        self._enforcement = Histogram(
            "ncp_policy_enforcement_seconds",
            "From a policy seen to its enforcement acknowledged by this node's switch",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._active = Gauge("ncp_node_edge_active", "1 while this node is the active edge", registry=registry)
        self._takeovers = Counter(
            "ncp_node_edge_takeovers", "Times this node became the active edge", registry=registry
        )
        self._bfd = Gauge("ncp_node_edge_bfd_up", "1 while BFD finds another edge alive", ["peer"], registry=registry)
        self._exhausted = Counter(
            "ncp_node_snat_exhausted_packets",
            "Packets to the outside dropped here because no port was left at the address they would have left with",
            ["kind", "namespace", "name"],
            registry=registry,
        )
        self._latest: dict[str, float] = {}
        self._recent: deque[float] = deque(maxlen=RECENT)
        registry.register(
            Reading(
                "ncp_policy_enforcement_latest_seconds",
                "What the latest change of each policy took to be enforced here",
                lambda: dict(self._latest),
                label="policy",
            )
        )
        registry.register(
            Reading(
                "ncp_policy_enforcement_quantile_seconds",
                f"Quantiles of the latest {RECENT} changes of policies",
                self._quantiles,
                label="quantile",
            )
        )
        self._registry = registry
        self._event_to_ack = event_to_ack(registry)

    def watch(self, loop: Loop) -> None:
        """Let what is asked for be read from a loop: its queue, and the flows of its program."""
        queue_depth(loop.waiting, self._registry)
        flows_per_table(lambda: _by_table(loop), self._registry)

    def outcome(self, outcome: Outcome) -> None:
        """One exchange with the switch."""
        if outcome.reason == "change":
            self._event_to_ack.observe(outcome.since_event)
        self._seconds.labels(outcome.reason).observe(outcome.seconds)
        self._flows.labels(outcome.reason, "add").inc(outcome.added)
        self._flows.labels(outcome.reason, "delete").inc(outcome.deleted)
        if outcome.reason == "audit":
            self._repaired.inc(outcome.added + outcome.deleted)

    def packet_in(self, userdata: bytes) -> None:
        """One packet answered."""
        self._packet_ins.labels(_ANSWERS.get(userdata[:1], "unknown")).inc()

    def enforced(self, policy: str, seconds: float) -> None:
        """A policy's change took so long to be enforced here."""
        self._enforcement.observe(seconds)
        self._latest[policy] = seconds
        self._recent.append(seconds)

    def enforces(self, policies: Container[str]) -> None:
        """These policies are about pods of this node; others are forgotten."""
        self._latest = {name: seconds for name, seconds in self._latest.items() if name in policies}

    def _quantiles(self) -> dict[str, float]:
        found = sorted(self._recent)
        if not found:
            return {}
        # the least time that so many in a hundred do not exceed
        return {text: found[-(-percent * len(found) // 100) - 1] for text, percent in (("0.5", 50), ("0.99", 99))}

    def node_error(self, message: str) -> None:
        """The node's rows or routes could not be made (empty: they could)."""
        self._errors.set(1 if message else 0)

    def edge(self, active: bool, peers: Sequence[Peer]) -> None:
        """How this edge is, and the ways to the others."""
        self._active.set(active)
        for peer in peers:
            self._bfd.labels(peer.name).set(bool(peer.near))

    def snat_exhausted(self, dropped: Mapping[Origin, int]) -> None:
        """So many packets more found no port, by whose address it was."""
        for origin, packets in dropped.items():
            space = origin.name if origin.kind == "Namespace" else origin.namespace
            self._exhausted.labels(origin.kind, space, origin.name).inc(packets)

    def took_over(self) -> None:
        """This node has become the active edge."""
        self._takeovers.inc()

    def health_ports_failing(self, ports: int) -> None:
        """So many health check ports of services cannot be served."""
        self._health_ports.set(ports)

    def routing(self, state: RouterState) -> None:
        """The node's router is in this state."""
        up = sum(each.up for each in state.peers)
        self._peers.labels("up").set(up)
        self._peers.labels("down").set(len(state.peers) - up)
        self._prefixes.labels("announced").set(len(state.speaker.prefixes) if state.speaker else 0)
        self._prefixes.labels("learned").set(len(state.learned))
        self._restarts.set(state.restarts)


def _by_table(loop: Loop) -> dict[str, float]:
    counted = Counts(entry.flow.table for entry in loop.program.entries())
    return {table.name: counted[number] for number, table in enumerate(PIPELINE.tables)}

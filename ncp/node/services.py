"""What services ask of the node's kernel, kept up to date: the leg it should have, and the health checks it answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ncp.kube.reflector import Json, Key
from ncp.node.healthports import HealthCheck, HealthPorts
from ncp.node.leg import HostPort, host_ports_of, local_endpoints, service_leg
from ncp.node.networks import standing
from ncp.plumbing.leg import ServiceLeg
from sdn.announce import Standing, teller
from sdn.model import Intent

log = logging.getLogger(__name__)

KINDS: Final = frozenset(
    {"Node", "Pod", "Service", "EndpointSlice", "Endpoints", "Lease", "Namespace", "AddressBinding"}
)
DEBOUNCE: Final = 0.05
KEEP_SECONDS: Final = 5.0
"""Seconds that changes gather for, and between looks when nothing changes (ports that could not be had are tried again)."""


class _Known(NamedTuple):
    """What a leg was computed from. An intent's maps are never changed in place, so that the same ones say the same."""

    services: object
    slices: object
    nodes: object
    switches: object
    bindings: object
    tier0: object
    version: int

    def is_same(self, other: _Known) -> bool:
        return self.version == other.version and all(a is b for a, b in zip(self[:-1], other[:-1], strict=True))


class NodeServices:
    """A thread that computes :attr:`leg` and says when it is another.

    ``intent`` gives what is known of the network (None: not all of it yet), and whether that is all there is to know.
    """

    def __init__(
        self,
        node: str,
        node_ports: tuple[int, int],
        intent: Callable[[], tuple[Intent | None, bool]],
        health: HealthPorts,
        on_change: Callable[[], None],
    ) -> None:
        self.leg: ServiceLeg | None = None
        """None as long as services are not known."""
        self._node = node
        self._node_ports = node_ports
        self._intent = intent
        self._health = health
        self._on_change = on_change
        self._standings: dict[str, Standing] = {}
        self._host_ports: dict[Key, frozenset[HostPort]] = {}
        self._checks: dict[Key, int] = {}
        self._lock = threading.Lock()
        self._version = 0  # of the three
        self._computed: _Known | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node-services", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; health checks are not answered any more."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._health.close()

    def tells(self, service: str) -> bool:
        """Whether this node is the one to say what is wrong with a service (``namespace/name``)."""
        with self._lock:
            return teller(service, self._standings) == self._node

    def changed(self, kind: str, key: Key, obj: Json | None) -> None:
        """A Kubernetes object is now ``obj`` (None: gone). From any thread."""
        if kind not in KINDS:
            return
        if kind == "Node":
            self._hold(self._standings, key[1], obj and standing(obj))
        elif kind == "Pod":
            self._hold(self._host_ports, key, obj and host_ports_of(obj, self._node))
        else:
            if kind == "Service":
                self._hold(self._checks, key, obj and _health_check_port(obj))
            self._wake.set()

    def _hold(self, held: dict[Any, Any], key: object, value: object) -> None:
        with self._lock:
            if (value or None) == held.get(key):
                return
            if value:
                held[key] = value
            else:
                del held[key]
            self._version += 1
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            settled = True
            try:
                settled = self._look()
            except Exception:
                log.exception("what services ask of node %s could not be found out; trying again", self._node)
            self._wake.wait(KEEP_SECONDS if settled else 2 * DEBOUNCE)
            self._wake.clear()
            self._stopping.wait(DEBOUNCE)

    def _look(self) -> bool:
        """Compute what follows from what is known; whether that is all."""
        intent, settled = self._intent()
        if intent is None:
            return False
        with self._lock:
            known = _Known(
                intent.services,
                intent.slices,
                intent.nodes,
                intent.switches,
                intent.bindings,
                intent.tier0,
                self._version,
            )
            standings, checks = self._standings.copy(), self._checks.copy()
            host_ports = frozenset[HostPort]().union(*self._host_ports.values())
        if self._computed is None or not known.is_same(self._computed):
            self._compute(intent, standings, host_ports)
            self._computed = known
        self._health.serve(
            {
                port: HealthCheck(*key, local_endpoints(intent.slices.get("/".join(key), {}).values(), self._node))
                for key, port in checks.items()
            }
        )
        return settled

    def _compute(self, intent: Intent, standings: dict[str, Standing], host_ports: frozenset[HostPort]) -> None:
        held = self.leg.cluster if self.leg is not None else ()
        leg = service_leg(intent, standings, self._node, host_ports=host_ports, node_ports=self._node_ports, held=held)
        if leg != self.leg:
            self.leg = leg
            self._on_change()


def _health_check_port(service: Json) -> int:
    """0 where there is none (core/v1 ServiceSpec)."""
    spec = service.get("spec") or {}
    return int(spec.get("healthCheckNodePort") or 0) if spec.get("externalTrafficPolicy") == "Local" else 0

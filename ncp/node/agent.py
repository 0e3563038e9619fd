"""One node's agent: its parts, and what flows between them.

```
reflectors (objects)                 ─► loop ─► switch (OpenFlow)
ovsdb (attached ports)               ─► loop
CNI server ─► plumbing, ovsdb, loop        node.sock ◄─ views of the loop
```
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipam.address import WIDTH, Address, Prefix
from ncp.cni.realise import PodRealiser
from ncp.cni.server import CniServer
from ncp.kube.client import Kube
from ncp.kube.reflector import Json, Key
from ncp.kube.resources import EDGE_LEASE, INTENT, INTENT_CUSTOM, LEASES
from ncp.node import packetin, views
from ncp.node.api import NodeApi
from ncp.node.condition import NodeCondition
from ncp.node.edge import Edge
from ncp.node.edge_election import EdgeElection
from ncp.node.edge_health import Signs
from ncp.node.edges import uplinks_of
from ncp.node.enforced import POLICY_KINDS
from ncp.node.firewall_log import FirewallLog
from ncp.node.healthports import HealthPorts
from ncp.node.inputs import Inputs
from ncp.node.loop import Loop, Outcome
from ncp.node.metrics import NodeMetrics
from ncp.node.natstats import PORTS_EXHAUSTED
from ncp.node.network import PodNetwork
from ncp.node.networks import keep_networks
from ncp.node.notes import Noted, Notes
from ncp.node.seats import Seat
from ncp.node.services import NodeServices
from ncp.node.status import ProblemReporter
from ncp.node.uplinks import NodeUplinks
from ncp.plumbing.node import NodePort
from ncp.plumbing.pods import PodPlumber
from ncp.plumbing.uplink import UplinkDevices
from ncp.settings import Settings
from ncp.translate.fabric import fabric_of, pod_blocks
from ncp.translate.intent import POLICY_INVALID
from ncp.translate.objects import REALISED, annotation, format_mac, is_edge, transport_node
from sdn.compile.firewall import ITSELF
from sdn.compile.terms import LOGGED, REJECTED, SOURCE_TRANSLATED
from sdn.edge import Times
from sdn.model import Intent, Problem, TransportNode, pod_mtu
from sdn.openflow.pack import owner_of
from sdn.openflow.session import Switch
from sdn.openflow.values import PacketIn
from sdn.ovsdb.appctl import Appctl
from sdn.ovsdb.client import Ovsdb
from sdn.ovsdb.rows import Attachment, node_rows
from sdn.pipeline.tables import PIPELINE

log = logging.getLogger(__name__)

POLICIES = {each.kind: each for each in (*INTENT, *INTENT_CUSTOM) if each.kind in POLICY_KINDS}

NO_PORT = Attachment("", "", 0, "", "", "", "")

KEEP_SECONDS = 5.0
"""Between looks at the node's own rows, routes and condition when nothing wakes the agent earlier."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an agent works: its node, the switch's run directory, its sockets, and the namespace of its devices."""

    node: str
    rundir: Path
    cni_socket: Path
    api_socket: Path
    netns: str = ""


class NodeAgent:
    """Realises the intent on one node until stopped."""

    def __init__(self, settings: Settings, kube: Kube, place: Place) -> None:
        self.settings = settings
        self.place = place
        self.cluster = settings.coe.cluster
        self.bridge = settings.nsx_node_agent.ovs_bridge
        self.metrics = NodeMetrics(place.node)
        self.firewall_log = FirewallLog()
        self._owner = owner_of(self.cluster)
        self._kube = kube
        self._reporter = ProblemReporter(kube, place.node)
        self._realised = Notes(kube, REALISED + place.node, self._noted)
        self.switch = Switch(
            place.rundir,
            self.bridge,
            owner=self._owner,
            on_connected=lambda switch: self._switch_connected(),
            on_disconnected=self._switch_gone,
            on_packet_in=self._packet_in,
        )
        self.loop = Loop(
            place.node,
            self._owner,
            fabric_of(settings),
            self.switch,
            audit_interval=settings.ncp.audit_interval,
            appctl=Appctl(place.rundir),
            resets=settings.ncp.removed_members == "reset",
            on_outcome=self._told,
            on_enforced=self._enforces,
            on_measured=self.metrics.enforced,
            on_exhausted=self.metrics.snat_exhausted,
            on_problems=lambda problems: self._tell(),
        )
        self.metrics.watch(self.loop)
        self.ovsdb = Ovsdb(
            place.rundir / "db.sock",
            self.cluster,
            bridge=self.bridge,
            on_change=lambda name, old, new: self._port_changed(old, new),
            on_bridge=lambda name: self._wake.set(),
            on_carrier=self._carrier_changed,
            on_connected=lambda: self._wake.set(),
        )
        self.uplinks = NodeUplinks(place.node, self.ovsdb, UplinkDevices(place.netns), self._tell)
        self._telling = threading.Lock()
        self.network = PodNetwork(self.loop, self.cluster)
        self._node_port = NodePort(place.netns)
        self._services = NodeServices(
            place.node,
            settings.ncp.node_port_range,
            self._known,
            HealthPorts(place.netns, self.metrics.health_ports_failing),
            on_change=lambda: self._wake.set(),
        )
        self._underlay: tuple[str, ...] = ()  # devices that have the node's addresses
        self._election = EdgeElection(
            kube,
            place.node,
            settings.nsx_v3.failover_mode,
            Times(settings.ncp.edge_lease, settled=1.5e-3 * settings.ncp.edge_bfd_interval),
            self._signs,
            self._exit_changed,
            self.metrics,
        )
        self.edge = Edge(
            settings,
            place.node,
            place.api_socket.parent / "frr",
            place.netns,
            kube,
            intent=lambda: self._known()[0],
            wait=self.loop.wait_other,
            node=self._node_object,
            on_state=self.metrics.routing,
        )
        self._plumber = PodPlumber(place.netns)
        self.cni = CniServer(place.cni_socket, PodRealiser(self.network, self.ovsdb, self._plumber))
        self.api = NodeApi(place.api_socket, views.paths(self))
        self.inputs = Inputs(kube, self._on_change, self._synced)
        self._wake = threading.Event()
        data_path = {name: check for name, check in self.checks().items() if name != "api"}
        self._condition = NodeCondition(kube, place.node, data_path)

    # -- life -------------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. Flows and rows stay: only the agent goes."""
        self.loop.start()
        self.ovsdb.start()
        self.switch.start()
        self._reporter.start()
        self._realised.start()
        self._services.start()
        self._election.start()
        self.edge.start()
        self.inputs.start()
        self.api.start()
        self.cni.start()
        log.info("node agent of %s in cluster %s", self.place.node, self.cluster)
        try:
            while not stop.is_set():
                self._keep_node()
                if (node := self._node_object()) is not None:
                    self._keep_uplinks(node)
                    self._condition.keep(node)
                self._wake.wait(KEEP_SECONDS)
                self._wake.clear()
        finally:
            self.stop()

    def wake(self) -> None:
        """Look at the node's own rows and routes again."""
        self._wake.set()

    def stop(self) -> None:
        """End every thread."""
        self.cni.stop()
        self.api.stop()
        self.inputs.stop()
        self._election.stop()
        self.edge.stop()
        self._services.stop()
        self.loop.stop()
        self.switch.stop()
        self.ovsdb.stop()
        self._reporter.stop()
        self._realised.stop()
        self._plumber.close()
        self._node_port.close()
        self.uplinks.close()

    def _synced(self, kind: str) -> None:
        if kind == LEASES.kind:
            self._election.synced()
        self.loop.synced(kind)
        self._wake.set()

    # -- what comes in ----------------------------------------------------------------------------------------------

    def _on_change(self, kind: str) -> Callable[[Key, Json | None, Json | None], None]:
        def changed(key: Key, old: Json | None, new: Json | None) -> None:
            if kind == LEASES.kind:  # renewed twice a second: only who holds it is of interest beyond the election
                self._election.lease_changed(new)
                return
            self.loop.changed(kind, key, new)
            self._services.changed(kind, key, new)
            if kind == "Pod":
                self.network.pod_changed(key, new)
            elif kind == "Node":
                self._election.node_changed(key[1], new)
                if key[1] == self.place.node or is_edge(new or old or {"metadata": {}}):
                    self._wake.set()
            elif kind in POLICIES and new is not None:
                self._realised.saw(Noted(POLICIES[kind], *key), annotation(new, REALISED + self.place.node))

        return changed

    def _exit_changed(self, lease: Json | None) -> None:
        self.loop.changed(LEASES.kind, EDGE_LEASE, lease)
        self._services.changed(LEASES.kind, EDGE_LEASE, lease)

    def _signs(self) -> Signs:
        node = self._node_object()
        ways = {each.peer: each.near for each in self.ovsdb.ports().values() if each.peer}
        uplinks = uplinks_of(node) if node is not None else ()
        return Signs(self.loop.carries, ways, self.ovsdb.carriers(), self._underlay, uplinks)

    def _carrier_changed(self) -> None:
        self._election.wake()
        self.uplinks.look()

    def _port_changed(self, old: Attachment | None, new: Attachment | None) -> None:
        if (new or old or NO_PORT).peer:
            self._election.wake()
        else:
            self._attachments_changed()

    def _switch_gone(self, switch: Switch, why: str) -> None:
        log.warning("switch %s: %s", self.place.node, why)
        self._election.wake()

    def _switch_connected(self) -> None:
        self.switch.set_controller_rate(self.settings.ncp.controller_rate)
        self.loop.connected()
        self._wake.set()  # a switch that was away has new devices, without addresses

    def _attachments_changed(self) -> None:
        found = self.ovsdb.attachments()
        self.loop.attached({name: Seat(each.ofport, each.sandbox) for name, each in found.items() if each.ofport > 0})

    def _packet_in(self, switch: Switch, packet: PacketIn) -> None:
        intent = self.loop.translation.intent
        here = intent.nodes.get(self.place.node)
        self.metrics.packet_in(packet.userdata)
        if packet.userdata[:1] == LOGGED or (packet.userdata[:1] == REJECTED and packet.userdata[7:8] == b"\1"):
            attached = ((name, each.ofport) for name, each in self.ovsdb.attachments().items())
            self.firewall_log.note(packet, self.loop.program.rules, attached, time.time())
        if packet.userdata[:1] == SOURCE_TRANSLATED:
            self.firewall_log.note_translation(packet, intent, time.time())
        elif here is not None and packet.userdata[:1] != LOGGED:
            packetin.answer(switch, packet, intent, pod_mtu(intent.mtu, here.tep.family))

    def _told(self, outcome: Outcome) -> None:
        self.metrics.outcome(outcome)
        log.debug("%s: +%d -%d flows in %.1f ms", outcome.reason, outcome.added, outcome.deleted, outcome.seconds * 1e3)

    def problems(self) -> list[Problem]:
        """What could not be realised here: objects of the network, and the node's uplinks."""
        return [*self.uplinks.problems(), *self.loop.problems()]

    def _tell(self) -> None:
        """Tell of what is wrong now with the network, as far as it is this node's to tell, and with the node's uplinks."""
        with self._telling:
            ours = [problem for problem in self.loop.problems() if self._is_ours(problem)]
            self._reporter.report([*self.uplinks.problems(), *ours])

    def _is_ours(self, problem: Problem) -> bool:
        """Whether a problem is for this node to report: its own, that of a pod bound to it, or one that all nodes have and it tells."""
        origin = problem.origin
        if problem.reason == PORTS_EXHAUSTED:  # only the node that lets out has it
            return True
        if origin.kind == "Pod":
            pod: Any = self.inputs.reflectors["Pod"].store.get((origin.namespace, origin.name))
            return pod is not None and pod["spec"].get("nodeName") == self.place.node
        if origin.kind in POLICY_KINDS:  # the manager says what is wrong with the object itself
            key = f"{origin.kind}/{origin.namespace}/{origin.name}"
            return problem.reason != POLICY_INVALID and key in self.loop.program.rules.concerned
        if origin.kind == "Service":
            return self._services.tells(f"{origin.namespace}/{origin.name}")
        return origin.kind == "Node" and origin.name == self.place.node

    # -- what policies say of this node -----------------------------------------------------------------------------

    def _enforces(self, policies: Mapping[str, int]) -> None:
        self.metrics.enforces(policies)
        wanted = {}
        for key, generation in policies.items():
            kind, namespace, name = key.split("/")
            wanted[Noted(POLICIES[kind], namespace, name)] = str(generation)
        self._realised.keep(wanted)

    def _noted(self) -> dict[Noted, str]:
        """What the policies say of this node by now."""
        name = REALISED + self.place.node
        return {
            Noted(resource, *key): value
            for kind, resource in POLICIES.items()
            for key, obj in self.inputs.reflectors[kind].store.items()
            if (value := annotation(obj, name)) is not None
        }

    # -- the node's own rows and routes -----------------------------------------------------------------------------

    def _keep_node(self) -> None:
        """Make the bridge, tunnel and node port so, and the node's routes into the overlay. Repeats until it works."""
        here = self._here()
        if here is None or not self.ovsdb.connected:
            return
        mac = format_mac(here.mac)
        tables = {number: table.name for number, table in enumerate(PIPELINE.tables)}
        try:
            # What the kernel forwards is cut up, or refused, by tier-0: the kernel's own way leaves pieces that the switch would not take.
            whole = self.settings.nsx_node_agent.mtu
            peers, interval = self._election.watched(), self.settings.ncp.edge_bfd_interval
            rows = node_rows(
                self.cluster,
                node_mac=mac,
                mtu=whole,
                tables=tables,
                bridge=self.bridge,
                peers=peers,
                bfd_interval=interval,
            )
            self.ovsdb.ensure_node(rows)
            self._attachments_changed()
            self._node_port.ensure_device(mac, whole)
            self._underlay = self._node_port.devices(here.addresses)
            gateways = [interface.address for interface in fabric_of(self.settings).transit]
            self._keep_ways(here, gateways, whole)
        except Exception as error:
            log.warning("node %s: its bridge or routes are not as they should be: %s; trying again", here.name, error)
            self.metrics.node_error(str(error))
        else:
            self.metrics.node_error("")

    def _keep_ways(self, here: TransportNode, gateways: list[Address], mtu: int) -> None:
        """Routes into the overlay, and what services ask of the kernel. As long as services are not known, theirs stay."""
        leg, node = self._services.leg, self._node_object()
        links = [each.address for uplink in self.uplinks.wanted for each in uplink.addresses]
        if node is not None:
            keep_networks(self._kube, node, self._node_port.networks((*here.addresses, *links)))
        try:
            # What the node's own network answers to those whom the switch gave another address goes back there.
            stand_ins = (Prefix(each.family, each.value, WIDTH[each.family]) for each in ITSELF)
            prefixes = (*pod_blocks(self.settings), *stand_ins, *(leg.prefixes if leg is not None else ()))
            self._node_port.ensure_routes(prefixes, gateways, here.addresses, mtu, prune=leg is not None)
        finally:  # a service may ask for a route that somebody else has: the rest is done all the same
            if leg is not None:
                self._node_port.ensure_services(leg, here.addresses, gateways, mtu, links=links)

    def edge_status(self) -> dict[str, Any]:
        """How this node stands as an edge."""
        return self._election.status()

    def _keep_uplinks(self, node: Json) -> None:
        here = self._here()
        if here is None or not self.ovsdb.connected:
            return
        try:
            self.uplinks.keep(node, here.addresses, pod_blocks(self.settings))
        except Exception as error:
            log.warning("node %s: its uplinks are not as they should be: %s; trying again", here.name, error)
            self.metrics.node_error(str(error))

    def _known(self) -> tuple[Intent | None, bool]:
        """What is known of the network once the switch has it all, and whether more is to come at once."""
        if not self.loop.ready.is_set():
            return None, False
        return self.loop.translation.intent, self.loop.is_in_step

    def _here(self) -> TransportNode | None:
        """This node as the API server has it, from the reflector (the loop's intent may still wait for other kinds)."""
        obj = self._node_object()
        return transport_node(obj)[0] if obj is not None else None

    def _node_object(self) -> Json | None:
        return self.inputs.reflectors["Node"].store.get(("", self.place.node))

    # -- health -----------------------------------------------------------------------------------------------------

    def checks(self) -> dict[str, Callable[[], str | None]]:
        """Health checks by name: None when well, else the reason."""
        return {
            "switch": lambda: None if self.switch.connected else "no OpenFlow session with the switch",
            "ovsdb": lambda: None if self.ovsdb.connected else "no connection to ovsdb-server",
            "api": self._api_check,
            "loop": lambda: self.loop.fault or None,
            "in-step": lambda: None if self.loop.ready.is_set() else "the switch has not been programmed yet",
        }

    def _api_check(self) -> str | None:
        stale = [kind for kind, reflector in self.inputs.reflectors.items() if not reflector.healthy()]
        return f"the API server has not been heard of for a while ({', '.join(stale)})" if stale else None

"""One node in a process: a loop, a real switch without devices, pods that are ports of it, and frames from and to them."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Raw
from scapy.utils import RawPcapReader

from ipam.address import parse_address, parse_interface, parse_prefix
from ncp.node.loop import Loop
from ncp.node.seats import Seat
from ncp.translate.intent import KINDS, Fabric
from sdn.conntrack import Tracked, parse
from sdn.model import FirewallSettings
from sdn.openflow.pack import owner_of
from sdn.openflow.session import Switch
from sdn.openflow.values import PacketIn
from sdn.ovsdb.appctl import Appctl
from sdn.pipeline.registers import ZONE
from sdn.pipeline.tables import T
from tests.support.ovs import PrivateOvs
from tests.translate.test_intent import namespace, node

PODS = {"a": 16, "b": 17, "c": 18, "d": 19}
"""Pods of namespace red with their OpenFlow ports. Labels: ``app`` is the pod's name."""
OWNER = owner_of("lab")
SECONDS = 8.0


def fabric(**firewall: Any) -> Fabric:
    transit = (parse_interface("100.64.0.1/16"), parse_interface("fd98::1/64"))
    blocks = (parse_prefix("10.4.0.0/16"), parse_prefix("fd00:10:4::/48"))
    settings = FirewallSettings(**firewall)
    return Fabric("lab", 5000, transit, 1500, False, "node1", blocks=blocks, firewall=settings)


def address(name: str, family: int = 4) -> str:
    number = 2 + sorted(PODS).index(name)
    return f"10.4.0.{number}" if family == 4 else f"fd00:10:4::{number}"


def mac(name: str) -> str:
    return f"02:4e:0a:04:00:{2 + sorted(PODS).index(name):02x}"


def pod(name: str, where: str = "node1", **labels: str) -> dict[str, Any]:
    addresses = [f"{address(name)}/24", f"{address(name, 6)}/64"]
    decided = {"vni": 5001, "mac": mac(name), "addresses": addresses, "gateways": []}
    notes = {"ncp/cluster": "lab", "ncp/port": orjson.dumps(decided).decode()}
    meta = {
        "name": name,
        "namespace": "red",
        "uid": f"u-{name}",
        "labels": {"app": name} | labels,
        "annotations": notes,
    }
    return {"metadata": meta, "spec": {"nodeName": where}, "status": {"phase": "Running"}}


def policy(name: str, spec: Mapping[str, Any], *, generation: int = 1, established: str = "") -> dict[str, Any]:
    notes = {"ncp/established_connections": established} if established else {}
    meta = {"name": name, "namespace": "red", "uid": f"u-{name}", "generation": generation, "annotations": notes}
    return {"metadata": meta, "spec": spec}


def only_from(*names: str, to: str = "b", ports: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """Spec of a NetworkPolicy: into a pod from some pods and nobody else."""
    peers = [{"podSelector": {"matchLabels": {"app": name}}} for name in names]
    rule = {"from": peers} | ({"ports": list(ports)} if ports else {})
    return {"podSelector": {"matchLabels": {"app": to}}, "ingress": [rule] if names else []}


class Rig:
    """Node node1 with the pods a, b, c and d; call :meth:`start` once what it begins with was given."""

    def __init__(self, ovs: PrivateOvs) -> None:
        self.ovs = ovs
        self.told: list[dict[str, int]] = []  # policies enforced here, each time that changed
        self.seconds: list[tuple[str, float]] = []
        self.packets: queue.Queue[PacketIn] = queue.Queue()
        self.dumps = 0
        self.on_enforced: Callable[[Mapping[str, int]], None] = lambda policies: None
        self.before_dump: Callable[[], None] = lambda: None
        self.loop: Loop | None = None
        self._seen = {name: len(self._captured(name)) for name in PODS}

    # -- the agent --------------------------------------------------------------------------------------------------

    def start(
        self,
        *policies: dict[str, Any],
        attached: Mapping[str, int] | None = None,
        pods: tuple[str, ...] = tuple(PODS),
        resets: bool = False,
        **firewall: Any,
    ) -> Rig:
        """An agent with a cluster; waits until the switch is in step."""
        self.switch = Switch(
            self.ovs.rundir,
            owner=OWNER,
            on_connected=lambda switch: self.loop.connected(),
            on_disconnected=lambda switch, why: None,
            on_packet_in=lambda switch, packet: self.packets.put(packet),
        )
        self.loop = Loop(
            "node1",
            OWNER,
            fabric(**firewall),
            self.switch,
            audit_interval=3600,
            appctl=_Counting(self),
            resets=resets,
            on_enforced=self._enforced,
            on_measured=lambda name, seconds: self.seconds.append((name, seconds)),
        )
        for name, place in (("node1", "192.168.50.11"), ("node2", "192.168.50.12")):
            self.loop.changed("Node", ("", name), node(name, place))
        self.loop.changed("Namespace", ("", "red"), namespace("red"))
        for name in pods:
            self.loop.changed("Pod", ("red", name), pod(name))
        for each in policies:
            self.loop.changed("NetworkPolicy", ("red", each["metadata"]["name"]), each)
        for kind in KINDS:
            self.loop.synced(kind)
        self.attach(PODS if attached is None else attached, wait=False)
        self.loop.start()
        self.switch.start()
        self.idle()
        return self

    def stop(self) -> None:
        if self.loop is not None:
            self.loop.stop()
            self.switch.stop()
            self.loop = None

    def change(self, kind: str, name: str, obj: dict[str, Any] | None, *, wait: bool = True) -> None:
        self.loop.changed(kind, ("red", name), obj)
        if wait:
            self.idle()

    def apply(self, *policies: dict[str, Any], kind: str = "NetworkPolicy") -> None:
        for each in policies:
            self.change(kind, each["metadata"]["name"], each)

    def attach(self, ports: Mapping[str, int], *, wait: bool = True) -> None:
        self.loop.attached({f"red/{name}": Seat(port, f"sandbox of {name}") for name, port in ports.items()})
        if wait:
            self.idle()

    def idle(self) -> None:
        """Everything given so far is on the switch, and connections obey it."""
        assert self.loop.wait_idle(time.monotonic() + SECONDS)
        self.loop.audit()  # its end is after the exchange before: settled, not only acknowledged
        before = self.loop.last_audit
        until(lambda: self.loop.last_audit != before)
        assert self.loop.wait_idle(time.monotonic() + SECONDS)

    def _enforced(self, policies: Mapping[str, int]) -> None:
        self.on_enforced(policies)
        self.told.append({key.rpartition("/")[2]: generation for key, generation in policies.items()})

    # -- frames -----------------------------------------------------------------------------------------------------

    def send(self, source: str, target: str, what: Any, family: int = 4) -> bytes:
        """A frame from a pod to another: its transport layer is given."""
        frame = Ether(src=mac(source), dst=mac(target)) / network(source, target, family) / what
        self.ovs_call("netdev-dummy/receive", f"p{PODS[source]}", bytes(frame).hex())
        return bytes(frame)

    def connect(self, source: str, target: str, port: int = 80, *, number: int = 40000, family: int = 4) -> None:
        """Establish a TCP connection. Each segment is sent until it arrives, as TCP does: a change may take the switch a moment."""
        there, back = {"sport": number, "dport": port}, {"sport": port, "dport": number}
        for sender, receiver, segment in (
            (source, target, TCP(**there, flags="S", seq=100)),
            (target, source, TCP(**back, flags="SA", seq=300, ack=101)),
            (source, target, TCP(**there, flags="A", seq=101, ack=301)),
        ):
            until(lambda ends=(sender, receiver), segment=segment: self.passes(*ends, segment, family))

    def passes(self, source: str, target: str, what: Any, family: int = 4) -> bool:
        """Whether a frame arrives."""
        self.send(source, target, what, family)
        return bool(self.settled(source, target))

    def receives(self, name: str, count: int) -> list[bytes]:
        """What a pod was sent since the last look, once that is so many frames or more."""
        until(lambda: len(self._captured(name)) >= self._seen[name] + count)
        frames, first = self._captured(name), self._seen[name]
        self._seen[name] = len(frames)
        return frames[first:]

    def hears(self, source: str, target: str, port: int = 80, *, number: int = 40000, family: int = 4) -> bool:
        """Whether a word on a connection arrives."""
        what = TCP(sport=number, dport=port, flags="PA", seq=101, ack=301) / Raw(b"who\n")
        return self.passes(source, target, what, family)

    def settled(self, source: str, target: str) -> list[bytes]:
        """What a pod was sent, once the switch has dealt with all that another sent: it answers an ARP request after that."""
        question = ARP(hwsrc=mac(source), psrc=address(source), pdst="10.4.0.1")
        frame = Ether(src=mac(source), dst="ff:ff:ff:ff:ff:ff") / question
        self.ovs_call("netdev-dummy/receive", f"p{PODS[source]}", bytes(frame).hex())
        self.receives(source, 1)
        return self.receives(target, 0)

    def _captured(self, name: str) -> list[bytes]:
        path = self.ovs.rundir / f"p{PODS[name]}.pcap"
        if not path.exists() or path.stat().st_size < 24:
            return []
        with RawPcapReader(str(path)) as found:
            return [bytes(frame) for frame, _ in found]

    # -- the switch -------------------------------------------------------------------------------------------------

    def ovs_call(self, *command: str) -> str:
        return Appctl(self.ovs.rundir).call(*command)

    def connections(self, zone: str | int | None = None) -> set[Tracked]:
        """What the switch tracks, in the zone of a pod's port."""
        found = set(parse(self.ovs_call("dpctl/dump-conntrack")))
        number = PODS.get(zone, zone)
        return found if zone is None else {each for each in found if each.zone == number}

    def associations(self) -> set[tuple[int, str, int, str, int]]:
        """SCTP associations that the switch noted, each way: zone, sender and port, receiver and port."""
        names = {address(name, family): name for name in PODS for family in (4, 6)}
        found = set()
        for line in self.ovs.ofctl("dump-flows", "br-int", f"table={T['associations']}").splitlines():
            if "sctp" in line:
                terms = dict(
                    each.split("=") for each in line.split(" actions=")[0].replace(" ", "").split(",") if "=" in each
                )
                ends = [
                    names[next(v for k, v in terms.items() if k in (f"nw_{end}", f"ipv6_{end}"))]
                    for end in ("src", "dst")
                ]
                zone = int(terms["reg1"].partition("/")[0], 16) >> ZONE.low
                found.add((zone, ends[0], int(terms["tp_src"]), ends[1], int(terms["tp_dst"])))
        return found

    def forget_connections(self) -> None:
        self.ovs_call("dpctl/flush-conntrack")

    def purge(self) -> None:
        """Let the switch forget what it has cached of its flows."""
        self.ovs_call("revalidator/purge")

    def flows(self, table: str = "") -> str:
        self.ovs_call("revalidator/wait")
        return self.ovs.ofctl("dump-flows", "br-int", *([f"table={table}"] if table else []))


class _Counting(Appctl):
    """Notes when connections are about to be read."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.ovs.rundir)
        self._rig = rig

    def call(self, command: str, *arguments: str) -> str:
        if command == "dpctl/dump-conntrack":
            self._rig.dumps += 1
            self._rig.before_dump()
        return super().call(command, *arguments)


def network(source: str, target: str, family: int) -> Any:
    if family == 4:
        return IP(src=address(source), dst=address(target))
    return IPv6(src=address(source, 6), dst=address(target, 6))


def tracked(
    zone: str, source: str, target: str, port: int = 80, *, number: int = 40000, family: int = 4, protocol: Any = "tcp"
) -> Tracked:
    """A connection in the zone of a pod's port."""
    ends = parse_address(address(source, family)), parse_address(address(target, family))
    return Tracked(PODS[zone], protocol, *ends, number, port, ends[1])


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def datagram(port: int, number: int = 40000, size: int = 4) -> Any:
    return UDP(sport=number, dport=port) / Raw(b"x" * size)


def association(port: int, number: int = 40000) -> Any:
    return SCTP(sport=number, dport=port, tag=0) / SCTPChunkInit(
        init_tag=1, n_out_streams=1, n_in_streams=1, init_tsn=1
    )

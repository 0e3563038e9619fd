"""What becomes of nodes that fall silent or are deleted, and of the pods on them."""

from __future__ import annotations

import logging
import threading
import time
from typing import NamedTuple

from labs.cluster.loop import carry_out
from labs.cluster.pods import Json, condition, is_leaving, is_terminal, now_text, seconds
from labs.cluster.selectors import tolerates
from labs.cluster.view import LEASE_NAMESPACE, View
from labs.cluster.writes import Delete, Patch, Write
from ncp.kube.client import Kube
from ncp.kube.errors import ApiError
from ncp.kube.resources import LEASES, NODES, PODS

_log = logging.getLogger(__name__)

GRACE_SECONDS = 40.0
TICK_SECONDS = 2.0
EVICTION_SECONDS = 300.0
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
_OURS = (NOT_READY, UNREACHABLE)


class Heartbeat(NamedTuple):
    """The last lease renewal seen of a node, and when it was seen (by this process's own clock)."""

    stamp: str
    seen: float


def plan_node(node: Json, silent: bool) -> list[Write]:
    """The writes that make a node's Ready condition and taints tell whether its kubelet is heard of."""
    writes: list[Write] = []
    ready = condition(node, "Ready")
    status = ready.get("status", "Unknown")
    if silent and status != "Unknown":
        status = "Unknown"
        verdict = {
            **ready,
            "type": "Ready",
            "status": status,
            "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
            "lastTransitionTime": now_text(),
        }
        writes.append(Patch(NODES, node, {"status": {"conditions": [verdict]}}, "status", kind="strategic"))
    key = {"True": "", "False": NOT_READY}.get(status, UNREACHABLE)
    held = node["spec"].get("taints") or []
    ours = [each for each in held if each["key"] in _OURS]
    if {each["key"] for each in ours} != ({key} if key else set()):
        kept = [each for each in held if each["key"] not in _OURS]
        new = [{"key": key, "effect": effect} for effect in ("NoSchedule", "NoExecute")] if key else []
        for each in new:
            if each["effect"] == "NoExecute":
                each["timeAdded"] = now_text()
        writes.append(Patch(NODES, node, {"spec": {"taints": kept + new or None}}))
    return writes


def evicted(pod: Json, node: Json, now: float) -> bool:
    """Whether the node's taints send the pod away by now (it tolerates ours for five minutes unless it says else)."""
    if is_leaving(pod) or is_terminal(pod):
        return False
    tolerations = pod["spec"].get("tolerations") or []
    for taint in node["spec"].get("taints") or ():
        if taint.get("effect") != "NoExecute":
            continue
        covering = [each for each in tolerations if tolerates([each], taint)]
        if not covering and taint["key"] not in _OURS:
            return True
        limits = [each.get("tolerationSeconds") for each in covering] or [EVICTION_SECONDS]
        if None not in limits and seconds(taint.get("timeAdded")) + min(limits) <= now:
            return True
    return False


class NodeLife(threading.Thread):
    """Looks at all nodes every two seconds."""

    needs = (NODES, LEASES, PODS)

    def __init__(self, kube: Kube, view: View) -> None:
        super().__init__(name="nodelife", daemon=True)
        self._kube = kube
        self._view = view
        self._beats: dict[str, Heartbeat] = {}
        self._orphans: set[str] = set()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Tick until stopped."""
        while not self._stopping.wait(TICK_SECONDS):
            if not self._view.synced():
                continue
            try:
                for write in self.tick(time.monotonic(), time.time()):
                    carry_out(self._kube, self._view, write)
            except ApiError as error:
                _log.warning("nodes: %s", error)

    def tick(self, clock: float, now: float) -> list[Write]:
        """What to write at ``clock`` (monotonic) and ``now`` (epoch)."""
        nodes = {each["metadata"]["name"]: each for each in self._view.all(NODES)}
        writes: list[Write] = []
        for name, node in nodes.items():
            writes += plan_node(node, self._silent(name, node, clock))
        self._beats = {name: beat for name, beat in self._beats.items() if name in nodes}
        return writes + self._pods(nodes, now)

    def _silent(self, name: str, node: Json, clock: float) -> bool:
        lease = self._view.get(LEASES, (LEASE_NAMESPACE, name))
        stamp = str((lease or {}).get("spec", {}).get("renewTime", "")) + condition(node, "Ready").get(
            "lastHeartbeatTime", ""
        )
        beat = self._beats.get(name)
        if beat is None or beat.stamp != stamp:
            beat = self._beats[name] = Heartbeat(stamp, clock)
        return clock - beat.seen > GRACE_SECONDS

    def _pods(self, nodes: dict[str, Json], now: float) -> list[Write]:
        writes: list[Write] = []
        orphans = set()
        for pod in self._view.all(PODS):
            name = pod["spec"].get("nodeName")
            if not name:
                continue
            if name not in nodes:
                # Seen twice: a node and the pods on it may come into view in any order.
                orphans.add(pod["metadata"]["uid"])
                if pod["metadata"]["uid"] in self._orphans:
                    writes.append(Delete(PODS, pod, 0))
            elif evicted(pod, nodes[name], now):
                writes.append(Delete(PODS, pod))
        self._orphans = orphans
        return writes

"""What the CNI server asks of the node agent: a pod's decision, and its flows on the switch."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from ncp.cni.realise import NotDecided, NotRealised, UnknownPod
from ncp.cni.result import PortConfig
from ncp.node.loop import Loop
from ncp.translate import objects
from sdn.model import pod_mtu
from sdn.ovsdb.rows import Attachment

ERRORS = ("ncp/error.network", "ncp/error.ip_range")
PATIENCE = 1.0
"""Seconds to wait for a decision that the manager says it cannot make; then the kubelet is told why, and asks again."""


class PodNetwork:
    """Answers from what the agent's reflectors have seen, and waits for what has not come yet."""

    def __init__(self, loop: Loop, cluster: str) -> None:
        self._loop = loop
        self._cluster = cluster
        self._pods: dict[str, Mapping[str, Any]] = {}
        self._condition = threading.Condition()

    def pod_changed(self, key: tuple[str, str], pod: Mapping[str, Any] | None) -> None:
        """A pod is now this (None: gone)."""
        with self._condition:
            name = f"{key[0]}/{key[1]}"
            if pod is None:
                self._pods.pop(name, None)
            else:
                self._pods[name] = pod
            self._condition.notify_all()

    def wanted(self, namespace: str, pod: str, uid: str, deadline: float) -> PortConfig:
        """A pod's addresses and segment, as the manager decided.

        Raises:
            UnknownPod: the API server has no such pod (or one with another uid) by the deadline.
            NotDecided: the manager has not decided by the deadline; the message carries its reason if it gave one.
        """
        name, asked = f"{namespace}/{pod}", time.monotonic()
        with self._condition:
            while True:
                found = self._pods.get(name)
                if found is not None and uid and found["metadata"].get("uid") != uid:
                    found = None
                if found is not None and objects.annotation(found, objects.PORT) is not None:
                    return self._config(found)
                if found is not None and found["metadata"].get("deletionTimestamp"):
                    raise NotDecided(f"pod {name} is being deleted before it had a network")
                refused = found is not None and _refusal(found)
                left = min(deadline, asked + PATIENCE if refused else deadline) - time.monotonic()
                if left <= 0:
                    break
                self._condition.wait(left)
        if found is None:
            raise UnknownPod(f"pod {name} {uid} is not known to the API server (or was replaced); it will be retried")
        why = _refusal(found) or "the manager has not decided its address yet"
        raise NotDecided(f"pod {name} has no network: {why}")

    def _config(self, pod: Mapping[str, Any]) -> PortConfig:
        port, problems = objects.port(pod)
        if port is None:
            name = f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']}"
            why = problems[0].message if problems else f"pod {name} is finished or on the host's network"
            raise NotDecided(why)
        interfaces, gateways = objects.port_interfaces(pod)
        intent = self._loop.translation.intent
        here = intent.nodes.get(self._loop.node)
        if here is None:
            raise NotDecided(f"node {self._loop.node} has no address yet, so its MTU is not known")
        return PortConfig(
            port.vni, objects.format_mac(port.mac), interfaces, gateways, pod_mtu(intent.mtu, here.tep.family)
        )

    def realise(self, iface_id: str, attachment: Attachment, deadline: float) -> None:
        """Return when the switch has acknowledged the port's flows.

        Raises:
            NotRealised: not by the deadline; the message says what stands in the way.
        """
        if not self._loop.wait_realised(iface_id, attachment.ofport, deadline):
            found = [p for p in self._loop.problems() if f"{p.origin.namespace}/{p.origin.name}" == iface_id]
            why = found[0].message if found else "the switch has not acknowledged its flows"
            raise NotRealised(f"port {iface_id} is not realised on node {self._loop.node}: {why}")

    def withdraw(self, iface_id: str, sandbox: str, deadline: float) -> None:
        """Return when the port's flows are gone from the switch.

        Raises:
            NotRealised: not by the deadline.
        """
        if not self._loop.withdraw(iface_id, sandbox, deadline):
            raise NotRealised(
                f"the flows of {iface_id} are still on node {self._loop.node}: the switch does not answer"
            )

    def installed(self, iface_id: str, attachment: Attachment) -> str | None:
        """None where the port's flows are on the switch; else what is missing."""
        if not self._loop.realised(iface_id, attachment.ofport):
            return f"the flows of {iface_id} at OpenFlow port {attachment.ofport} are not on the switch"
        return None


def _refusal(pod: Mapping[str, Any]) -> str | None:
    """Why the manager does not decide, where it has said so."""
    return next((text for name in ERRORS if (text := objects.annotation(pod, name))), None)

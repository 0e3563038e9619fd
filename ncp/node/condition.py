"""The node's condition ``NetworkUnavailable``: whether pods on this node can be given a network, and if not, why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from ncp.kube.client import Kube
from ncp.kube.errors import ApiError
from ncp.kube.resources import NODES

log = logging.getLogger(__name__)

TYPE = "NetworkUnavailable"
Checks = Mapping[str, Callable[[], str | None]]


class NodeCondition:
    """Keeps the condition as the checks say it should be. Call :meth:`keep` every few seconds."""

    def __init__(self, kube: Kube, node: str, checks: Checks) -> None:
        self._kube = kube
        self._node = node
        self._checks = checks

    def keep(self, node: Mapping[str, Any]) -> None:
        """Write the condition where the Node object says another, whoever wrote that.

        Args:
            node: the object as last seen. A refusal is tried again at the next call.
        """
        wrong = [reason for check in self._checks.values() if (reason := check())]
        wanted = ("True", "; ".join(wrong)) if wrong else ("False", "pods can be attached to the network")
        conditions = (node.get("status") or {}).get("conditions") or ()
        held = next((each for each in conditions if each["type"] == TYPE), {})
        if (held.get("status"), held.get("message")) == wanted:
            return
        try:
            body = {"status": {"conditions": [condition(*wanted, held)]}}
            self._kube.patch(NODES, self._node, body=body, kind="strategic", subresource="status")
        except ApiError as error:
            log.warning("node %s: its condition could not be written: %s", self._node, error)


def condition(status: str, message: str, held: Mapping[str, Any]) -> dict[str, Any]:
    """The condition as Kubernetes has it (core/v1 NodeCondition); a status that stays keeps its time of transition."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": TYPE,
        "status": status,
        "reason": "NcpNotReady" if status == "True" else "NcpReady",
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": held.get("lastTransitionTime", now) if held.get("status") == status else now,
    }

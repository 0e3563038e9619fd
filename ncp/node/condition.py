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

Checks = Mapping[str, Callable[[], str | None]]


class NodeCondition:
    """Writes the condition when it changes. Call :meth:`keep` every few seconds."""

    def __init__(self, kube: Kube, node: str, checks: Checks) -> None:
        self._kube = kube
        self._node = node
        self._checks = checks
        self._written: tuple[str, str] | None = None

    def keep(self) -> None:
        """Compare with what was written last, and write if it is another; a refusal is tried again at the next call."""
        wrong = [reason for check in self._checks.values() if (reason := check())]
        wanted = ("True", "; ".join(wrong)) if wrong else ("False", "pods can be attached to the network")
        if wanted == self._written:
            return
        try:
            body = {"status": {"conditions": [condition(*wanted)]}}
            self._kube.patch(NODES, self._node, body=body, kind="strategic", subresource="status")
        except ApiError as error:
            log.warning("node %s: its condition could not be written: %s", self._node, error)
        else:
            self._written = wanted


def condition(status: str, message: str) -> dict[str, Any]:
    """The condition as Kubernetes has it (core/v1 NodeCondition)."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "NetworkUnavailable",
        "status": status,
        "reason": "NcpNotReady" if status == "True" else "NcpReady",
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }

"""Waiting for the parts of a lab by what they say of themselves."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any

from labs.errors import LabError, with_tail
from labs.processes import Running
from labs.state import State
from ncp.cli import nodeapi
from ncp.kube.client import AccessError, ApiError, Kube
from ncp.kube.resources import LEASES, NODES

POLL_SECONDS = 0.03
SLOWEST_POLL_SECONDS = 0.5
START_SECONDS = 60.0
LEASE_NAMESPACE = "kube-node-lease"


class Waiter:
    """Waits for conditions in any number of threads until one gives up for all of them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """Make every wait, now and later, fail at once."""
        self._given_up.set()

    def until(
        self,
        what: str,
        condition: Callable[[], object],
        needs: Iterable[Running] = (),
        seconds: float = START_SECONDS,
    ) -> None:
        """Return once ``condition`` holds.

        Args:
            what: the condition in words, for the error.
            condition: asked again and again.
            needs: processes without which it cannot come true; the first one's log is shown when time is up.
            seconds: how long to wait.

        Raises:
            LabError: one of the processes died, or time is up; with the end of the log that should say why.
        """
        needs = tuple(needs)
        started = time.monotonic()
        while not condition():
            for running in needs:
                if not running.alive:
                    name = running.command.name
                    raise LabError(with_tail(f"{name} died before {what}", self._state.log(name)))
            waited = time.monotonic() - started
            if waited > seconds:
                message = f"after {seconds:.0f} s it is still not so that {what}"
                raise LabError(with_tail(message, self._state.log(needs[0].command.name)) if needs else message)
            if self._given_up.wait(min(SLOWEST_POLL_SECONDS, POLL_SECONDS + waited / 100)):
                raise LabError(f"gave up waiting until {what}")


def agent_status(state: State, node: str) -> dict[str, Any] | None:
    """What a node's agent says of itself (``GET /v1/status``); None when it does not answer."""
    try:
        return nodeapi.get(state.node(node).api, "/v1/status")
    except nodeapi.AgentError:
        return None


def agent_connected(state: State, node: str) -> bool:
    """Whether a node's agent speaks to its switch."""
    status = agent_status(state, node)
    return bool(status and status.get("connected"))


def agent_ready(state: State, node: str) -> bool:
    """Whether a node's switch holds what its agent wants it to."""
    status = agent_status(state, node)
    return bool(status and status.get("connected") and status.get("ready", True) and status.get("in_step", True))


def health(port: int, path: str = "/readyz", timeout: float = 3.0) -> bool:
    """Whether a process answers its health endpoint with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def api_answers(state: State) -> bool:
    """Whether the API serves a list with the lab's kubeconfig."""
    return nodes_ready(state) is not None


def nodes_ready(state: State, since: float = 0.0) -> set[str] | None:
    """Names of the nodes that take pods; None when the API does not answer.

    Args:
        state: the lab.
        since: epoch seconds; a node whose kubelet has not renewed its lease after that does not count, whatever an
            earlier kubelet said of it.
    """
    if not state.kubeconfig.exists():
        return None
    try:
        kube = _kube(str(state.kubeconfig), state.kubeconfig.stat().st_mtime_ns)
        nodes, _ = kube.list(NODES)
        leases = kube.list(LEASES, LEASE_NAMESPACE)[0] if since else []
    except (ApiError, AccessError):
        return None
    renewed = {lease["metadata"]["name"] for lease in leases if _renewal(lease) >= since}
    names = {node["metadata"]["name"] for node in nodes if _is_ready(node)}
    return names & renewed if since else names


@lru_cache(maxsize=1)
def _kube(kubeconfig: str, written: int) -> Kube:
    """A client for a kubeconfig as it was written then: asked many times a second, it is made once."""
    return Kube.connect(kubeconfig)


def _is_ready(node: dict[str, Any]) -> bool:
    """Ready, its network too, and no longer kept from pods by the taints of a node that was not."""
    conditions = {one["type"]: one["status"] for one in node.get("status", {}).get("conditions") or ()}
    taints = node.get("spec", {}).get("taints") or ()
    kept = any(taint["key"].startswith("node.kubernetes.io/") for taint in taints)
    return conditions.get("Ready") == "True" and conditions.get("NetworkUnavailable") != "True" and not kept


def _renewal(lease: dict[str, Any]) -> float:
    stamp = lease.get("spec", {}).get("renewTime")
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0

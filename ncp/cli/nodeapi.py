"""The node agents' own API, over the unix sockets they listen on; and where a lab keeps them."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from ncp.kube.access import AccessError

DEFAULT_STATE: Final = Path("/var/lib/ncp-lab")
DEFAULT_SOCKET: Final = Path("/run/ncp/node.sock")
TIMEOUT: Final = 15.0  # seconds; a node with 100,000 flows takes a few to list them
Json = dict[str, Any]


class AgentError(Exception):
    """No node agent is within reach, or one does not answer; the message names the socket and what to do."""


def state_directory(state: Path | None = None) -> Path:
    """The lab's state directory: the one given, NCP_LAB_STATE, or the default. It need not exist."""
    return Path(state or os.environ.get("NCP_LAB_STATE") or DEFAULT_STATE)


def kubeconfig(given: str | None = None, state: Path | None = None) -> str | None:
    """The kubeconfig to use: the one given, that of the lab given, KUBECONFIG, that of the lab there is, kubectl's.

    None means the service account of the pod we are in.

    Raises:
        AccessError: there is none of all these.
    """
    if given:
        return given
    directory = state_directory(state)
    lab = directory / "kubeconfig"
    if state is not None:
        if not lab.exists():
            raise AccessError(f"no lab runs in {directory}: it has no kubeconfig; `ncp lab up --state {directory}`")
        return str(lab)
    named = [path for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    if named:
        return named[0]
    for path in (lab, Path("~/.kube/config").expanduser()):
        if path.exists():
            return str(path)
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return None
    raise AccessError(
        f"no cluster is within reach: no --kubeconfig, no KUBECONFIG, no lab in {directory} (`ncp lab up` starts one)"
    )


def sockets(state: Path | None = None) -> list[Path]:
    """Sockets of the agents on this host: a lab's, else the one of a real node. May be empty."""
    found = sorted(state_directory(state).glob("nodes/*/node.sock"))
    if not found and state is None and "NCP_LAB_STATE" not in os.environ and DEFAULT_SOCKET.exists():
        found = [DEFAULT_SOCKET]
    return found


def get(path: Path, resource: str) -> Json:
    """One answer of the agent behind a socket.

    Raises:
        AgentError: nobody listens there, or the answer is an error.
    """
    connection = _UnixConnection(path)
    try:
        connection.request("GET", resource)
        answer = connection.getresponse()
        body: Json = orjson.loads(answer.read())
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise AgentError(f"the node agent at {path} does not answer: {reason}; is `ncp node` running?") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise AgentError(f"the node agent at {path} cannot tell {resource}: {body.get('error', answer.reason)}")
    return body


def ask(resource: str, state: Path | None = None, node: str = "") -> Iterator[Json]:
    """The answer of every agent on this host, or of one node's alone.

    Raises:
        AgentError: there is no agent, none of that name, or one does not answer.
    """
    found = sockets(state)
    if not found:
        places = f"{state_directory(state)}/nodes/*/node.sock or {DEFAULT_SOCKET}"
        raise AgentError(f"no node agent on this host ({places}); `ncp lab up` starts a lab, --state names another")
    if not node:
        yield from (get(path, resource) for path in found)
        return
    named = [path for path in found if path.parent.name == node]
    if named:
        yield get(named[0], resource)
        return
    answers = [get(path, resource) for path in found if path == DEFAULT_SOCKET]
    matching = [answer for answer in answers if answer["node"] == node]
    if not matching:
        known = [path.parent.name for path in found if path != DEFAULT_SOCKET] + [each["node"] for each in answers]
        raise AgentError(f"no agent of node {node!r} on this host; there are: {', '.join(known)}")
    yield from matching


def statuses(state: Path | None = None) -> dict[str, Json]:
    """The status of every agent on this host, by node; empty where there is none.

    Raises:
        AgentError: one does not answer.
    """
    return {answer["node"]: answer for answer in ask("/v1/status", state)} if sockets(state) else {}


def survey(state: Path | None = None, resource: str = "/v1/status") -> tuple[dict[str, Json], dict[str, str]]:
    """The answer of every agent that gives one, by node; and of the others, why they do not."""
    well, silent = {}, {}
    for path in sockets(state):
        try:
            answer = get(path, resource)
        except AgentError as error:
            silent[path.parent.name if path != DEFAULT_SOCKET else os.uname().nodename] = str(error)
        else:
            well[str(answer["node"])] = answer
    return well, silent


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path):
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

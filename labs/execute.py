"""Running a command where a pod, a node, a router or the external host is."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from labs import routers
from labs.errors import LabError, UsageError
from labs.requirements import check_root
from labs.state import State
from labs.switches import environment
from labs.wish import topology_of
from ncp.kube.client import AccessError, ApiError, Kube, NotFound
from ncp.kube.resources import PODS
from topologies import netns
from topologies.plan import namespace
from topologies.spec import TopologyError

NOT_FOUND = 127  # what a shell answers for a command that is not there


class Place(NamedTuple):
    """Where to run: a network namespace, and what to add to the environment."""

    netns: str
    env: Mapping[str, str]


def of_pod(state: State, pod: str) -> Place:
    """The network namespace of ``NAMESPACE/POD``.

    Raises:
        UsageError: not of that form.
        LabError: no such pod (near names are listed), or it is not running.
    """
    topology_of(state)
    space, slash, name = pod.partition("/")
    if not (space and slash and name) or "/" in name:
        raise UsageError(f"{pod!r} is not NAMESPACE/POD, such as default/web-0")
    try:
        kube = Kube.connect(str(state.kubeconfig))
        found = _get(kube, space, name)
    except AccessError as error:
        raise LabError(str(error)) from error
    except ApiError as error:
        raise LabError(f"the lab's API does not answer: {error}; see `ncp lab status`") from error
    if found["spec"].get("hostNetwork"):
        node = found["spec"].get("nodeName") or ""
        if not node:
            raise LabError(f"pod {pod} is not running: it has no node yet")
        return of_node(state, node)
    place = namespace(state.lab, f"p-{found['metadata']['uid'][:8]}")
    if not netns.exists(place):
        raise LabError(f"pod {pod} is not running: {_why(found)}")
    return Place(place, {})


def of_node(state: State, name: str) -> Place:
    """The network namespace of a node; Open vSwitch's tools speak to the node's switch there.

    Raises:
        LabError: no such node, or it is not up.
    """
    topology = topology_of(state)
    try:
        topology.node(name)
    except TopologyError as error:
        raise LabError(str(error)) from error
    return _up(Place(namespace(state.lab, name), environment(state.node(name))), f"node {name}")


def of_external(state: State) -> Place:
    """The network namespace of the external host.

    Raises:
        LabError: it is not up.
    """
    env = routers.environment(state, "ext") if topology_of(state).external.asn else {}
    return _up(Place(namespace(state.lab, "ext"), env), "the external host")


def of_router(state: State, name: str) -> Place:
    """The network namespace of a router; where it speaks BGP, ``vtysh`` speaks to its daemons.

    Raises:
        LabError: no such router, or it is not up.
    """
    routers_there = {router.name: router for router in topology_of(state).routers}
    if name not in routers_there:
        raise LabError(f"no router {name!r}; there are {', '.join(routers_there) or 'none'}")
    env = routers.environment(state, name) if routers_there[name].asn else {}
    return _up(Place(namespace(state.lab, name), env), f"router {name}")


def command_line(place: Place, command: Sequence[str]) -> tuple[str, ...]:
    """What to run from the machine's own namespace so that ``command`` runs in the place."""
    return ("ip", "netns", "exec", place.netns, *command)


def become(place: Place, command: Sequence[str]) -> NoReturn:
    """Replace this process by the command, in the place: its terminal, signals and exit code are the command's own.

    Raises:
        UsageError: no command.
        LabError: not root.
    """
    if not command:
        raise UsageError("no command given: put it after --, such as `-- ping -c1 10.4.0.1`")
    check_root()
    if shutil.which(command[0]) is None:
        os.write(2, f"ncp lab exec: {command[0]}: command not found\n".encode())
        os._exit(NOT_FOUND)
    os.execvpe("ip", command_line(place, command), {**os.environ, **place.env})


def _up(place: Place, what: str) -> Place:
    if not netns.exists(place.netns):
        raise LabError(f"{what} is not up: the lab is down; `ncp lab up` brings it up")
    return place


def _get(kube: Kube, space: str, name: str) -> dict[str, Any]:
    try:
        return kube.get(PODS, name, space)
    except NotFound:
        pods, _ = kube.list(PODS)
        names = sorted(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in pods)
        near = [other for other in names if other.split("/")[1].startswith(name)]
        near += [one for one in difflib.get_close_matches(f"{space}/{name}", names, 5, 0.6) if one not in near]
        hint = (
            f"; did you mean {', '.join(near[:5])}?" if near else f"; there are {len(names)} pods: kubectl get pods -A"
        )
        raise LabError(f"no pod {space}/{name}{hint}") from None


def _why(pod: Mapping[str, Any]) -> str:
    status = pod.get("status", {})
    reasons = [f"phase {status.get('phase', 'unknown')}"]
    if pod["metadata"].get("deletionTimestamp"):
        reasons.append("it is being deleted")
    if not pod["spec"].get("nodeName"):
        reasons.append("it has no node")
    for name, value in (pod["metadata"].get("annotations") or {}).items():
        if name.startswith("ncp/error."):
            reasons.append(value)
    for one in status.get("containerStatuses") or ():
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("message"):
            reasons.append(waiting["message"])
    return "; ".join(reasons)

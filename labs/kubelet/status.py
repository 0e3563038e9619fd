"""The status a kubelet reports of a pod: a pure function of the pod, its sandbox and its containers' health."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from labs.cluster.pods import condition, seconds, with_condition
from labs.kubelet.responder import Port
from labs.kubelet.sandbox import Sandbox

Json = dict[str, Any]


class Health(NamedTuple):
    """What the probes say of one container."""

    started: bool = True
    ready: bool = True


class Ending(NamedTuple):
    """When a container that serves nothing ends by itself: seconds after its start, and its exit code."""

    after: float
    code: int


_SLEEP = re.compile(r"^\s*(?:\S*/)?sleep\s+(infinity|[\d.]+)([smhd]?)\s*$")
_EXIT = re.compile(r"^\s*(?:exit\s+(\d+)|(?:\S*/)?(?:true|false))\s*$")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def ports(pod: Json) -> tuple[Port, ...]:
    """Every container port to answer on."""
    return tuple(
        Port(container["name"], port["containerPort"], port.get("protocol") or "TCP")
        for container in _containers(pod)
        for port in container.get("ports") or ()
    )


def ending(pod: Json) -> Ending | None:
    """How a pod ends that is meant to end (``restartPolicy`` Never or OnFailure, no ports); None: it runs on.

    No image is run, so the command is only read: ``sleep N`` lasts N seconds, ``exit N`` and ``false`` give that exit
    code, anything else is done at once and well. The first container that does not end well speaks for the pod.
    """
    if pod["spec"].get("restartPolicy", "Always") == "Always" or ports(pod):
        return None
    endings = [_container_ending(container) for container in _containers(pod)]
    code = next((each.code for each in endings if each.code), 0)
    return Ending(max(each.after for each in endings), code)


def _container_ending(container: Json) -> Ending:
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    text = " ".join(words)
    if len(words) >= 2 and words[0].rpartition("/")[2] in ("sh", "bash", "ash") and words[1] == "-c":
        text = " ".join(words[2:])
    if sleep := _SLEEP.match(text):
        return Ending(float("inf") if sleep[1] == "infinity" else float(sleep[1]) * _UNITS[sleep[2]], 0)
    if ended := _EXIT.match(text):
        return Ending(0.0, int(ended[1]) if ended[1] else int(text.rstrip().endswith("false")))
    return Ending(0.0, 0)


def leaves_at(pod: Json) -> float:
    """When the containers of a pod that was asked to go end, as epoch seconds.

    At once, unless a ``preStop`` hook sleeps: until then, but no longer than the grace period, the pod goes on serving.
    """
    metadata = pod["metadata"]
    grace = metadata.get("deletionGracePeriodSeconds") or 0
    hooks = ((container.get("lifecycle") or {}).get("preStop") or {} for container in _containers(pod))
    pause = max((_pause(hook) for hook in hooks), default=0.0)
    return seconds(metadata["deletionTimestamp"]) - grace + min(pause, grace)


def _pause(hook: Json) -> float:
    asked = float((hook.get("sleep") or {}).get("seconds") or 0)
    return asked or _container_ending(hook.get("exec") or {}).after


def pending(pod: Json, host: tuple[str, ...], message: str, now: str) -> Json:
    """The status of a pod whose sandbox could not be made yet."""
    waiting = {"waiting": {"reason": "ContainerCreating", "message": message}}
    conditions = _conditions(pod, now, sandboxed=False, ready=False, waiting=[c["name"] for c in _containers(pod)])
    return {
        "phase": "Pending",
        "conditions": conditions,
        **_hosts(host),
        "startTime": pod.get("status", {}).get("startTime") or now,
        "containerStatuses": [_container_status(c, waiting, Health(False, False), 0, "") for c in _containers(pod)],
    }


def running(
    pod: Json, sandbox: Sandbox, host: tuple[str, ...], health: Mapping[str, Health], now: str, waiting: str = ""
) -> Json:
    """The status of a pod in its sandbox; ``waiting`` says why its containers could not start, if so."""
    state: Json = {"running": {"startedAt": sandbox.started}}
    if waiting:
        state = {"waiting": {"reason": "CreateContainerError", "message": waiting}}
    statuses, unready = [], []
    for container in _containers(pod):
        name = container["name"]
        held = Health(False, False) if waiting else health.get(name, Health())
        if not held.ready:
            unready.append(name)
        identity = "" if waiting else _container_id(sandbox, name)
        statuses.append(_container_status(container, state, held, sandbox.restarts.get(name, 0), identity))
    return {
        "phase": "Running",
        "conditions": _conditions(pod, now, sandboxed=True, ready=not unready, waiting=unready),
        **_hosts(host),
        **_addresses(sandbox),
        "startTime": pod.get("status", {}).get("startTime") or now,
        **_init_statuses(pod, sandbox),
        "containerStatuses": statuses,
    }


def ended(pod: Json, sandbox: Sandbox, host: tuple[str, ...], code: int, now: str) -> Json:
    """The status of a pod whose containers have ended with ``code``."""
    state = _terminated(sandbox, code, now)
    conditions = _conditions(
        pod, now, sandboxed=False, ready=False, waiting=[], reason="PodFailed" if code else "PodCompleted"
    )
    return {
        "phase": "Failed" if code else "Succeeded",
        "conditions": conditions,
        **_hosts(host),
        **_addresses(sandbox),
        "startTime": pod.get("status", {}).get("startTime") or sandbox.started,
        **_init_statuses(pod, sandbox),
        "containerStatuses": [
            _container_status(c, state, Health(False, False), 0, _container_id(sandbox, c["name"]))
            for c in _containers(pod)
        ],
    }


def differs(pod: Json, status: Json) -> bool:
    """Whether the pod's status lacks anything of ``status``; conditions of others are left aside."""
    held = pod.get("status", {})
    return any(
        any(condition(pod, each["type"]) != each for each in value) if name == "conditions" else held.get(name) != value
        for name, value in status.items()
    )


def patch(pod: Json, status: Json) -> Json:
    """The strategic merge patch that brings the pod to ``status``, refused if the pod is another one by now.

    Conditions are merged by type and addresses by address, so what no longer holds is deleted by name.
    """
    body = dict(status)
    body["conditions"] = [
        {**dict.fromkeys(condition(pod, each["type"])), **each} for each in status.get("conditions", ())
    ]
    for name in ("podIPs", "hostIPs"):
        if name not in status:
            continue
        stale = [each for each in pod.get("status", {}).get(name) or () if each not in status[name]]
        body[name] = [*status[name], *({"$patch": "delete", "ip": each["ip"]} for each in stale)]
        if stale or not pod.get("status", {}).get(name):
            body[f"$setElementOrder/{name}"] = [{"ip": each["ip"]} for each in status[name]]
    return {"metadata": {"uid": pod["metadata"]["uid"]}, "status": body}


def _containers(pod: Json) -> list[Json]:
    return list(pod["spec"].get("containers") or ())


def _hosts(host: tuple[str, ...]) -> Json:
    return {"hostIP": host[0], "hostIPs": [{"ip": each} for each in host]} if host else {}


def _addresses(sandbox: Sandbox) -> Json:
    if not sandbox.addresses:
        return {}
    return {"podIP": sandbox.addresses[0], "podIPs": [{"ip": each} for each in sandbox.addresses]}


def _conditions(
    pod: Json, now: str, *, sandboxed: bool, ready: bool, waiting: list[str], reason: str = ""
) -> list[Json]:
    gates = [each["conditionType"] for each in pod["spec"].get("readinessGates") or ()]
    closed = [gate for gate in gates if condition(pod, gate).get("status") != "True"]
    why: Json = {}
    if not ready:
        text = f"containers with unready status: [{' '.join(waiting)}]" if waiting else ""
        why = {"reason": reason or "ContainersNotReady", **({"message": text} if text else {})}
    gate_why: Json = why
    if ready and closed:
        gate_why = {"reason": "ReadinessGatesNotReady", "message": f"readiness gates not met: {', '.join(closed)}"}
    wanted = [
        {"type": "PodReadyToStartContainers", "status": _truth(sandboxed)},
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", "status": _truth(ready and not closed), **gate_why},
        {"type": "ContainersReady", "status": _truth(ready), **why},
        {"type": "PodScheduled", "status": "True"},
    ]
    held = list(pod.get("status", {}).get("conditions") or ())
    for each in wanted:
        held = with_condition(held, {**each, "lastTransitionTime": now})
    mine = {each["type"] for each in wanted}
    return [each for each in held if each["type"] in mine]


def _container_status(container: Json, state: Json, health: Health, restarts: int, identity: str) -> Json:
    image = container.get("image", "")
    return {
        "name": container["name"],
        "image": image,
        "imageID": f"sha256:{hashlib.sha256(image.encode()).hexdigest()}" if identity else "",
        **({"containerID": identity} if identity else {}),
        "ready": health.ready,
        "started": health.started,
        "restartCount": restarts,
        "state": state,
        "lastState": {},
    }


def _init_statuses(pod: Json, sandbox: Sandbox) -> Json:
    """Init containers are taken as done: no image is run here."""
    containers = pod["spec"].get("initContainers") or ()
    if not containers:
        return {}
    out = []
    for container in containers:
        identity = _container_id(sandbox, container["name"])
        sidecar = container.get("restartPolicy") == "Always"
        state = {"running": {"startedAt": sandbox.started}} if sidecar else _terminated(sandbox, 0, sandbox.started)
        out.append(_container_status(container, state, Health(sidecar, True), 0, identity))
    return {"initContainerStatuses": out}


def _terminated(sandbox: Sandbox, code: int, now: str) -> Json:
    return {
        "terminated": {
            "exitCode": code,
            "reason": "Error" if code else "Completed",
            "startedAt": sandbox.started,
            "finishedAt": now,
        }
    }


def _container_id(sandbox: Sandbox, name: str) -> str:
    spoken = f"{sandbox.container_id}/{name}/{sandbox.restarts.get(name, 0)}"
    return f"lab://{hashlib.sha256(spoken.encode()).hexdigest()}"


def _truth(value: bool) -> str:
    return "True" if value else "False"

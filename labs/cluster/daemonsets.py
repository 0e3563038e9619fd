"""Daemon sets: one pod on every node that takes it (apps/v1 DaemonSet)."""

from __future__ import annotations

from collections.abc import Sequence

from labs.cluster.pods import (
    Json,
    available_in,
    from_template,
    is_leaving,
    is_ready,
    is_terminal,
    owned_by,
    portion,
)
from labs.cluster.revisions import HASH, history, mark
from labs.cluster.selectors import equal_labels, node_terms_hold, tolerates
from labs.cluster.writes import Create, Delete, Plan, Write, sooner, status_patch
from ncp.kube.resources import DAEMON_SETS, PODS

_TOLERATED = [
    {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
    for name, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
]


def plan(daemon_set: Json, nodes: Sequence[Json], pods: Sequence[Json], revisions: Sequence[Json], now: float) -> Plan:
    """What a daemon set needs done; ``pods`` and ``revisions`` are those of its namespace, ``nodes`` all there are."""
    if is_leaving(daemon_set):
        return Plan([])
    mine = [pod for pod in pods if owned_by(pod, daemon_set)]
    in_use = {f"{daemon_set['metadata']['name']}-{_mark(pod)}" for pod in mine}
    past = history(daemon_set, revisions, in_use)
    wanted_mark = mark(past.update, daemon_set)
    here: dict[str, list[Json]] = {}
    for pod in mine:
        here.setdefault(target_node(pod), []).append(pod)
    eligible = [node["metadata"]["name"] for node in nodes if takes(node, daemon_set)]
    waits = {
        pod["metadata"]["uid"]: available_in(pod, daemon_set["spec"].get("minReadySeconds", 0), now) for pod in mine
    }
    writes: list[Write] = []
    kept: dict[str, Json] = {}
    for name in eligible:
        writes += _on_node(daemon_set, name, here.pop(name, []), wanted_mark, kept)
    writes += [Delete(PODS, pod) for strays in here.values() for pod in strays if not is_leaving(pod)]
    writes += _roll(daemon_set, eligible, kept, waits, wanted_mark)
    status = _status(daemon_set, eligible, kept, here, waits, wanted_mark)
    again = sooner(*(wait for wait in waits.values() if wait))
    return Plan([*past.writes, *writes, *status_patch(DAEMON_SETS, daemon_set, status)], again)


def takes(node: Json, daemon_set: Json) -> bool:
    """Whether the node is one for the daemon set's pods."""
    spec = daemon_set["spec"]["template"]["spec"]
    if spec.get("nodeSelector") and not equal_labels(spec["nodeSelector"], node["metadata"].get("labels")):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not node_terms_hold(required, node):
        return False
    tolerations = [*(spec.get("tolerations") or ()), *_TOLERATED]
    return all(
        tolerates(tolerations, taint)
        for taint in node["spec"].get("taints") or ()
        if taint.get("effect") in ("NoSchedule", "NoExecute")
    )


def target_node(pod: Json) -> str:
    """The node a daemon's pod is on, or is meant for while the scheduler has not bound it yet."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in affinity.get("nodeSelectorTerms") or ():
        for each in term.get("matchFields") or ():
            if each["key"] == "metadata.name" and each.get("values"):
                return str(each["values"][0])
    return ""


def _on_node(daemon_set: Json, node: str, pods: list[Json], wanted: str, kept: dict[str, Json]) -> list[Write]:
    writes: list[Write] = [Delete(PODS, pod) for pod in pods if is_terminal(pod) and not is_leaving(pod)]
    alive = [pod for pod in pods if not is_terminal(pod)]
    staying = sorted(
        (pod for pod in alive if not is_leaving(pod)),
        key=lambda pod: (not is_ready(pod), pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]),
    )
    writes += [Delete(PODS, pod) for pod in staying[1:]]
    if staying:
        kept[node] = staying[0]
    elif not alive:
        writes.append(Create(PODS, _pod(daemon_set, node, wanted)))
    return writes


def _pod(daemon_set: Json, node: str, revision: str) -> Json:
    pod = from_template(daemon_set["spec"]["template"], daemon_set, labels={HASH: revision})
    spec = pod["spec"]
    only = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms = required.get("nodeSelectorTerms") or [{}]
    required["nodeSelectorTerms"] = [{**term, "matchFields": [only]} for term in terms]
    spec["tolerations"] = [*(spec.get("tolerations") or ()), *_TOLERATED]
    return pod


def _roll(
    daemon_set: Json, eligible: list[str], kept: dict[str, Json], waits: dict[str, float | None], wanted: str
) -> list[Write]:
    """Take away pods of an older template: those that serve nobody, and as many others as may be missing."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return []
    limit = (strategy.get("rollingUpdate") or {}).get("maxUnavailable")
    allowed = max(1, portion(limit, len(eligible), 1, round_up=True))
    missing = sum(node not in kept or waits[kept[node]["metadata"]["uid"]] != 0 for node in eligible)
    writes: list[Write] = []
    for pod in kept.values():
        if _mark(pod) == wanted:
            continue
        if waits[pod["metadata"]["uid"]] != 0:
            writes.append(Delete(PODS, pod))
        elif missing < allowed:
            missing += 1
            writes.append(Delete(PODS, pod))
    return writes


def _mark(pod: Json) -> str:
    return str((pod["metadata"].get("labels") or {}).get(HASH, ""))


def _status(
    daemon_set: Json,
    eligible: list[str],
    kept: dict[str, Json],
    strays: dict[str, list[Json]],
    waits: dict[str, float | None],
    wanted: str,
) -> Json:
    available = sum(waits[pod["metadata"]["uid"]] == 0 for pod in kept.values())
    return {
        "currentNumberScheduled": len(kept),
        "numberMisscheduled": sum(bool(pods) for pods in strays.values()),
        "desiredNumberScheduled": len(eligible),
        "numberReady": sum(is_ready(pod) for pod in kept.values()),
        "updatedNumberScheduled": sum(_mark(pod) == wanted for pod in kept.values()),
        "numberAvailable": available,
        "numberUnavailable": len(eligible) - available,
        "observedGeneration": daemon_set["metadata"].get("generation", 1),
    }

"""Replica sets: as many pods from one template as asked for (apps/v1 ReplicaSet)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from labs.cluster.pods import (
    Json,
    available_in,
    condition,
    controller_of,
    from_template,
    is_active,
    is_leaving,
    is_ready,
    owned_by,
    reference_to,
    seconds,
)
from labs.cluster.selectors import matches
from labs.cluster.writes import Create, Delete, Patch, Plan, Write, sooner, status_patch
from ncp.kube.resources import PODS, REPLICA_SETS

BURST = 500  # creations in one go; the rest follows when these are seen


def plan(replica_set: Json, pods: Sequence[Json], now: float) -> Plan:
    """What a replica set needs done. ``pods`` are those of its namespace that it owns or that its selector finds."""
    spec = replica_set["spec"]
    writes: list[Write] = []
    mine: list[Json] = []
    for pod in pods:
        found = matches(spec.get("selector"), pod["metadata"].get("labels"))
        if owned_by(pod, replica_set):
            if found or is_leaving(pod):
                mine.append(pod)
            else:  # somebody took it out of the set by changing its labels
                writes.append(_release(pod, replica_set))
        elif found and controller_of(pod) is None and is_active(pod) and not is_leaving(replica_set):
            references = [*(pod["metadata"].get("ownerReferences") or ()), reference_to(replica_set)]
            writes.append(
                Patch(PODS, pod, {"metadata": {"uid": pod["metadata"]["uid"], "ownerReferences": references}})
            )
            mine.append(pod)
    active = [pod for pod in mine if is_active(pod)]
    if not is_leaving(replica_set):
        writes += _scale(replica_set, active)
    status, again = _status(replica_set, active, now)
    return Plan(writes + status_patch(REPLICA_SETS, replica_set, status), again)


def _release(pod: Json, owner: Json) -> Patch:
    kept = [each for each in pod["metadata"]["ownerReferences"] if each["uid"] != owner["metadata"]["uid"]]
    return Patch(PODS, pod, {"metadata": {"uid": pod["metadata"]["uid"], "ownerReferences": kept}})


def _scale(replica_set: Json, active: list[Json]) -> list[Write]:
    wanted = replica_set["spec"].get("replicas", 1)
    if len(active) < wanted:
        template = replica_set["spec"]["template"]
        missing = min(wanted - len(active), BURST)
        return [Create(PODS, from_template(template, replica_set)) for _ in range(missing)]
    together = Counter(pod["spec"].get("nodeName", "") for pod in active)
    ranked = sorted(active, key=lambda pod: _worth(pod, together))
    return [Delete(PODS, pod) for pod in ranked[: len(active) - wanted]]


def _worth(pod: Json, together: Counter[str]) -> tuple[bool, int, bool, int, int, float, str]:
    """Sorts the pod that is missed least first: as Kubernetes ranks them when scaling down."""
    metadata = pod["metadata"]
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    node = pod["spec"].get("nodeName", "")
    cost = (metadata.get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", "0")
    ready = condition(pod, "Ready")
    since = seconds(ready.get("lastTransitionTime")) or seconds(metadata.get("creationTimestamp"))
    return (
        bool(node),
        phases.get(pod.get("status", {}).get("phase", "Pending"), 0),
        is_ready(pod),
        int(cost) if cost.lstrip("-").isdigit() else 0,
        -together[node],
        -since,
        metadata["name"],
    )


def _status(replica_set: Json, active: list[Json], now: float) -> tuple[Json, float | None]:
    spec = replica_set["spec"]
    template = spec["template"].get("metadata", {}).get("labels") or {}
    waits = [available_in(pod, spec.get("minReadySeconds", 0), now) for pod in active]
    status = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(
            template.items() <= (pod["metadata"].get("labels") or {}).items() for pod in active
        ),
        "readyReplicas": sum(is_ready(pod) for pod in active),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "observedGeneration": replica_set["metadata"].get("generation", 1),
    }
    return status, sooner(*(wait for wait in waits if wait))

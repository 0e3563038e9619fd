"""Deployments: rolls replica sets from one template to the next (apps/v1 Deployment)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

from labs.cluster.pods import (
    Json,
    condition,
    digest,
    is_active,
    is_leaving,
    now_text,
    owned_by,
    portion,
    reference_to,
    seconds,
    with_condition,
)
from labs.cluster.writes import Create, Delete, Patch, Plan, Write, status_patch
from ncp.kube.resources import DEPLOYMENTS, REPLICA_SETS

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = {REVISION, DESIRED, MAXIMUM, "kubectl.kubernetes.io/last-applied-configuration"}


class _Limits(NamedTuple):
    replicas: int
    surge: int
    unavailable: int
    recreate: bool


def plan(deployment: Json, replica_sets: Sequence[Json], pods: Sequence[Json], now: float) -> Plan:
    """What a deployment needs done.

    ``replica_sets`` are those of its namespace, ``pods`` those of its replica sets (used by Recreate only).
    """
    if is_leaving(deployment):
        return Plan([])
    owned = [each for each in replica_sets if owned_by(each, deployment) and not is_leaving(each)]
    current = _current(deployment, owned)
    old = [each for each in owned if each is not current]
    limits = _limits(deployment)
    writes: list[Write] = []
    paused = deployment["spec"].get("paused", False)
    if current is None and not paused:
        if not (limits.recreate and _still_running(old, pods)):
            current = _new_replica_set(deployment, owned, _first_size(limits, old))
            writes += [*_set_revision(deployment, current), Create(REPLICA_SETS, current)]
            # The rest follows when the new set is seen.
            return Plan(writes + _status(deployment, None, old, limits, now, [])[0])
    elif current is not None:
        writes += _keep_current(deployment, current, owned)
    scaled = _scale(deployment, current, old, limits, paused, pods)
    writes += scaled
    status, again = _status(deployment, current, old, limits, now, scaled)
    if not paused and not scaled:
        writes += _forget_old(deployment, current, old)
    return Plan(writes + status, again)


def _current(deployment: Json, owned: list[Json]) -> Json | None:
    """The oldest replica set made from the deployment's present template."""
    wanted = _template(deployment)
    found = [each for each in owned if _template(each) == wanted]
    return min(
        found, key=lambda each: (each["metadata"].get("creationTimestamp", ""), each["metadata"]["name"]), default=None
    )


def _template(obj: Json) -> Json:
    template = copy.deepcopy(obj["spec"]["template"])
    metadata = template.get("metadata") or {}
    metadata.pop("creationTimestamp", None)
    (metadata.get("labels") or {}).pop(HASH, None)
    template["metadata"] = {name: value for name, value in metadata.items() if value}
    return template


def _limits(deployment: Json) -> _Limits:
    spec = deployment["spec"]
    replicas = spec.get("replicas", 1)
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return _Limits(replicas, 0, replicas, True)
    rolling = strategy.get("rollingUpdate") or {}
    surge = portion(rolling.get("maxSurge"), replicas, "25%", round_up=True)
    unavailable = portion(rolling.get("maxUnavailable"), replicas, "25%", round_up=False)
    if not surge and not unavailable:
        unavailable = 1
    return _Limits(replicas, surge, min(unavailable, replicas), False)


def _size(replica_set: Json) -> int:
    return int(replica_set["spec"].get("replicas", 1))


def _available(replica_set: Json) -> int:
    return int(replica_set.get("status", {}).get("availableReplicas", 0))


def _first_size(limits: _Limits, old: list[Json]) -> int:
    """The size a new replica set starts with."""
    room = limits.replicas + limits.surge - sum(map(_size, old))
    return max(0, min(limits.replicas, room)) if old and not limits.recreate else limits.replicas


def _new_replica_set(deployment: Json, owned: list[Json], size: int) -> Json:
    template = copy.deepcopy(deployment["spec"]["template"])
    mark = digest(_template(deployment))
    labels = {**(template.get("metadata", {}).get("labels") or {}), HASH: mark}
    template.setdefault("metadata", {})["labels"] = labels
    selector = copy.deepcopy(deployment["spec"]["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH: mark}
    metadata = deployment["metadata"]
    spec = {"replicas": size, "selector": selector, "template": template}
    if deployment["spec"].get("minReadySeconds"):
        spec["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{mark}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {**_annotations(deployment), REVISION: str(_last_revision(owned) + 1)},
            "ownerReferences": [reference_to(deployment)],
        },
        "spec": spec,
    }


def _annotations(deployment: Json) -> Json:
    limits = _limits(deployment)
    given = deployment["metadata"].get("annotations") or {}
    return {
        **{name: value for name, value in given.items() if name not in _NOT_COPIED},
        DESIRED: str(limits.replicas),
        MAXIMUM: str(limits.replicas + limits.surge),
    }


def _revision(obj: Json) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def _last_revision(replica_sets: list[Json]) -> int:
    return max(map(_revision, replica_sets), default=0)


def _set_revision(deployment: Json, current: Json) -> list[Write]:
    revision = str(_revision(current))
    if str(_revision(deployment)) == revision:
        return []
    return [Patch(DEPLOYMENTS, deployment, {"metadata": {"annotations": {REVISION: revision}}})]


def _keep_current(deployment: Json, current: Json, owned: list[Json]) -> list[Write]:
    """Revision (higher than all others after a rollback), copied annotations and minReadySeconds of the current set."""
    others = [each for each in owned if each is not current]
    revision = max(_revision(current), _last_revision(others) + 1)
    wanted = {**_annotations(deployment), REVISION: str(revision)}
    body: Json = {}
    held = current["metadata"].get("annotations") or {}
    if any(held.get(name) != value for name, value in wanted.items()):
        body["metadata"] = {"annotations": wanted}
    ready = deployment["spec"].get("minReadySeconds", 0)
    if current["spec"].get("minReadySeconds", 0) != ready:
        body["spec"] = {"minReadySeconds": ready}
    writes: list[Write] = [Patch(REPLICA_SETS, current, body)] if body else []
    if _revision(deployment) != revision:
        writes.append(Patch(DEPLOYMENTS, deployment, {"metadata": {"annotations": {REVISION: str(revision)}}}))
    return writes


def _resize(replica_set: Json, size: int) -> list[Write]:
    return [Patch(REPLICA_SETS, replica_set, {"spec": {"replicas": size}})] if _size(replica_set) != size else []


def _scale(
    deployment: Json, current: Json | None, old: list[Json], limits: _Limits, paused: bool, pods: Sequence[Json]
) -> list[Write]:
    running = [each for each in old if _size(each)]
    if paused:
        only = [current] if current is not None and not running else running if current is None else []
        return _resize(only[0], limits.replicas) if len(only) == 1 else []
    if limits.recreate:
        shrink = [write for each in running for write in _resize(each, 0)]
        if shrink or current is None or _still_running(old, pods):
            return shrink
        return _resize(current, limits.replicas)
    if current is None:
        return []
    return _grow(current, running, limits) or _shrink(current, running, limits)


def _grow(current: Json, running: list[Json], limits: _Limits) -> list[Write]:
    size = _size(current)
    if size >= limits.replicas:
        return _resize(current, limits.replicas)
    room = limits.replicas + limits.surge - size - sum(map(_size, running))
    return _resize(current, min(limits.replicas, size + room)) if room > 0 else []


def _shrink(current: Json, running: list[Json], limits: _Limits) -> list[Write]:
    """Take away old pods: those that serve nobody first, then as many as may be unavailable."""
    at_least = limits.replicas - limits.unavailable
    total = _size(current) + sum(map(_size, running))
    spare = total - at_least - (_size(current) - _available(current))
    sizes = {each["metadata"]["name"]: _size(each) for each in running}
    for each in running:
        dead = min(max(0, _size(each) - _available(each)), max(0, spare))
        sizes[each["metadata"]["name"]] -= dead
        spare -= dead
    available = _available(current) + sum(min(_available(each), sizes[each["metadata"]["name"]]) for each in running)
    spare = available - at_least
    for each in sorted(running, key=_revision):
        gone = min(sizes[each["metadata"]["name"]], max(0, spare))
        sizes[each["metadata"]["name"]] -= gone
        spare -= gone
    return [write for each in running for write in _resize(each, sizes[each["metadata"]["name"]])]


def _still_running(old: list[Json], pods: Sequence[Json]) -> bool:
    uids = {each["metadata"]["uid"] for each in old}
    owners = (
        reference["uid"]
        for pod in pods
        if is_active(pod) or is_leaving(pod)
        for reference in pod["metadata"].get("ownerReferences") or ()
    )
    return any(_size(each) or each.get("status", {}).get("replicas", 0) for each in old) or not uids.isdisjoint(owners)


def _forget_old(deployment: Json, current: Json | None, old: list[Json]) -> list[Write]:
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    empty = [each for each in old if not _size(each) and not each.get("status", {}).get("replicas", 0)]
    if current is None or len(empty) <= limit:
        return []
    return [Delete(REPLICA_SETS, each) for each in sorted(empty, key=_revision)[: len(empty) - limit]]


def _status(
    deployment: Json, current: Json | None, old: list[Json], limits: _Limits, now: float, scaled: list[Write]
) -> tuple[list[Write], float | None]:
    sets = [*old, *([current] if current is not None else [])]

    def total(name: str) -> int:
        return sum(each.get("status", {}).get(name, 0) for each in sets)

    counts = {
        "replicas": total("replicas"),
        "updatedReplicas": current.get("status", {}).get("replicas", 0) if current is not None else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": total("availableReplicas"),
    }
    held = deployment.get("status") or {}
    status: Json = {
        **counts,
        "unavailableReplicas": max(0, sum(map(_size, sets)) - counts["availableReplicas"]),
        "observedGeneration": deployment["metadata"].get("generation", 1),
    }
    progressing, again = _progressing(deployment, current, counts, limits, now, bool(scaled))
    conditions = list(held.get("conditions") or ())
    enough = counts["availableReplicas"] >= limits.replicas - limits.unavailable
    for each in (_availability(enough), progressing):
        if each is not None:
            before = condition(deployment, each["type"])
            if any(before.get(name) != value for name, value in each.items()):
                conditions = with_condition(conditions, {"lastUpdateTime": now_text(), **each})
    status["conditions"] = conditions
    return status_patch(DEPLOYMENTS, deployment, status), again


def _availability(enough: bool) -> Json:
    if enough:
        text = "Deployment has minimum availability."
        return {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": text}
    text = "Deployment does not have minimum availability."
    return {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "message": text}


def _progressing(
    deployment: Json, current: Json | None, counts: dict[str, int], limits: _Limits, now: float, scaled: bool
) -> tuple[Json | None, float | None]:
    """The Progressing condition, and when to look whether its deadline has passed."""
    deadline = deployment["spec"].get("progressDeadlineSeconds", 600)
    before = condition(deployment, "Progressing")
    if deployment["spec"].get("paused"):
        return {
            "type": "Progressing",
            "status": "Unknown",
            "reason": "DeploymentPaused",
            "message": "Deployment is paused",
        }, None
    name = current["metadata"]["name"] if current is not None else ""
    complete = (
        current is not None
        and counts["updatedReplicas"] == counts["replicas"] == limits.replicas == counts["availableReplicas"]
        and current.get("status", {}).get("observedGeneration") == current["metadata"].get("generation", 1)
    )
    if complete:
        text = f'ReplicaSet "{name}" has successfully progressed.'
        return {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": text}, None
    if current is None:
        text = "Created new replica set"
        return {"type": "Progressing", "status": "True", "reason": "NewReplicaSetCreated", "message": text}, None
    held = deployment.get("status") or {}
    moved = scaled or any(held.get(key, 0) != value for key, value in counts.items())
    left = seconds(before.get("lastUpdateTime")) + deadline - now
    if before and not moved and before.get("reason") == "NewReplicaSetAvailable":
        return None, None  # complete once; a pod that fails later is no new rollout
    if before and not moved and (left <= 0 or before.get("reason") == "ProgressDeadlineExceeded"):
        text = f'ReplicaSet "{name}" has timed out progressing.'
        return {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": text}, None
    text = f'ReplicaSet "{name}" is progressing.'
    step: Json = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": text}
    if moved:  # every step of progress starts the deadline anew
        step["lastUpdateTime"] = now_text()
    return step, max(left, 1.0)

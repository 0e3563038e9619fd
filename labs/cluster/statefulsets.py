"""Stateful sets: pods with stable names, made and replaced in order (apps/v1 StatefulSet).

Volume claims are not made: a lab pod has no volumes. Its spec names them all the same, as the API demands.
"""

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
)
from labs.cluster.revisions import HASH, history
from labs.cluster.writes import Create, Delete, Plan, Write, sooner, status_patch
from ncp.kube.resources import PODS, STATEFUL_SETS


def plan(stateful_set: Json, pods: Sequence[Json], revisions: Sequence[Json], now: float) -> Plan:
    """What a stateful set needs done; ``pods`` and ``revisions`` are those of its namespace."""
    if is_leaving(stateful_set):
        return Plan([])
    mine = {number: pod for pod in pods if (number := _ordinal(stateful_set, pod)) is not None}
    held = stateful_set.get("status") or {}
    in_use = {_mark(pod) for pod in mine.values()} | {held.get("currentRevision", "")}
    past = history(stateful_set, revisions, in_use)
    current = held.get("currentRevision") or past.update
    if current not in past.templates:
        current = past.update
    first = (stateful_set["spec"].get("ordinals") or {}).get("start", 0)
    wanted = range(first, first + stateful_set["spec"].get("replicas", 1))
    minimum = stateful_set["spec"].get("minReadySeconds", 0)
    waits = {number: available_in(pod, minimum, now) for number, pod in mine.items()}
    good = {number for number, pod in mine.items() if waits[number] == 0 and not is_leaving(pod)}

    def new_pod(number: int) -> Json:
        old = number < first + _partition(stateful_set) and _rolls(stateful_set)
        revision = current if old else past.update
        return _pod(stateful_set, past.templates[revision], revision, number)

    writes = _fill(stateful_set, mine, wanted, good, new_pod)
    if not writes:
        writes = _condemn(stateful_set, mine, wanted, good)
    if not writes:
        writes = _update(stateful_set, mine, wanted, good, past.update)
    status = _status(stateful_set, mine, wanted, good, current, past.update)
    again = sooner(*(wait for wait in waits.values() if wait))
    return Plan([*past.writes, *writes, *status_patch(STATEFUL_SETS, stateful_set, status)], again)


def _fill(stateful_set: Json, mine: dict[int, Json], wanted: range, good: set[int], new_pod) -> list[Write]:  # type: ignore[no-untyped-def]
    """Make what is missing: in order, each when the one before it is good, or all at once."""
    writes: list[Write] = []
    ordered = not _parallel(stateful_set)
    for number in wanted:
        pod = mine.get(number)
        if pod is None:
            writes.append(Create(PODS, new_pod(number)))
        elif is_terminal(pod) and not is_leaving(pod):
            writes.append(Delete(PODS, pod))
        if ordered and (writes or number not in good):
            break
    return writes


def _condemn(stateful_set: Json, mine: dict[int, Json], wanted: range, good: set[int]) -> list[Write]:
    """Take away what is too much: the highest first, and in order only while all the others are good."""
    surplus = sorted((number for number in mine if number not in wanted), reverse=True)
    if _parallel(stateful_set):
        return [Delete(PODS, mine[number]) for number in surplus if not is_leaving(mine[number])]
    if not surplus or is_leaving(mine[surplus[0]]):
        return []
    others = {*wanted, *surplus[1:]}
    return [Delete(PODS, mine[surplus[0]])] if others <= good else []


def _update(stateful_set: Json, mine: dict[int, Json], wanted: range, good: set[int], update: str) -> list[Write]:
    """Replace the next pod of an older revision: from the highest number down to the partition, one at a time."""
    if not _rolls(stateful_set) or any(number not in wanted for number in mine):
        return []
    for number in reversed(wanted[_partition(stateful_set) :]):
        pod = mine.get(number)
        if pod is None or is_leaving(pod):
            return []
        if _mark(pod) != update:
            return [Delete(PODS, pod)]
        if number not in good:
            return []
    return []


def _pod(stateful_set: Json, template: Json, revision: str, number: int) -> Json:
    name = f"{stateful_set['metadata']['name']}-{number}"
    labels = {HASH: revision, "statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(number)}
    pod = from_template(template, stateful_set, name=name, labels=labels)
    spec = pod["spec"]
    spec["hostname"] = name
    if stateful_set["spec"].get("serviceName"):
        spec["subdomain"] = stateful_set["spec"]["serviceName"]
    claims = [each["metadata"]["name"] for each in stateful_set["spec"].get("volumeClaimTemplates") or ()]
    if claims:
        others = [each for each in spec.get("volumes") or () if each["name"] not in claims]
        ours = [{"name": each, "persistentVolumeClaim": {"claimName": f"{each}-{name}"}} for each in claims]
        spec["volumes"] = others + ours
    return pod


def _ordinal(stateful_set: Json, pod: Json) -> int | None:
    prefix, _, number = pod["metadata"]["name"].rpartition("-")
    if prefix != stateful_set["metadata"]["name"] or not number.isdigit() or not owned_by(pod, stateful_set):
        return None
    return int(number)


def _mark(pod: Json) -> str:
    return str((pod["metadata"].get("labels") or {}).get(HASH, ""))


def _parallel(stateful_set: Json) -> bool:
    return bool(stateful_set["spec"].get("podManagementPolicy") == "Parallel")


def _rolls(stateful_set: Json) -> bool:
    return bool((stateful_set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def _partition(stateful_set: Json) -> int:
    rolling = (stateful_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    return int(rolling.get("partition") or 0)


def _status(
    stateful_set: Json, mine: dict[int, Json], wanted: range, good: set[int], current: str, update: str
) -> Json:
    alive = [pod for pod in mine.values() if not is_terminal(pod)]
    staying = [pod for pod in alive if not is_leaving(pod)]
    updated = sum(_mark(pod) == update for pod in staying)
    ready = sum(is_ready(pod) for pod in staying)
    if updated == ready == len(wanted) and len(mine) == len(wanted):
        current = update
    return {
        "replicas": len(alive),
        "readyReplicas": ready,
        "availableReplicas": len(good),
        "currentReplicas": sum(_mark(pod) == current for pod in staying),
        "updatedReplicas": updated,
        "currentRevision": current,
        "updateRevision": update,
        "observedGeneration": stateful_set["metadata"].get("generation", 1),
        "collisionCount": 0,
    }

"""Jobs: pods that run until enough of them have ended well (batch/v1 Job)."""

from __future__ import annotations

from collections.abc import Sequence

from labs.cluster.pods import (
    Json,
    condition,
    from_template,
    is_active,
    is_leaving,
    is_ready,
    now_text,
    owned_by,
    seconds,
    with_condition,
)
from labs.cluster.writes import Create, Delete, Plan, Write, sooner, status_patch
from ncp.kube.resources import JOBS, PODS

INDEX = "batch.kubernetes.io/job-completion-index"
FIRST_BACK_OFF, LAST_BACK_OFF = 10.0, 360.0


def plan(job: Json, pods: Sequence[Json], now: float) -> Plan:
    """What a job needs done; ``pods`` are those of its namespace."""
    if is_leaving(job):
        return Plan([])
    if any(condition(job, kind).get("status") == "True" for kind in ("Complete", "Failed")):
        return _finished(job, now)
    mine = [pod for pod in pods if owned_by(pod, job)]
    active = [pod for pod in mine if is_active(pod)]
    good = [pod for pod in mine if pod.get("status", {}).get("phase") == "Succeeded"]
    bad = [pod for pod in mine if pod.get("status", {}).get("phase") == "Failed"]
    done = len({_index(pod) for pod in good}) if _indexed(job) else len(good)
    status: Json = {"active": len(active), "ready": sum(map(is_ready, active)), "succeeded": done, "failed": len(bad)}
    status["startTime"] = (job.get("status") or {}).get("startTime") or now_text()
    spec = job["spec"]
    completions, parallelism = spec.get("completions"), spec.get("parallelism", 1)
    if done >= completions if completions is not None else good and not active:
        return _finish(
            job,
            status,
            active,
            "Complete",
            "SuccessCriteriaMet",
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        )
    left = _deadline(job, status, now)
    if left is not None and left <= 0:
        return _finish(
            job,
            status,
            active,
            "Failed",
            "FailureTarget",
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        )
    if len(bad) > spec.get("backoffLimit", 6):
        return _finish(
            job,
            status,
            active,
            "Failed",
            "FailureTarget",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        )
    if spec.get("suspend"):
        return Plan([*(Delete(PODS, pod) for pod in active), *status_patch(JOBS, job, {**status, "active": 0})])
    wanted = parallelism if completions is None else min(parallelism, completions - done)
    if completions is None and good:
        wanted = len(active)
    wait = _back_off(bad, good, now)
    writes: list[Write] = []
    if len(active) < wanted and not wait:
        writes += [Create(PODS, pod) for pod in _new_pods(job, active, good, wanted - len(active))]
    elif len(active) > wanted:
        writes += [Delete(PODS, pod) for pod in active[wanted:]]
    return Plan(writes + status_patch(JOBS, job, status), sooner(left, wait or None))


def _finish(job: Json, status: Json, active: list[Json], kind: str, target: str, reason: str, message: str) -> Plan:
    conditions = list((job.get("status") or {}).get("conditions") or ())
    for each in (target, kind):  # newer servers want to see what the end was for before the end
        stamp = {"lastProbeTime": now_text(), "lastTransitionTime": now_text()}
        conditions = with_condition(
            conditions, {"type": each, "status": "True", "reason": reason, "message": message, **stamp}
        )
    status = {**status, "active": 0, "ready": 0, "conditions": conditions}
    if kind == "Complete":
        status["completionTime"] = now_text()
    return Plan([*(Delete(PODS, pod) for pod in active), *status_patch(JOBS, job, status)])


def _finished(job: Json, now: float) -> Plan:
    keep = job["spec"].get("ttlSecondsAfterFinished")
    if keep is None:
        return Plan([])
    ends = (condition(job, kind).get("lastTransitionTime") for kind in ("Complete", "Failed"))
    left = max(seconds(end) for end in ends) + keep - now
    return Plan([Delete(JOBS, job)]) if left <= 0 else Plan([], left)


def _deadline(job: Json, status: Json, now: float) -> float | None:
    limit = job["spec"].get("activeDeadlineSeconds")
    return None if limit is None else seconds(status["startTime"]) + limit - now


def _back_off(bad: list[Json], good: list[Json], now: float) -> float:
    """Seconds until another pod may be tried, after failures in a row."""
    last_good = max((_ended(pod) for pod in good), default=0.0)
    failures = [ended for pod in bad if (ended := _ended(pod)) >= last_good]
    if not failures:
        return 0.0
    delay = min(FIRST_BACK_OFF * 2.0 ** (len(failures) - 1), LAST_BACK_OFF)
    return max(0.0, max(failures) + delay - now)


def _ended(pod: Json) -> float:
    ends = (
        (each.get("state") or {}).get("terminated", {}).get("finishedAt")
        for each in pod.get("status", {}).get("containerStatuses") or ()
    )
    return max((seconds(end) for end in ends), default=seconds(pod["metadata"].get("creationTimestamp")))


def _indexed(job: Json) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def _index(pod: Json) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(INDEX, ""))


def _new_pods(job: Json, active: list[Json], good: list[Json], count: int) -> list[Json]:
    name = job["metadata"]["name"]
    uid = job["metadata"]["uid"]
    labels = {
        "batch.kubernetes.io/job-name": name,
        "job-name": name,
        "batch.kubernetes.io/controller-uid": uid,
        "controller-uid": uid,
    }
    if not _indexed(job):
        return [from_template(job["spec"]["template"], job, labels=labels) for _ in range(count)]
    taken = {_index(pod) for pod in [*active, *good]}
    free = [str(number) for number in range(job["spec"]["completions"]) if str(number) not in taken]
    pods = []
    for number in free[:count]:
        pod = from_template(job["spec"]["template"], job, labels={**labels, INDEX: number})
        pod["metadata"].setdefault("annotations", {})[INDEX] = number
        pod["metadata"]["generateName"] = f"{name[:55]}-{number}-"
        pod["spec"]["hostname"] = f"{name}-{number}"
        pods.append(pod)
    return pods

"""Plans come to rest: what a plan wrote makes the next plan write nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from labs.cluster import daemonsets, deployments, jobs, replicasets, statefulsets
from labs.cluster.pods import portion
from labs.cluster.writes import Create, Patch, Plan

Json = dict[str, Any]


def merged(target: Any, body: Any) -> Any:
    """RFC 7386."""
    if not isinstance(body, dict):
        return body
    out = dict(target) if isinstance(target, dict) else {}
    for name, value in body.items():
        if value is None:
            out.pop(name, None)
        else:
            out[name] = merged(out.get(name), value)
    return out


def without_zeros(status: Json) -> Json:
    """A status as a server keeps it."""
    return {name: value for name, value in status.items() if value}


def owner(kind: str, **spec: Any) -> Json:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "n", "uid": "o", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def after(obj: Json, plan: Plan) -> Json:
    """The object with the plan's patches of itself."""
    for write in plan.writes:
        if isinstance(write, Patch) and write.obj["metadata"]["uid"] == obj["metadata"]["uid"]:
            obj = merged(obj, write.body)
            obj["status"] = without_zeros(obj.get("status", {}))
    return obj


def made(plan: Plan, kind: str) -> list[Json]:
    """What the plan creates of a kind, as the server would hand it out."""
    out = [write.obj for write in plan.writes if isinstance(write, Create) and write.obj["kind"] == kind]
    for number, each in enumerate(out):
        name = each["metadata"].get("name") or f"{each['metadata']['generateName']}{number}"
        each["metadata"] |= {"name": name, "uid": name, "creationTimestamp": "2030-01-01T00:00:00Z"}
    return out


def come_up(pods: list[Json]) -> None:
    for each in pods:
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"}
        each["status"] = {"phase": "Running", "conditions": [ready]}


NOW = time.time()


@pytest.mark.parametrize("up", [False, True])
def test_a_deployment_comes_to_rest(up: bool) -> None:
    deployment = owner("Deployment", replicas=3)
    plan = deployments.plan(deployment, [], [], NOW)
    (replica_set,) = made(plan, "ReplicaSet")
    deployment = after(deployment, plan)
    replica_set["metadata"]["generation"] = 1
    replica_set["status"] = {"replicas": 3, "observedGeneration": 1}
    if up:
        replica_set["status"] |= {"readyReplicas": 3, "availableReplicas": 3}
    for _ in range(2):
        deployment = after(deployment, deployments.plan(deployment, [replica_set], [], NOW))
    assert deployments.plan(deployment, [replica_set], [], NOW).writes == []


def replica_set_plan(obj: Json, pods: list[Json], made_before: list[Json]) -> Plan:
    return replicasets.plan(obj, pods, NOW)


def stateful_set_plan(obj: Json, pods: list[Json], revisions: list[Json]) -> Plan:
    return statefulsets.plan(obj, pods, revisions, NOW)


def daemon_set_plan(obj: Json, pods: list[Json], revisions: list[Json]) -> Plan:
    nodes = [{"metadata": {"name": name, "uid": name}, "spec": {}} for name in ("n1", "n2")]
    return daemonsets.plan(obj, nodes, pods, revisions, NOW)


def job_plan(obj: Json, pods: list[Json], revisions: list[Json]) -> Plan:
    return jobs.plan(obj, pods, NOW)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize(
    ("obj", "planner", "count"),
    [
        (owner("ReplicaSet", replicas=3), replica_set_plan, 3),
        (owner("StatefulSet", replicas=3, serviceName="web"), stateful_set_plan, 3),
        (owner("StatefulSet", replicas=2, serviceName="web", podManagementPolicy="Parallel"), stateful_set_plan, 2),
        (owner("DaemonSet"), daemon_set_plan, 2),
        (owner("Job", completions=3, parallelism=2), job_plan, 2),
    ],
    ids=["ReplicaSet", "StatefulSet", "Parallel", "DaemonSet", "Job"],
)
def test_controllers_come_to_rest(
    obj: Json, planner: Callable[[Json, list[Json], list[Json]], Plan], count: int, up: bool
) -> None:
    pods: list[Json] = []
    revisions: list[Json] = []
    for _ in range(6):
        plan = planner(obj, pods, revisions)
        revisions += made(plan, "ControllerRevision")
        fresh = made(plan, "Pod")
        pods += fresh
        if up:
            come_up(fresh)
        obj = after(obj, plan)
    assert planner(obj, pods, revisions).writes == []
    ordered = obj["kind"] == "StatefulSet" and obj["spec"].get("podManagementPolicy") != "Parallel"
    assert len(pods) == (1 if ordered and not up else count)


def test_a_scaled_down_set_loses_the_pods_that_are_missed_least() -> None:
    replica_set = owner("ReplicaSet", replicas=1)
    pods = made(replicasets.plan(owner("ReplicaSet", replicas=3), [], NOW), "Pod")
    come_up(pods)
    pods[1]["status"]["conditions"][0]["status"] = "False"
    pods[2]["metadata"]["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": "-5"}
    plan = replicasets.plan(replica_set, pods, NOW)
    gone = {write.obj["metadata"]["name"] for write in plan.writes if not isinstance(write, Patch)}
    assert gone == {pods[1]["metadata"]["name"], pods[2]["metadata"]["name"]}


def test_minimum_ready_seconds_delay_availability() -> None:
    replica_set = owner("ReplicaSet", replicas=1, minReadySeconds=30)
    pods = made(replicasets.plan(replica_set, [], NOW), "Pod")
    come_up(pods)
    since = replicasets.seconds("2030-01-01T00:00:00Z")
    early = replicasets.plan(replica_set, pods, since + 10)
    assert early.again == pytest.approx(20)
    assert after(replica_set, early)["status"].get("availableReplicas") is None
    late = replicasets.plan(replica_set, pods, since + 31)
    assert (after(replica_set, late)["status"]["availableReplicas"], late.again) == (1, None)


def test_a_job_that_fails_too_often_is_given_up_after_backing_off() -> None:
    job = owner("Job", backoffLimit=1)
    (first,) = made(jobs.plan(job, [], NOW), "Pod")
    ended = {"terminated": {"exitCode": 1, "finishedAt": "2030-01-01T00:00:00Z"}}
    first["status"] = {"phase": "Failed", "containerStatuses": [{"state": ended}]}
    since = replicasets.seconds("2030-01-01T00:00:00Z")
    waiting = jobs.plan(job, [first], since + 1)
    assert made(waiting, "Pod") == []
    assert waiting.again == pytest.approx(9)
    (second,) = made(jobs.plan(job, [first], since + 11), "Pod")
    second["metadata"] |= {"name": "second", "uid": "second"}
    second["status"] = first["status"]
    given_up = after(job, jobs.plan(job, [first, second], since + 12))
    assert {each["type"]: each["reason"] for each in given_up["status"]["conditions"]} == {
        "FailureTarget": "BackoffLimitExceeded",
        "Failed": "BackoffLimitExceeded",
    }


@pytest.mark.parametrize(
    ("value", "round_up", "pods"), [(3, True, 3), ("25%", True, 3), ("25%", False, 2), (None, True, 1), ("0%", True, 0)]
)
def test_portions(value: int | str | None, round_up: bool, pods: int) -> None:
    assert portion(value, 10, 1, round_up=round_up) == pods


def test_a_portion_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="'some'"):
        portion("some", 10, 1, round_up=True)

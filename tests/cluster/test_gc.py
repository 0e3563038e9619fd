"""Garbage collection beside an API server that collects nothing itself; here only what is decided, not by whom."""

from __future__ import annotations

from typing import Any

from labs.cluster.gc import dangling, released
from labs.cluster.writes import Delete, Replace
from ncp.kube.resources import DEPLOYMENTS, PODS, REPLICA_SETS

Json = dict[str, Any]
KINDS = {"Deployment", "ReplicaSet", "Pod"}


def obj(name: str, *owners: tuple[str, str], leaving: bool = False, finalizers: tuple[str, ...] = ()) -> Json:
    metadata: Json = {"name": name, "namespace": "n", "uid": name}
    metadata["ownerReferences"] = [{"kind": kind, "name": uid, "uid": uid} for kind, uid in owners]
    metadata["finalizers"] = list(finalizers)
    if leaving:
        metadata["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    return {"metadata": metadata}


def test_what_lost_all_its_owners_goes() -> None:
    objects = [
        (DEPLOYMENTS, obj("d")),
        (REPLICA_SETS, obj("kept", ("Deployment", "d"))),
        (REPLICA_SETS, obj("lost", ("Deployment", "gone"))),
        (PODS, obj("half", ("ReplicaSet", "gone"), ("ReplicaSet", "kept"))),
        (PODS, obj("foreign", ("Workflow", "unknown"))),
        (PODS, obj("leaving", ("ReplicaSet", "gone"), leaving=True)),
        (PODS, obj("free")),
    ]
    assert [each.obj["metadata"]["name"] for each in dangling(objects, KINDS)] == ["lost"]


def test_a_foreground_deletion_waits_for_its_dependants() -> None:
    owner = (DEPLOYMENTS, obj("d", leaving=True, finalizers=("foregroundDeletion", "mine")))
    dependant = (REPLICA_SETS, obj("r", ("Deployment", "d")))
    (write,) = released([owner, dependant])
    assert isinstance(write, Delete)
    assert write.obj["metadata"]["name"] == "r"
    assert released([owner, (REPLICA_SETS, obj("r", ("Deployment", "d"), leaving=True))]) == []
    (write,) = released([owner])
    assert isinstance(write, Replace)
    assert write.obj["metadata"]["finalizers"] == ["mine"]


def test_orphans_lose_their_owner_and_stay() -> None:
    owner = (DEPLOYMENTS, obj("d", leaving=True, finalizers=("orphan",)))
    (write,) = released([owner, (REPLICA_SETS, obj("r", ("Deployment", "d"), ("Deployment", "e")))])
    assert isinstance(write, Replace)
    assert [each["uid"] for each in write.obj["metadata"]["ownerReferences"]] == ["e"]

"""Controllers and scheduler against the embedded API, with kubelets that run the pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ncp.kube.resources import (
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    EVENTS,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)
from tests.cluster.small_cluster import SmallCluster, eventually, pod, ready

Json = dict[str, Any]
LABELS = {"app": "web"}


def workload(space: str, *, image: str = "app:1", container: Json | None = None, **spec: Any) -> Json:
    one = {"name": "c", "image": image, "ports": [{"containerPort": 8080}], **(container or {})}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [one]}}
    return {
        "metadata": {"name": "web", "namespace": space},
        "spec": {"selector": {"matchLabels": LABELS}, "template": template, **spec},
    }


def image(text: str) -> Json:
    """A patch of the template that gives its container another image."""
    containers = [{"name": "c", "image": text, "ports": [{"containerPort": 8080}]}]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


def settled(cluster: SmallCluster, resource: Resource, space: str, test: Callable[[Json], bool], what: str) -> Json:
    """The object named ``web`` once its status is of its present generation and passes ``test``."""

    def look() -> Json | None:
        held = cluster.get(resource, space, "web")
        if held is None or held.get("status", {}).get("observedGeneration") != held["metadata"]["generation"]:
            return None
        return held if test(held["status"]) else None

    found = eventually(look, what)
    assert found is not None
    return found


def rolled_out(replicas: int) -> Callable[[Json], bool]:
    def test(status: Json) -> bool:
        names = ("replicas", "updatedReplicas", "availableReplicas", "readyReplicas")
        return all(status.get(name, 0) == replicas for name in names)

    return test


def images(cluster: SmallCluster, space: str) -> list[str]:
    alive = [each for each in cluster.pods(space) if not each["metadata"].get("deletionTimestamp")]
    return [each["spec"]["containers"][0]["image"] for each in alive]


def conditions(held: Json) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in held["status"]["conditions"]}


def test_a_deployment_comes_up_scales_and_goes(cluster: SmallCluster, space: str) -> None:
    cluster.create(DEPLOYMENTS, workload(space, replicas=3))
    held = settled(cluster, DEPLOYMENTS, space, rolled_out(3), "three replicas")
    assert held["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"

    def told() -> bool:
        wanted = {
            "Available": ("True", "MinimumReplicasAvailable"),
            "Progressing": ("True", "NewReplicaSetAvailable"),
        }
        return conditions(cluster.kube.get(DEPLOYMENTS, "web", space)) == wanted

    eventually(told, "its conditions say so")
    (replica_set,), _ = cluster.kube.list(REPLICA_SETS, space)
    mark = replica_set["metadata"]["labels"]["pod-template-hash"]
    assert replica_set["metadata"]["name"] == f"web-{mark}"
    for each in cluster.pods(space):
        assert each["metadata"]["labels"] == {**LABELS, "pod-template-hash": mark}
        assert each["metadata"]["name"].startswith(f"web-{mark}-")
    assert {each["spec"]["nodeName"] for each in cluster.pods(space)} == {"node1", "node2"}

    cluster.kube.patch(DEPLOYMENTS, "web", space, body={"spec": {"replicas": 1}})
    settled(cluster, DEPLOYMENTS, space, rolled_out(1), "one replica")
    eventually(lambda: len(cluster.pods(space)) == 1, "one pod")
    assert len(cluster.kube.list(REPLICA_SETS, space)[0]) == 1, "scaling is no new revision"

    cluster.kube.delete(DEPLOYMENTS, "web", space, propagation="Background")
    eventually(lambda: not cluster.pods(space), "its pods went with it")


def test_a_rolling_update_keeps_its_promises_and_rolls_back(cluster: SmallCluster, space: str) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    cluster.create(DEPLOYMENTS, workload(space, replicas=4, strategy=strategy))
    settled(cluster, DEPLOYMENTS, space, rolled_out(4), "four replicas")
    cluster.kube.patch(DEPLOYMENTS, "web", space, body=image("app:2"))
    seen: list[tuple[int, int]] = []

    def done() -> bool:
        pods = [each for each in cluster.pods(space) if not each["metadata"].get("deletionTimestamp")]
        seen.append((len(pods), sum(map(ready, pods))))
        return set(images(cluster, space)) == {"app:2"} and len(pods) == 4

    eventually(done, "all pods are new")
    assert max(pods for pods, _ in seen) <= 5, "never more than maxSurge above"
    assert min(up for _, up in seen) >= 4, "never fewer than maxUnavailable allows"
    held = settled(cluster, DEPLOYMENTS, space, rolled_out(4), "the rollout is complete")
    assert held["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"

    cluster.kube.patch(DEPLOYMENTS, "web", space, body=image("app:1"))
    eventually(lambda: images(cluster, space) == ["app:1"] * 4, "all pods are of the first template again")
    held = settled(cluster, DEPLOYMENTS, space, rolled_out(4), "the rollback is complete")
    sets, _ = cluster.kube.list(REPLICA_SETS, space)
    assert len(sets) == 2, "the first replica set is used again"
    assert held["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_a_rollout_that_cannot_progress_keeps_the_old_pods(cluster: SmallCluster, space: str) -> None:
    cluster.create(DEPLOYMENTS, workload(space, replicas=3, progressDeadlineSeconds=2))
    settled(cluster, DEPLOYMENTS, space, rolled_out(3), "three replicas")
    body = image("app:2")
    body["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 1}}
    cluster.kube.patch(DEPLOYMENTS, "web", space, body=body)
    deadline = ("False", "ProgressDeadlineExceeded")
    eventually(
        lambda: conditions(cluster.kube.get(DEPLOYMENTS, "web", space)).get("Progressing") == deadline,
        "the deadline is told",
    )
    old = [each for each in cluster.pods(space) if each["spec"]["containers"][0]["image"] == "app:1"]
    assert len(list(filter(ready, old))) == 3, "25 % of 3 may be missing, which is none"
    cluster.kube.patch(DEPLOYMENTS, "web", space, body={"spec": {"replicas": 0}})


def test_recreate_never_mixes_templates(cluster: SmallCluster, space: str) -> None:
    cluster.create(DEPLOYMENTS, workload(space, replicas=2, strategy={"type": "Recreate"}))
    settled(cluster, DEPLOYMENTS, space, rolled_out(2), "two replicas")
    cluster.kube.patch(DEPLOYMENTS, "web", space, body=image("app:2"))
    seen: list[set[str]] = []

    def done() -> bool:
        seen.append({each["spec"]["containers"][0]["image"] for each in cluster.pods(space)})
        return images(cluster, space) == ["app:2"] * 2

    eventually(done, "all pods are new")
    assert all(len(each) <= 1 for each in seen)
    settled(cluster, DEPLOYMENTS, space, rolled_out(2), "the rollout is complete")


def test_a_paused_deployment_scales_but_does_not_roll(cluster: SmallCluster, space: str) -> None:
    cluster.create(DEPLOYMENTS, workload(space, replicas=1))
    settled(cluster, DEPLOYMENTS, space, rolled_out(1), "one replica")
    cluster.kube.patch(DEPLOYMENTS, "web", space, body={"spec": {"paused": True, "replicas": 2}})
    cluster.kube.patch(DEPLOYMENTS, "web", space, body=image("app:2"))
    eventually(lambda: images(cluster, space) == ["app:1"] * 2, "two pods of the old template")
    cluster.kube.patch(DEPLOYMENTS, "web", space, body={"spec": {"paused": False}})
    eventually(lambda: images(cluster, space) == ["app:2"] * 2, "two pods of the new template")


def test_a_pod_taken_out_of_its_set_is_replaced_and_an_orphan_adopted(cluster: SmallCluster, space: str) -> None:
    orphan = pod(space, "orphan", 80)
    orphan["metadata"]["labels"] = LABELS
    cluster.create(PODS, orphan)
    replica_set = cluster.create(REPLICA_SETS, workload(space, replicas=2))

    def owned() -> list[str]:
        uid = replica_set["metadata"]["uid"]
        pods = cluster.pods(space)
        return [
            p["metadata"]["name"] for p in pods for o in p["metadata"].get("ownerReferences", ()) if o["uid"] == uid
        ]

    eventually(lambda: len(owned()) == 2, "two pods")
    assert "orphan" in owned()
    cluster.kube.patch(PODS, "orphan", space, body={"metadata": {"labels": {"app": "debug"}}})
    eventually(lambda: len(owned()) == 2 and "orphan" not in owned(), "another pod in its place")
    assert cluster.get(PODS, space, "orphan") is not None


def test_a_stateful_set_goes_in_order_with_stable_names(cluster: SmallCluster, space: str) -> None:
    probe = {"readinessProbe": {"tcpSocket": {"port": 8080}, "initialDelaySeconds": 1}}
    body = workload(space, replicas=3, serviceName="web", container=probe)
    cluster.create(STATEFUL_SETS, body)
    seen: list[list[tuple[str, bool]]] = []

    def all_up() -> bool:
        seen.append([(each["metadata"]["name"], ready(each)) for each in cluster.pods(space)])
        return seen[-1] == [("web-0", True), ("web-1", True), ("web-2", True)]

    eventually(all_up, "three pods")
    for names in seen:
        assert [name for name, _ in names] == [f"web-{number}" for number in range(len(names))]
        assert all(up for _, up in names[:-1]), "each is ready before the next is made"
    first = cluster.kube.get(PODS, "web-0", space)
    assert (first["spec"]["hostname"], first["spec"]["subdomain"]) == ("web-0", "web")
    assert first["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "0"

    cluster.kube.delete(PODS, "web-1", space)

    def replaced() -> bool:
        held = cluster.get(PODS, space, "web-1")
        return held is not None and ready(held)

    eventually(replaced, "web-1 is back")
    cluster.kube.patch(STATEFUL_SETS, "web", space, body={"spec": {"replicas": 1}})
    eventually(lambda: [each["metadata"]["name"] for each in cluster.pods(space)] == ["web-0"], "only web-0 is left")
    settled(cluster, STATEFUL_SETS, space, lambda status: status["replicas"] == 1, "its status says so")


def test_a_stateful_set_rolls_from_the_top_down_to_its_partition(cluster: SmallCluster, space: str) -> None:
    cluster.create(STATEFUL_SETS, workload(space, replicas=3, serviceName="web", podManagementPolicy="Parallel"))
    eventually(lambda: len(list(filter(ready, cluster.pods(space)))) == 3, "three pods")
    update = {"spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}}
    update["spec"] |= image("app:2")["spec"]
    cluster.kube.patch(STATEFUL_SETS, "web", space, body=update)
    eventually(lambda: images(cluster, space) == ["app:1", "app:2", "app:2"], "two pods are new")
    eventually(lambda: len(list(filter(ready, cluster.pods(space)))) == 3, "three pods")
    cluster.kube.delete(PODS, "web-0", space)
    eventually(
        lambda: images(cluster, space) == ["app:1", "app:2", "app:2"] and all(map(ready, cluster.pods(space))),
        "a pod below the partition comes back as it was",
    )
    all_of_them: Json = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
    cluster.kube.patch(STATEFUL_SETS, "web", space, body=all_of_them)
    eventually(lambda: images(cluster, space) == ["app:2"] * 3, "all pods are new")

    def same(status: Json) -> bool:
        return bool(status["currentRevision"] == status["updateRevision"] and status["updatedReplicas"] == 3)

    settled(cluster, STATEFUL_SETS, space, same, "the update is complete")


def test_a_daemon_set_is_on_every_node_and_rolls(cluster: SmallCluster, space: str) -> None:
    cluster.create(DAEMON_SETS, workload(space))

    def complete(status: Json) -> bool:
        names = ("desiredNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable")
        return all(status.get(name) == 2 for name in names)

    settled(cluster, DAEMON_SETS, space, complete, "a pod on each node")
    assert sorted(each["spec"]["nodeName"] for each in cluster.pods(space)) == ["node1", "node2"]
    cluster.kube.patch(DAEMON_SETS, "web", space, body=image("app:2"))
    eventually(lambda: images(cluster, space) == ["app:2"] * 2, "both are new")
    settled(cluster, DAEMON_SETS, space, complete, "the rollout is complete")
    only = {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "node2"}}}}}
    cluster.kube.patch(DAEMON_SETS, "web", space, body=only)
    eventually(lambda: [each["spec"].get("nodeName") for each in cluster.pods(space)] == ["node2"], "node1 is left")


def test_endpoints_follow_pods(cluster: SmallCluster, space: str) -> None:
    ports = [{"port": 80, "targetPort": 8080}]
    dual = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
    cluster.create(
        SERVICES,
        {"metadata": {"name": "web", "namespace": space}, "spec": {"selector": LABELS, "ports": ports, **dual}},
    )
    cluster.create(DEPLOYMENTS, workload(space, replicas=2))

    def told() -> dict[str, list[str]]:
        if not cluster.knows(21):
            held = cluster.get(ENDPOINTS, space, "web") or {}
            good = [one["ip"] for each in held.get("subsets", ()) for one in each.get("addresses", ())]
            return {"IPv4": sorted(good)}
        found, _ = cluster.kube.list(ENDPOINT_SLICES, space, label_selector="kubernetes.io/service-name=web")
        out: dict[str, list[str]] = {"IPv4": [], "IPv6": []}
        for each in found:
            good = [one for one in each.get("endpoints") or () if one["conditions"]["ready"]]
            out[each["addressType"]] += [one["addresses"][0] for one in good]
        return {family: sorted(each) for family, each in out.items()}

    def there() -> dict[str, list[str]]:
        ips = [[one["ip"] for one in each["status"].get("podIPs", ())] for each in cluster.pods(space) if ready(each)]
        families = ["IPv4", "IPv6"] if cluster.knows(21) else ["IPv4"]
        return {family: sorted(each[place] for each in ips) for place, family in enumerate(families)}

    eventually(lambda: len(told()["IPv4"]) == 2 and told() == there(), "two endpoints a family")
    subset = eventually(lambda: cluster.kube.get(ENDPOINTS, "web", space).get("subsets"), "Endpoints")[0]
    assert sorted(each["ip"] for each in subset["addresses"]) == there()["IPv4"]
    cluster.kube.patch(DEPLOYMENTS, "web", space, body={"spec": {"replicas": 1}})
    eventually(lambda: len(told()["IPv4"]) == 1 and told() == there(), "one endpoint a family")
    cluster.kube.delete(SERVICES, "web", space)
    eventually(lambda: not any(told().values()), "the slices went with the service")
    eventually(lambda: cluster.get(ENDPOINTS, space, "web") is None, "so did Endpoints")


def test_endpoints_tell_the_zone_their_node_is_in_now(cluster: SmallCluster, space: str) -> None:
    if not cluster.knows(31):
        pytest.skip("this API server knows no trafficDistribution")
    spec = {"selector": LABELS, "ports": [{"port": 80}], "trafficDistribution": "PreferClose"}
    cluster.create(SERVICES, {"metadata": {"name": "web", "namespace": space}, "spec": spec})
    cluster.create(DEPLOYMENTS, workload(space, replicas=1))

    def told() -> tuple[Any, Any] | None:
        found, _ = cluster.kube.list(ENDPOINT_SLICES, space, label_selector="kubernetes.io/service-name=web")
        (*_, last) = [one for each in found for one in each.get("endpoints") or ()] or [None]
        ready = last is not None and last["conditions"]["ready"]
        return (last.get("zone"), last.get("hints")) if last is not None and ready else None

    eventually(lambda: told() == (None, None), "an endpoint in no zone")
    nodes = ("node1", "node2")
    try:
        for node in nodes:
            cluster.kube.patch(NODES, node, body={"metadata": {"labels": {"topology.kubernetes.io/zone": "z1"}}})
        eventually(lambda: told() == ("z1", {"forZones": [{"name": "z1"}]}), "the endpoint is in a zone")
    finally:
        for node in nodes:
            cluster.kube.patch(NODES, node, body={"metadata": {"labels": {"topology.kubernetes.io/zone": None}}})
    eventually(lambda: told() == (None, None), "the endpoint is in no zone again")


def test_endpoints_written_by_hand_stay_and_are_mirrored(cluster: SmallCluster, space: str) -> None:
    metadata = {"name": "theirs", "namespace": space}
    ports = [{"port": 80, "protocol": "TCP"}]
    cluster.create(ENDPOINTS, {"metadata": metadata, "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": ports}]})
    cluster.create(SERVICES, {"metadata": metadata, "spec": {"ports": [{"port": 80}]}})
    ours = {"metadata": {"name": "web", "namespace": space}, "spec": {"ports": [{"port": 80}], "selector": LABELS}}
    cluster.create(SERVICES, ours)
    eventually(lambda: cluster.get(ENDPOINTS, space, "web"), "the controller has worked on this namespace")
    if cluster.knows(21):

        def mirrored() -> list[str]:
            found, _ = cluster.kube.list(ENDPOINT_SLICES, space, label_selector="kubernetes.io/service-name=theirs")
            return [one["addresses"][0] for each in found for one in each["endpoints"]]

        eventually(lambda: mirrored() == ["192.0.2.1"], "a slice says the same")
    held = cluster.get(ENDPOINTS, space, "theirs")
    assert held is not None
    assert held["subsets"][0]["addresses"] == [{"ip": "192.0.2.1"}]


def test_a_pod_that_fits_nowhere_says_why_and_is_tried_again(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "picky", 80, nodeSelector={"disk": "ssd"}))

    def verdict() -> Json | None:
        held = cluster.get(PODS, space, "picky") or {}
        found = [each for each in held.get("status", {}).get("conditions", ()) if each["type"] == "PodScheduled"]
        return found[0] if found else None

    found = eventually(verdict, "the pod says that it is not scheduled")
    assert (found["status"], found["reason"]) == ("False", "Unschedulable")
    assert "2 node(s) didn't match Pod's node affinity/selector" in found["message"]
    unscheduled = "reason=FailedScheduling"
    eventually(lambda: cluster.kube.list(EVENTS, space, field_selector=unscheduled)[0], "an event says so too")
    cluster.kube.patch(NODES, "node2", body={"metadata": {"labels": {"disk": "ssd"}}})
    try:
        held = eventually(
            lambda: ready(cluster.kube.get(PODS, "picky", space)) and cluster.kube.get(PODS, "picky", space),
            "the pod runs",
            timeout=5,
        )
        assert held["spec"]["nodeName"] == "node2"
    finally:
        cluster.kube.patch(NODES, "node2", body={"metadata": {"labels": {"disk": None}}})

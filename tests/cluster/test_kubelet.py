"""The kubelets on real network namespaces, with the embedded API and a CNI plugin of a few lines."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from labs.kubelet import netns
from labs.kubelet.config import NodeSpec
from labs.kubelet.nodes import node_status
from ncp.kube.resources import ENDPOINT_SLICES, EVENTS, JOBS, LEASES, NODES, PODS, SERVICES
from tests.cluster.small_cluster import SmallCluster, eventually, pod, ready

Json = dict[str, Any]


def ask(cluster: SmallCluster, host: str, port: int, said: bytes = b"hello\n") -> bytes:
    """What ``host`` answers to a line from the node, or nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with netns.run_in(cluster.node_netns, lambda: socket.socket(family)) as sock:
        sock.settimeout(3)
        try:
            sock.connect((host, port))
            sock.sendall(said)
            return sock.recv(1000)
        except (ConnectionError, TimeoutError):
            return b""


def up(cluster: SmallCluster, space: str, name: str) -> Json:
    """The pod, once it is ready."""

    def look() -> Json | None:
        held = cluster.get(PODS, space, name)
        return held if held is not None and ready(held) else None

    found = eventually(look, f"pod {name} is ready")
    assert found is not None
    return found


def conditions(obj: Json) -> dict[str, str]:
    return {each["type"]: each["status"] for each in obj["status"]["conditions"]}


def addresses(held: Json) -> list[str]:
    return [each["ip"] for each in held["status"]["podIPs"]]


def test_nodes_are_registered_ready_and_leased(cluster: SmallCluster) -> None:
    node = eventually(lambda: cluster.get(NODES, "", "node1"), "node1 is registered")
    eventually(lambda: conditions(cluster.kube.get(NODES, "node1")).get("Ready") == "True", "node1 is ready")
    node = cluster.kube.get(NODES, "node1")
    internal = [each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"]
    assert internal == ["10.9.0.1", "fd09::1"]
    assert int(node["status"]["allocatable"]["pods"]) >= 250
    lease = eventually(lambda: cluster.get(LEASES, "kube-node-lease", "node1"), "node1 has a lease")
    assert lease["spec"]["holderIdentity"] == "node1"


def test_a_node_keeps_what_others_say_of_it(cluster: SmallCluster) -> None:
    theirs = {"type": "NetworkUnavailable", "status": "False", "reason": "TunnelsUp"}
    lost = {"type": "Ready", "status": "Unknown"}
    body = {"status": {"conditions": [theirs, lost]}}
    cluster.kube.patch(NODES, "node2", body=body, kind="strategic", subresource="status")

    def told() -> dict[str, str]:
        return conditions(cluster.kube.get(NODES, "node2"))

    eventually(lambda: told()["Ready"] == "True", "the kubelet says again that the node is ready")
    assert told()["NetworkUnavailable"] == "False"
    addresses = cluster.kube.get(NODES, "node2")["status"]["addresses"]
    assert [each["address"] for each in addresses] == ["10.9.0.1", "fd09::1", "node2"]


def test_a_kubelet_writes_no_condition_but_its_own() -> None:
    theirs = {"type": "NetworkUnavailable", "status": "True"}
    held = {"status": {"conditions": [theirs, {"type": "Ready", "status": "False", "lastTransitionTime": "before"}]}}
    written = node_status(NodeSpec("n1", "", (), "", {}, ()), held, ready=False, now="now")["conditions"]
    assert {each["type"] for each in written} == {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"}
    assert next(each for each in written if each["type"] == "Ready")["lastTransitionTime"] == "before"


def test_a_pod_comes_up_answers_and_leaves_no_trace(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "web", 8080, initContainers=[{"name": "first", "image": "x"}]))
    held = up(cluster, space, "web")
    status = held["status"]
    assert status["podIP"] == addresses(held)[0]
    assert [":" in each for each in addresses(held)] == [False, True]
    assert status["hostIP"] == "10.9.0.1"
    if cluster.knows(28):
        assert [each["ip"] for each in status["hostIPs"]] == ["10.9.0.1", "fd09::1"]
    assert set(conditions(held).values()) == {"True"}
    assert "PodReadyToStartContainers" in conditions(held)
    (container,) = status["containerStatuses"]
    assert (container["ready"], container["started"], container["restartCount"]) == (True, True, 0)
    assert "running" in container["state"]
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    for address in addresses(held):
        assert ask(cluster, address, 8080) == b"web\n"
    uid = held["metadata"]["uid"]
    log = cluster.path / "logs" / f"{space}_web_{uid}" / "c.log"
    assert len(log.read_text().splitlines()) == 2
    place = f"{cluster.prefix}-p-{uid[:8]}"
    assert netns.exists(place)
    assert netns.interfaces(place) == ("lo", "eth0")

    cluster.kube.delete(PODS, "web", space)
    eventually(lambda: cluster.get(PODS, space, "web") is None, "the pod is gone")
    eventually(lambda: not log.parent.exists(), "its logs are gone")
    assert not netns.exists(place)
    assert not (cluster.path / "state" / f"{uid}.json").exists()
    assert any(call.startswith(f"{space}/web ") for call in cluster.calls("DEL"))


def sleeping(length: int) -> Json:
    return {"lifecycle": {"preStop": {"exec": {"command": ["sleep", str(length)]}}}}


def test_a_pod_that_takes_its_time_to_go_serves_meanwhile_and_its_endpoint_says_so(
    cluster: SmallCluster, space: str
) -> None:
    labels = {"app": "slow"}
    ports = [{"port": 80}]
    metadata = {"name": "slow", "namespace": space}
    cluster.create(SERVICES, {"metadata": metadata, "spec": {"selector": labels, "ports": ports}})
    slow = pod(space, "slow", 80, container=sleeping(30))
    slow["metadata"]["labels"] = labels
    cluster.create(PODS, slow)
    address = up(cluster, space, "slow")["status"]["podIP"]

    def told() -> list[tuple[bool, bool, bool]]:
        found, _ = cluster.kube.list(ENDPOINT_SLICES, space)
        said = [each["conditions"] for one in found for each in one.get("endpoints") or ()]
        return [(each["ready"], each["serving"], each["terminating"]) for each in said]

    knows = cluster.knows(22)  # before, slices had no word for terminating
    if knows:
        eventually(lambda: told() == [(True, True, False)], "the endpoint is ready")
    cluster.kube.delete(PODS, "slow", space)
    if knows:
        eventually(lambda: told() == [(False, True, True)], "the endpoint terminates and serves")
    assert ask(cluster, address, 80) == b"slow\n"
    cluster.stop_kubelet()
    cluster.start_kubelet()
    eventually(lambda: ask(cluster, address, 80) == b"slow\n", "a new kubelet lets it serve on")
    cluster.kube.delete(PODS, "slow", space, grace_seconds=0)
    if knows:
        eventually(lambda: told() == [], "the endpoint is gone with the pod")
    eventually(lambda: ask(cluster, address, 80) == b"", "it serves no more")


def test_a_pod_goes_when_its_hook_is_done(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "slow", 80, container=sleeping(2)))
    up(cluster, space, "slow")
    cluster.kube.delete(PODS, "slow", space)
    eventually(lambda: cluster.get(PODS, space, "slow") is None, "the pod is gone", 10)


def test_a_pod_that_somebody_holds_has_ended_once_it_was_taken_down(cluster: SmallCluster, space: str) -> None:
    held = pod(space, "held", 80)
    held["metadata"]["finalizers"] = ["example.com/hold"]
    cluster.create(PODS, held)
    place = f"{cluster.prefix}-p-{up(cluster, space, 'held')['metadata']['uid'][:8]}"
    cluster.kube.delete(PODS, "held", space)
    try:
        eventually(lambda: not netns.exists(place), "its sandbox is gone")
        status = cluster.kube.get(PODS, "held", space)["status"]
        assert (status["phase"], conditions({"status": status})["Ready"]) == ("Succeeded", "False")
    finally:
        cluster.kube.patch(PODS, "held", space, body={"metadata": {"finalizers": None}})
    eventually(lambda: cluster.get(PODS, space, "held") is None, "the pod is gone")


def test_a_plugin_that_fails_is_told_and_tried_again(cluster: SmallCluster, space: str) -> None:
    fail = cluster.path / "fail"
    fail.touch()
    try:
        cluster.create(PODS, pod(space, "late", 80))

        def told() -> list[Json]:
            events, _ = cluster.kube.list(EVENTS, space, field_selector="reason=FailedCreatePodSandBox")
            return events

        (event, *_) = eventually(told, "an event says why")
        assert "no address left" in event["message"]
        held = eventually(lambda: cluster.get(PODS, space, "late"), "the pod")
        assert held["status"]["phase"] == "Pending"
        waiting = held["status"]["containerStatuses"][0]["state"]["waiting"]
        assert waiting["reason"] == "ContainerCreating"
    finally:
        fail.unlink()
    up(cluster, space, "late")
    sandboxes = [call.split()[1] for call in cluster.calls("ADD") if call.startswith(f"{space}/late ")]
    assert len(set(sandboxes)) == len(sandboxes) > 1, "every attempt is a sandbox of its own"
    undone = {call.split()[1] for call in cluster.calls("DEL") if call.startswith(f"{space}/late ")}
    assert undone == set(sandboxes[:-1])


def test_a_new_kubelet_adopts_pods(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "stays", 80))
    before = up(cluster, space, "stays")
    adds = cluster.calls("ADD")
    cluster.stop_kubelet()
    assert ask(cluster, before["status"]["podIP"], 80) == b""
    cluster.start_kubelet()
    eventually(lambda: ask(cluster, before["status"]["podIP"], 80) == b"stays\n", "the pod answers again")
    after = up(cluster, space, "stays")
    assert cluster.calls("ADD") == adds
    assert after["status"] == before["status"]


def test_what_went_while_no_kubelet_ran_is_cleaned_up(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "leaves", 80))
    held = up(cluster, space, "leaves")
    ask(cluster, held["status"]["podIP"], 80)
    uid = held["metadata"]["uid"]
    logs = cluster.path / "logs" / f"{space}_leaves_{uid}"
    assert logs.exists()
    cluster.stop_kubelet()
    cluster.kube.delete(PODS, "leaves", space, grace_seconds=0)
    kubelet = cluster.start_kubelet()
    eventually(kubelet.synced, "pods are listed")
    kubelet.audit()
    eventually(lambda: not netns.exists(f"{cluster.prefix}-p-{uid[:8]}"), "its namespace is gone")
    kubelet.forget_old_logs()
    assert not logs.exists()


def test_a_pod_whose_namespace_vanished_gets_a_new_sandbox(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "again", 80))
    before = up(cluster, space, "again")
    cluster.stop_kubelet()
    place = f"{cluster.prefix}-p-{before['metadata']['uid'][:8]}"
    netns.delete(place)
    cluster.start_kubelet()

    def moved() -> Json | None:
        held = cluster.get(PODS, space, "again")
        return held if held and held["status"]["podIP"] != before["status"]["podIP"] and ready(held) else None

    after = eventually(moved, "the pod has a new address")
    assert after is not None
    assert len(addresses(after)) == 2, "the old addresses are gone from the status"
    assert ask(cluster, after["status"]["podIP"], 80) == b"again\n"
    old = next(call.split()[1] for call in cluster.calls("ADD") if call.startswith(f"{space}/again "))
    assert any(old in call for call in cluster.calls("DEL"))


def test_readiness_follows_its_probe(cluster: SmallCluster, space: str, tmp_path: Path) -> None:
    switch = tmp_path / "on"
    probe = {"exec": {"command": ["test", "-e", str(switch)]}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.create(PODS, pod(space, "shy", 80, container={"readinessProbe": probe}))

    def is_ready() -> str:
        held = cluster.get(PODS, space, "shy") or {}
        running = held.get("status", {}).get("phase") == "Running"
        return conditions(held)["Ready"] if running else ""

    eventually(lambda: is_ready() == "False", "the pod runs and is not ready")
    switch.touch()
    eventually(lambda: is_ready() == "True", "the pod is ready")
    held = cluster.kube.get(PODS, "shy", space)
    assert "reason" not in next(each for each in held["status"]["conditions"] if each["type"] == "Ready")
    switch.unlink()
    eventually(lambda: is_ready() == "False", "the pod is no longer ready")


@pytest.mark.parametrize(
    "probe",
    [
        {"httpGet": {"path": "/healthz", "port": "web"}},
        {"tcpSocket": {"port": 8080}},
        {"grpc": {"port": 8080}},
        {"exec": {"command": ["/bin/a-program-of-the-image"]}},
        {"exec": {"command": ["sh", "-c", "a-program-of-the-image --ping"]}},
    ],
    ids=["httpGet", "tcpSocket", "grpc", "exec", "shell"],
)
def test_probes_that_pass(cluster: SmallCluster, space: str, probe: Json) -> None:
    probe = {**probe, "periodSeconds": 1}
    if "grpc" in probe and not cluster.knows(24):
        pytest.skip("this API server knows no grpc probes")
    ports = [{"name": "web", "containerPort": 8080}]
    probes = {"startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe}
    cluster.create(PODS, pod(space, "fit", container={"ports": ports, **probes}))
    assert up(cluster, space, "fit")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_liveness_probe_that_fails_restarts_the_container(cluster: SmallCluster, space: str) -> None:
    probe = {"tcpSocket": {"port": 81}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.create(PODS, pod(space, "ill", 80, container={"livenessProbe": probe}))

    def restarts() -> int:
        held = cluster.get(PODS, space, "ill") or {}
        return next((each["restartCount"] for each in held.get("status", {}).get("containerStatuses", ())), 0)

    eventually(lambda: restarts() >= 2, "the container was restarted twice")
    held = cluster.kube.get(PODS, "ill", space)
    eventually(lambda: ask(cluster, held["status"]["podIP"], 80) == b"ill\n", "it answers after a restart")


def test_host_network_pods_share_their_nodes_ports(cluster: SmallCluster, space: str) -> None:
    host = {"hostNetwork": True, "nodeName": "node1"}
    cluster.create(PODS, pod(space, "first", 7001, **host))
    held = up(cluster, space, "first")
    assert addresses(held) == ["10.9.0.1", "fd09::1"]
    assert ask(cluster, "10.9.0.1", 7001) == b"first\n"
    assert not any(call.startswith(f"{space}/first ") for call in cluster.calls("ADD"))

    cluster.create(PODS, pod(space, "second", 7001, **host))

    def waiting() -> Json | None:
        held = cluster.get(PODS, space, "second") or {}
        statuses = held.get("status", {}).get("containerStatuses") or [{}]
        return statuses[0].get("state", {}).get("waiting")

    assert "port 7001/TCP" in eventually(waiting, "the second pod waits")["message"]
    cluster.kube.delete(PODS, "first", space)
    up(cluster, space, "second")


def test_pods_that_are_meant_to_end_do(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "done", restartPolicy="Never"))
    cluster.create(PODS, pod(space, "bad", restartPolicy="Never", container={"command": ["sh", "-c", "exit 3"]}))
    cluster.create(PODS, pod(space, "naps", restartPolicy="Never", container={"command": ["sleep", "3600"]}))

    def phase(name: str) -> str:
        return str((cluster.get(PODS, space, name) or {}).get("status", {}).get("phase"))

    eventually(lambda: phase("done") == "Succeeded", "the pod has ended")
    eventually(lambda: phase("bad") == "Failed", "the pod has failed")
    eventually(lambda: phase("naps") == "Running", "the sleeper runs")
    held = cluster.kube.get(PODS, "bad", space)
    assert held["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    place = f"{cluster.prefix}-p-{held['metadata']['uid'][:8]}"
    eventually(lambda: not netns.exists(place), "an ended pod gives its sandbox back")


def test_a_job_completes(cluster: SmallCluster, space: str) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}
    job = {
        "metadata": {"name": "sum", "namespace": space},
        "spec": {"completions": 3, "parallelism": 2, "template": template},
    }
    cluster.create(JOBS, job)

    def complete() -> bool:
        held = cluster.get(JOBS, space, "sum") or {}
        return any(each["type"] == "Complete" for each in held.get("status", {}).get("conditions", ()))

    eventually(complete, "the job is complete")
    status = cluster.kube.get(JOBS, "sum", space)["status"]
    assert status["succeeded"] == 3
    assert not status.get("active")
    assert len(cluster.pods(space)) == 3


def test_an_unreadable_sandbox_file_is_put_aside(cluster: SmallCluster, space: str) -> None:
    cluster.stop_kubelet()
    broken = cluster.path / "state" / "0000.json"
    broken.write_text("{")
    cluster.start_kubelet()
    assert broken.with_suffix(".broken").exists()
    broken.with_suffix(".broken").unlink()
    cluster.create(PODS, pod(space, "fine", 80))
    up(cluster, space, "fine")

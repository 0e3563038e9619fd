"""What the cluster's parts do when something dies under them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labs.kubelet import netns
from ncp.kube.resources import DEPLOYMENTS, PODS
from tests.cluster.small_cluster import SmallCluster, eventually, pod, ready

Json = dict[str, Any]


def deployment(space: str, replicas: int) -> Json:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web", "namespace": space}, "spec": spec}


def all_ready(cluster: SmallCluster, space: str, count: int) -> Callable[[], bool]:
    return lambda: len(pods := cluster.pods(space)) == count and all(map(ready, pods))


def test_controllers_that_die_amid_their_work_leave_nothing_double(cluster: SmallCluster, space: str) -> None:
    cluster.create(DEPLOYMENTS, deployment(space, 30))
    most = 0
    for _ in range(4):
        eventually(lambda: cluster.pods(space), "some pods are made")
        assert cluster.manager is not None
        cluster.manager.stop()
        most = max(most, len(cluster.pods(space)))
        cluster.start_manager()
    eventually(all_ready(cluster, space, 30), "thirty pods")
    assert max(most, len(cluster.pods(space))) <= 30


def test_a_killed_api_server_that_comes_back_changes_nothing(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "before", 80))
    eventually(all_ready(cluster, space, 1), "the pod is ready")
    adds = len(cluster.calls("ADD"))
    cluster.restart_api()
    cluster.create(PODS, pod(space, "after", 80))
    eventually(all_ready(cluster, space, 2), "the next pod is ready")
    assert len(cluster.calls("ADD")) == adds + 1


def test_what_a_kubelet_left_half_done_is_taken_away_first(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "half", 80))
    eventually(all_ready(cluster, space, 1), "the pod is ready")
    (held,) = cluster.pods(space)
    file = cluster.path / "state" / f"{held['metadata']['uid']}.json"
    cluster.stop_kubelet()
    left = json.loads(file.read_text())
    file.write_text(json.dumps(left | {"plugged": False, "addresses": []}))  # killed amid ADD
    cluster.start_kubelet()

    def again() -> bool:
        now = json.loads(file.read_text()) if file.exists() else {}
        return bool(now.get("plugged") and now["container_id"] != left["container_id"])

    eventually(again, "a new sandbox")
    mine = [call.split()[1] for call in cluster.calls("DEL") if call.startswith(f"{space}/half ")]
    assert mine == [left["container_id"]]
    eventually(all_ready(cluster, space, 1), "the pod is ready again")


def kubelet_process(cluster: SmallCluster, path: Path) -> subprocess.Popen[bytes]:
    path.write_text(json.dumps(cluster.raw_config()))
    command = [sys.executable, "-m", "labs.kubelet", "--kubeconfig", str(cluster.api.kubeconfig), "--config", str(path)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def test_a_kubelet_process_that_is_killed_is_followed_by_one_that_adopts(
    cluster: SmallCluster, space: str, tmp_path: Path
) -> None:
    cluster.stop_kubelet()
    first = kubelet_process(cluster, tmp_path / "kubelet.json")
    try:
        cluster.create(PODS, pod(space, "kept", 80))
        eventually(all_ready(cluster, space, 1), "the pod is ready")
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        adds = cluster.calls("ADD")
        second = kubelet_process(cluster, tmp_path / "kubelet.json")
        try:
            cluster.kube.delete(PODS, "kept", space)
            eventually(lambda: not cluster.pods(space), "the pod is gone")
            assert cluster.calls("ADD") == adds
        finally:
            second.terminate()
            assert second.wait(10) == 0
    finally:
        first.kill()
        first.wait(10)
        cluster.start_kubelet()


def test_everything_is_given_back(cluster: SmallCluster, space: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    cluster.create(DEPLOYMENTS, deployment(space, 20))
    eventually(all_ready(cluster, space, 20), "twenty pods")
    assert len(cluster.pod_namespaces()) == 20
    cluster.kube.delete(DEPLOYMENTS, "web", space, propagation="Background")
    eventually(lambda: not cluster.pod_namespaces(), "their namespaces are gone")
    eventually(lambda: not list((cluster.path / "state").iterdir()), "their files are gone")
    plugged = [call.split()[1] for call in cluster.calls("ADD") if call.startswith(f"{space}/")]
    assert sorted(plugged) == sorted(
        call.split()[1] for call in cluster.calls("DEL") if call.startswith(f"{space}/")
    ), "every sandbox was plugged and unplugged once"
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + 8, "their sockets are closed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["labs.kubelet", "--kubeconfig", "/nowhere", "--config", "/nowhere"], "/nowhere"),
        (["labs.cluster", "--kubeconfig", "/nowhere"], "/nowhere"),
        (
            ["labs.cluster", "--kubeconfig", "/nowhere", "--controllers", "job,cloud"],
            "'cloud' is not one of deployment",
        ),
    ],
)
def test_wrong_usage_ends_with_two_and_says_what(arguments: list[str], said: str) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_controllers_process_runs_and_ends_on_request(cluster: SmallCluster, space: str) -> None:
    assert cluster.manager is not None
    cluster.manager.stop()
    command = [sys.executable, "-m", "labs.cluster", "--kubeconfig", str(cluster.api.kubeconfig)]
    command += ["--standalone-gc"] if cluster.real else []
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        cluster.create(DEPLOYMENTS, deployment(space, 2))
        eventually(all_ready(cluster, space, 2), "two pods")
    finally:
        process.terminate()
        assert process.wait(10) == 0
        cluster.start_manager()


def test_a_namespace_removed_under_a_running_pod_is_noticed_by_the_audit(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "hit", 80))
    eventually(all_ready(cluster, space, 1), "the pod is ready")
    (held,) = cluster.pods(space)
    netns.delete(f"{cluster.prefix}-p-{held['metadata']['uid'][:8]}")
    assert cluster.kubelet is not None
    cluster.kubelet.audit()

    def moved() -> bool:
        (now,) = cluster.pods(space)
        return bool(now["status"]["podIP"] != held["status"]["podIP"] and ready(now))

    eventually(moved, "the pod has a new sandbox")

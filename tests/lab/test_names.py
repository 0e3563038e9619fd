"""Services by name, as a person would type it into a pod."""

import os
import subprocess
import sys

import pytest

from labs.kubelet import netns
from topologies.plan import namespace

pytestmark = [pytest.mark.switch, pytest.mark.lab]
SPACE = "named"
PORTS = [{"name": "http", "port": 80, "targetPort": 8080}]


@pytest.fixture(scope="module")
def pods(lab):
    found = lab.web(SPACE, 3)
    metadata = {"name": "web", "namespace": SPACE}
    spec = {"selector": {"app": "web"}, "ports": PORTS, "ipFamilyPolicy": "PreferDualStack"}
    lab.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    lab.kubectl("wait", "-n", SPACE, "deployment/web", "--for=condition=Available", "--timeout=30s")
    yield list(found)
    lab.kubectl("delete", "namespace", SPACE, "--timeout=60s")


def curl(lab, pod, *arguments):
    """What ``ncp lab exec POD -- curl …`` prints, with nothing between a person and it."""
    line = (sys.executable, "-m", "ncp", "lab", "exec", pod, "--", "curl", "-sS", "-m", "5", *arguments)
    environment = {**os.environ, "NCP_LAB_STATE": str(lab.state.root)}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize("name", ["web", f"web.{SPACE}", f"web.{SPACE}.svc", f"Web.{SPACE}.svc.cluster.local"])
def test_curl_reaches_a_member_by_name(lab, pods, name, family):
    lab.wait(lambda: curl(lab, pods[0], family, f"http://{name}/hostname").returncode == 0, f"{name} answers")
    # Not itself: a pod that is sent to itself is not served yet.
    found = {curl(lab, pods[0], family, f"http://{name}/hostname").stdout for _ in range(8)}
    assert found - {""} <= {pod.partition("/")[2] for pod in pods}
    assert found != {""}


def test_a_name_nobody_has_is_said_to_be_unknown(lab, pods):
    done = curl(lab, pods[0], "http://nobody")
    assert done.returncode == 6
    assert "Could not resolve host: nobody" in done.stderr


def test_no_policy_comes_between_a_pod_and_names(lab, pods):
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "alone", "namespace": SPACE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    lab.apply(policy)
    try:
        lab.wait(lambda: curl(lab, pods[0], "http://web").returncode == 28, "the pod is cut off")
        done = lab.exec(pods[0], "getent", "ahostsv4", "web")
        assert done.stdout.split()[0] == lab.get("service", "web", "-n", SPACE)["spec"]["clusterIP"]
    finally:
        lab.kubectl("delete", "-n", SPACE, "networkpolicy", "alone")


def test_the_machines_own_resolver_is_as_it_was(lab, pods):
    """Only what runs in a pod sees the pod's files."""
    place = namespace(
        lab.state.lab, f"p-{lab.get('pod', pods[0].partition('/')[2], '-n', SPACE)['metadata']['uid'][:8]}"
    )
    assert (netns.FILES / place / "resolv.conf").read_text() == lab.exec(pods[0], "cat", "/etc/resolv.conf").stdout
    with open("/etc/resolv.conf") as file:
        assert "cluster.local" not in file.read()
    assert "cluster.local" not in lab.exec_node("node1", "cat", "/etc/resolv.conf").stdout

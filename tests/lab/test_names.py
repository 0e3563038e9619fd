"""Services by name, as a person would type it into a pod."""

import os
import subprocess
import sys

import pytest

from labs.kubelet import netns
from topologies.plan import namespace

pytestmark = [pytest.mark.switch, pytest.mark.lab]
SPACE = "named"
CLIENT = f"{SPACE}/client"
PORTS = [{"name": "http", "port": 80, "targetPort": 8080}]


@pytest.fixture(scope="module")
def members(lab):
    """Pods behind the service ``web``, by name; ``client`` is beside them."""
    found = lab.web(SPACE, 3)
    metadata = {"name": "web", "namespace": SPACE}
    spec = {"selector": {"app": "web"}, "ports": PORTS, "ipFamilyPolicy": "PreferDualStack"}
    client = {"name": "client", "namespace": SPACE}
    lab.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec},
        {"apiVersion": "v1", "kind": "Pod", "metadata": client, "spec": {"containers": [{"name": "c", "image": "x"}]}},
    )
    lab.kubectl("wait", "-n", SPACE, "deployment/web", "--for=condition=Available", "--timeout=30s")
    lab.kubectl("wait", "-n", SPACE, "pod/client", "--for=condition=Ready", "--timeout=30s")
    yield {name.partition("/")[2] for name in found}
    lab.kubectl("delete", "namespace", SPACE, "--timeout=60s")


def curl(lab, *arguments):
    """What ``ncp lab exec NAMESPACE/client -- curl …`` does, with nothing between a person and it."""
    line = (sys.executable, "-m", "ncp", "lab", "exec", CLIENT, "--", "curl", "-sS", "-m", "5", *arguments)
    environment = {**os.environ, "NCP_LAB_STATE": str(lab.state.root)}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize("name", ["web", f"web.{SPACE}", f"web.{SPACE}.svc", f"Web.{SPACE}.svc.cluster.local"])
def test_curl_reaches_a_member_by_name(lab, members, name, family):
    lab.wait(lambda: curl(lab, family, f"http://{name}/hostname").returncode == 0, f"{name} answers")
    assert curl(lab, family, f"http://{name}/hostname").stdout in members


def test_a_name_nobody_has_is_said_to_be_unknown(lab, members):
    done = curl(lab, "http://nobody")
    assert done.returncode == 6
    assert "Could not resolve host: nobody" in done.stderr


def test_no_policy_comes_between_a_pod_and_names(lab, members):
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "alone", "namespace": SPACE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    lab.apply(policy)
    try:
        lab.wait(lambda: curl(lab, "-m", "1", "http://web").returncode == 28, "the pod is cut off")
        done = lab.exec(CLIENT, "getent", "ahostsv4", "web")
        assert done.stdout.split()[0] == lab.get("service", "web", "-n", SPACE)["spec"]["clusterIP"]
    finally:
        lab.kubectl("delete", "-n", SPACE, "networkpolicy", "alone")


def test_the_machines_own_resolver_is_as_it_was(lab, members):
    """Only what runs in a pod sees the pod's files."""
    place = namespace(lab.state.lab, f"p-{lab.get('pod', 'client', '-n', SPACE)['metadata']['uid'][:8]}")
    assert (netns.FILES / place / "resolv.conf").read_text() == lab.exec(CLIENT, "cat", "/etc/resolv.conf").stdout
    with open("/etc/resolv.conf") as file:
        assert "cluster.local" not in file.read()
    assert "cluster.local" not in lab.exec_node("node1", "cat", "/etc/resolv.conf").stdout

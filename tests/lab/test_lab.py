"""A lab as a person uses it: what is inside speaks, the commands answer, and a killed part comes back."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from labs import processes, ready
from labs.processes import Table
from topologies import netns
from topologies.plan import namespace

pytestmark = [pytest.mark.switch, pytest.mark.lab]
REPLICAS = 6
NCP = (sys.executable, "-m", "ncp", "lab")


def ncp(lab, *arguments, stdin=None):
    environment = {**os.environ, "NCP_LAB_STATE": str(lab.state.root)}
    return subprocess.run([*NCP, *arguments], input=stdin, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def pods(lab):
    """Pods on every node, by name, with their addresses; made once for this file."""
    yield lab.web("runtime", REPLICAS)
    lab.kubectl("delete", "namespace", "runtime", "--wait=false")


def test_pods_nodes_and_the_outside_reach_each_other_without_a_lost_first_packet(lab, pods):
    (first, _), *others = pods.items()
    for addresses in (addresses for _, addresses in others):
        assert len(addresses) == 2, "IPv4 and IPv6"
        for address in addresses:
            assert lab.reaches(first, address)
            assert lab.exec_node("node2", "ping", "-n", "-c1", "-W1", address).returncode == 0
            assert lab.exec_external("ping", "-n", "-c1", "-W1", address).returncode == 0
    for upstream in ("203.0.113.1", "2001:db8:113::1"):
        assert lab.reaches(first, upstream)


def test_nothing_is_answered_twice(lab, pods):
    """An underlay link that its node's kernel listens to as well would double every packet."""
    done = lab.exec_node("node1", "ping", "-n", "-c3", "-i0.2", "192.168.50.13")
    assert "3 received" in done.stdout
    assert "DUP" not in done.stdout


def test_exec_gives_the_commands_exit_code_and_streams(lab, pods):
    pod = next(iter(pods))
    done = ncp(lab, "exec", pod, "--", "sh", "-c", "cat; echo complaint >&2; exit 7", stdin="hello")
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello", "complaint\n")


def test_exec_is_inside_the_namespace_asked_for(lab, pods):
    pod, addresses = next(iter(pods.items()))
    for where, address in (
        ((pod,), addresses[0]),
        (("--node", "node2"), "192.168.50.12"),
        (("--external",), "203.0.113.1"),
    ):
        assert address in ncp(lab, "exec", *where, "--", "ip", "address").stdout


def test_open_vswitch_tools_on_a_node_speak_to_its_own_switch(lab):
    assert "br-int" in ncp(lab, "exec", "--node", "node3", "--", "ovs-vsctl", "list-br").stdout.split()
    assert "node3" in ncp(lab, "exec", "--node", "node3", "--", "ovs-vsctl", "get", "open", ".", "external_ids").stdout


WRONG = {
    "unknown pod": (("exec", "runtime/web", "--", "true"), 1, r"no pod runtime/web; did you mean runtime/web-"),
    "not a pod": (("exec", "web", "--", "true"), 2, r"'web' is not NAMESPACE/POD"),
    "unknown node": (("exec", "--node", "node9", "--", "true"), 1, r"no node 'node9'; there are node1, node2, node3"),
    "nowhere": (("exec",), 2, r"where\?"),
    "no command": (("exec", "--external"), 2, r"no command given"),
    "no such command": (("exec", "--external", "--", "no-such-command"), 127, r"no-such-command: command not found"),
    "two places": (("exec", "--external", "--node", "node1", "--", "true"), 2, r"are 2 places; give one"),
    "whose agent": (("restart", "node"), 2, r"whose\? give its name"),
    "unknown agent": (("restart", "node", "node9"), 1, r"no node 'node9'"),
    "another topology": (("up", "--nodes", "2"), 1, r"three-nodes with 3 nodes, asked for is three-nodes with 2"),
    "another API": (("up", "--kube", "real"), 1, r"objects in its embedded API, asked for is real"),
    "unknown topology": (("up", "--topology", "ring"), 2, r"no topology 'ring'; there are one-node"),
    "unknown log": (("logs", "nothing"), 1, r"no log of 'nothing'.*there are: api"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_says_what_is_wrong(lab, pods, case):
    arguments, code, message = WRONG[case]
    done = ncp(lab, *arguments)
    assert re.search(message, done.stderr), done.stderr
    assert done.returncode == code


def test_up_on_a_running_lab_leaves_it_alone(lab):
    before = [(one.command.name, one.pid) for one in Table(lab.state)]
    done = ncp(lab, "up")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(lab.state.kubeconfig)
    assert "runs already" in done.stderr
    assert [(one.command.name, one.pid) for one in Table(lab.state)] == before


def test_up_that_is_quiet_prints_the_kubeconfigs_path_and_nothing_else(lab):
    """``export KUBECONFIG=$(ncp lab up -q)`` in a script whose log shall stay short."""
    done = ncp(lab, "up", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{lab.state.kubeconfig}\n", "")


def test_security_policies_are_known_from_the_start(lab):
    policy = {
        "apiVersion": "crd.nsx.vmware.com/v1alpha1",
        "kind": "SecurityPolicy",
        "metadata": {"name": "none", "namespace": "default"},
        "spec": {"rules": []},
    }
    lab.apply(policy)
    assert lab.get("securitypolicy", "none")["spec"] == {"priority": 0, "rules": []}
    lab.kubectl("delete", "securitypolicy", "none")


@pytest.mark.parametrize("place", [("--node", "node1"), ("--external",)])
@pytest.mark.parametrize("code", [0, 1, 255])
def test_exec_passes_exit_codes_from_everywhere(lab, place, code):
    assert ncp(lab, "exec", *place, "--", "sh", "-c", f"exit {code}").returncode == code


def test_status_is_well_until_something_dies(lab):
    lab.wait(lambda: ncp(lab, "status").returncode == 0, "the lab is well")
    found = json.loads(ncp(lab, "status", "--output", "json").stdout)
    assert {node["name"]: node["ready"] for node in found["nodes"]} == dict.fromkeys(("node1", "node2", "node3"), True)
    processes.kill(Table(lab.state).get("cluster"))
    done = ncp(lab, "status")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "not well: cluster is down"
    lab.restart("cluster")
    assert ncp(lab, "status").returncode == 0


@pytest.mark.parametrize("part", ["manager", "node node1", "node node2", "api", "kubelet"])
def test_a_part_restarts_while_pods_lose_nothing(lab, pods, part):
    (source, _), (_, addresses), *_ = pods.items()
    place = ("ip", "netns", "exec", pod_namespace(lab, source))
    ping = subprocess.Popen([*place, "ping", "-n", "-i0.05", "-w60", addresses[0]], stdout=subprocess.PIPE, text=True)
    try:
        before = Table(lab.state).get(process_name(part))
        done = ncp(lab, "restart", *part.split())
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(rf"restarted {part}  \d+\.\d\d s\n", done.stdout)
        after = Table(lab.state).get(process_name(part))
        assert after.alive
        assert after.pid != before.pid
        assert after.command == before.command
    finally:
        ping.send_signal(signal.SIGINT)
        said = ping.communicate()[0]
    answered = [int(number) for number in re.findall(r"icmp_seq=(\d+)", said)]
    assert answered == list(range(1, len(answered) + 1)), "none is missing but those under way at the end"
    assert len(answered) > 5


def test_a_switch_that_was_killed_forwards_again(lab, pods):
    (source, addresses), *others = pods.items()
    lab.restart("switch", "node1")
    for other, there in others:
        lab.wait(lambda other=other: lab.reaches(other, addresses[0]), f"{other} reaches {source} again", 5)
        assert lab.reaches(source, there[1])


def test_a_lab_killed_whole_comes_back_with_the_same_addresses(lab, pods):
    for one in Table(lab.state):
        os.kill(one.pid, signal.SIGKILL)
    lab.wait(lambda: not any(one.alive for one in Table(lab.state)), "every process is dead")
    assert ncp(lab, "status").returncode == 1
    assert lab.up() is True
    lab.wait(lambda: lab.running("runtime") == pods, "the same pods run at the same addresses")
    (first, _), *others = pods.items()
    for _, addresses in others:
        lab.wait(lambda to=addresses[0]: lab.reaches(first, to), f"{first} reaches {addresses[0]} again")
    assert ncp(lab, "up").returncode == 0


def pod_namespace(lab, pod):
    space, name = pod.split("/")
    uid = lab.get("pod", name, "-n", space)["metadata"]["uid"]
    found = namespace(lab.state.lab, f"p-{uid[:8]}")
    assert netns.exists(found)
    return found


def process_name(part):
    return "-".join(part.split())


def test_agents_answer_what_they_have_programmed(lab):
    for node in ("node1", "node2", "node3"):
        lab.wait(lambda node=node: ready.agent_ready(lab.state, node), f"{node} is programmed")
        assert (ready.agent_status(lab.state, node) or {})["flows"] > 50

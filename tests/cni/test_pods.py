from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ncp.cni.server import CniServer
from ncp.plumbing.pods import interface_name
from tests.cni.conftest import Node, Pod
from tests.support.netns import ip, run_in

pytestmark = pytest.mark.switch


def nothing_is_left(node: Node) -> bool:
    return (node.cables(), node.ports(), node.network.flows) == ([], [], {})


def link_local(pod: Pod) -> str:
    """The pod's own address of its link, which the kernel makes in the background, at once but not in the same instant."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        rows = json.loads(ip("-j", "addr", "show", "eth0", netns=pod.netns))[0]["addr_info"]
        found = [row["local"] for row in rows if row["scope"] == "link" and not row.get("tentative")]
        if found:
            return str(found[0])
    return ""


def test_add_gives_addresses_routes_port_and_flows(node: Node) -> None:
    pod = node.pod(7)
    outcome = pod.cni("ADD")
    assert outcome.code == 0, outcome
    assert [row["address"] for row in outcome.output["ips"]] == ["10.4.0.7/24", "fd00:10:4::7/64"]
    assert outcome.output["interfaces"][1]["sandbox"] == pod.path
    assert node.cables() == node.ports() == [outcome.output["interfaces"][0]["name"]]
    assert node.network.flows == {"shop/web-7": ("box-7", 16)}
    link = json.loads(ip("-j", "addr", "show", "eth0", netns=pod.netns))[0]
    assert (link["address"], link["mtu"], link["operstate"]) == ("02:4e:0a:04:00:07", 1442, "UP")
    ready = {(row["local"], row["prefixlen"]) for row in link["addr_info"] if not row.get("tentative")}
    assert ready >= {("10.4.0.7", 24), ("fd00:10:4::7", 64)}
    assert link_local(pod) == "fe80::4e:aff:fe04:7"
    assert "default via 10.4.0.1" in ip("route", netns=pod.netns)
    assert "default via fd00:10:4::1" in ip("-6", "route", netns=pod.netns)
    assert pod.cni("CHECK").code == 0


def test_add_twice_gives_the_same_result_and_disturbs_nothing(node: Node) -> None:
    pod = node.pod(7)
    first = pod.cni("ADD")
    index = json.loads(ip("-j", "link", "show", "eth0", netns=pod.netns))[0]["ifindex"]
    assert pod.cni("ADD") == first
    assert json.loads(ip("-j", "link", "show", "eth0", netns=pod.netns))[0]["ifindex"] == index
    assert len(node.cables()) == len(node.ports()) == 1


def test_del_removes_everything_and_may_be_repeated(node: Node) -> None:
    pod = node.pod(7)
    assert pod.cni("ADD").code == 0
    for _ in range(2):
        outcome = pod.cni("DEL")
        assert (outcome.code, outcome.output) == (0, {})
        assert nothing_is_left(node)


def test_del_works_when_pod_and_namespace_are_gone(node: Node) -> None:
    pod = node.pod(7)
    assert pod.cni("ADD").code == 0
    node.network.known.clear()
    node.network.decided.clear()
    ip("netns", "del", pod.netns)
    assert pod.cni("DEL").code == 0
    assert nothing_is_left(node)


def test_a_refused_flow_rolls_everything_back(node: Node) -> None:
    pod = node.pod(7)
    node.network.refuse = True
    outcome = pod.cni("ADD")
    assert (outcome.code, outcome.output["code"]) == (1, 11)
    assert "flows of shop/web-7 were refused" in outcome.output["msg"]
    assert nothing_is_left(node)
    node.network.refuse = False
    assert pod.cni("ADD").code == 0


def test_a_foreign_device_in_the_pod_is_named_and_kept(node: Node) -> None:
    pod = node.pod(7)
    ip("link", "add", "eth0", "type", "veth", "peer", "name", "other", netns=pod.netns)
    outcome = pod.cni("ADD")
    assert outcome.output["code"] == 103
    assert "another device eth0" in outcome.output["msg"]
    assert nothing_is_left(node)
    assert "eth0" in ip("link", netns=pod.netns)


def test_a_missing_namespace_is_an_unknown_container(node: Node) -> None:
    pod = node.pod(7)._replace(path="/run/netns/no-such")
    outcome = pod.cni("ADD")
    assert (outcome.code, outcome.output["code"]) == (1, 3)
    assert "/run/netns/no-such" in outcome.output["msg"]
    assert nothing_is_left(node)


def test_an_unknown_pod_and_an_undecided_pod_are_told_apart(node: Node) -> None:
    pod = node.pod(7, decide=False)
    outcome = pod.cni("ADD", timeout=0.1)
    assert (outcome.output["code"], "ncp/port" in outcome.output["msg"]) == (11, True)
    node.network.known.clear()
    assert pod.cni("ADD").output["code"] == 100
    assert nothing_is_left(node)


def test_add_waits_for_the_decision(node: Node) -> None:
    pod = node.pod(7, decide=False)
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(pod.cni, "ADD")
        assert node.network.waiting.wait(10)
        node.network.decide(pod.name, pod.port)
        assert adding.result().code == 0


def test_a_del_during_an_add_wins(node: Node) -> None:
    pod = node.pod(7, decide=False)
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(pod.cni, "ADD")
        assert node.network.waiting.wait(10)
        assert pod.cni("DEL").code == 0
        node.network.decide(pod.name, pod.port)
        outcome = adding.result()
    assert (outcome.code, outcome.output["code"]) == (1, 3)
    assert nothing_is_left(node)


def test_a_new_container_replaces_the_old_one_whose_late_del_harms_nothing(node: Node) -> None:
    old = node.pod(7, container="old")
    new = node.pod(7, container="new")
    assert old.cni("ADD").code == 0
    assert new.cni("ADD").code == 0
    assert node.ports() == node.cables() == [interface_name("new")]
    assert old.cni("DEL").code == 0
    assert new.cni("CHECK").code == 0
    assert node.network.flows == {"shop/web-7": ("new", 16)}


def test_a_new_container_in_the_same_namespace_takes_it_over(node: Node) -> None:
    old = node.pod(7, container="old")
    assert old.cni("ADD").code == 0
    new = old._replace(container="new")
    assert new.cni("ADD").code == 0
    assert new.cni("CHECK").code == 0
    assert node.ports() == node.cables() == [interface_name("new")]


def test_one_container_for_two_pods_is_refused(node: Node) -> None:
    first = node.pod(7, container="box")
    second = node.pod(8, container="box")
    assert first.cni("ADD").code == 0
    outcome = second.cni("ADD")
    assert outcome.output["code"] == 101
    assert "shop/web-7" in outcome.output["msg"]
    assert first.cni("CHECK").code == 0


def test_twenty_at_once(node: Node) -> None:
    pods = [node.pod(number) for number in range(10, 30)]
    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(lambda pod: pod.cni("ADD"), pods))
    assert [outcome.code for outcome in outcomes] == [0] * 20, outcomes
    assert sorted(ofport for _, ofport in node.network.flows.values()) == list(range(16, 36))
    with ThreadPoolExecutor(20) as pool:
        assert all(outcome.code == 0 for outcome in pool.map(lambda pod: pod.cni("DEL"), pods))
    assert nothing_is_left(node)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (("addr", "del", "10.4.0.7/24", "dev", "eth0"), "lacks address 10.4.0.7/24"),
        (("addr", "del", "fd00:10:4::7/64", "dev", "eth0"), "lacks address fd00:10:4::7/64"),
        (("route", "del", "default"), "lacks the default route via 10.4.0.1"),
        (("-6", "route", "del", "default"), "lacks the default route via fd00:10:4::1"),
        (("link", "set", "eth0", "mtu", "1400"), "has MTU 1400, not 1442"),
        (("link", "set", "eth0", "address", "02:00:00:00:00:99"), "has MAC 02:00:00:00:00:99"),
        (("link", "set", "eth0", "down"), "eth0 is down"),
        (("link", "del", "eth0"), "eth0 is gone"),
    ],
)
def test_check_names_what_was_broken_in_the_pod(node: Node, break_it: tuple[str, ...], says: str) -> None:
    pod = node.pod(7)
    assert pod.cni("ADD").code == 0
    ip(*break_it, netns=pod.netns)
    outcome = pod.cni("CHECK")
    assert (outcome.code, outcome.output["code"]) == (1, 105)
    assert says in outcome.output["msg"]
    assert pod.cni("ADD").code == 0
    assert pod.cni("CHECK").code == 0


def test_check_and_notification_find_a_port_deleted_by_hand(node: Node) -> None:
    pod = node.pod(7)
    assert pod.cni("ADD").code == 0
    name = interface_name("box-7")
    node.switch.vsctl("del-port", name)
    with node.changed:
        assert node.changed.wait_for(lambda: (name, None) in node.changes, 10)
    assert f"port {name} is gone" in pod.cni("CHECK").output["msg"]


def test_check_finds_missing_flows_and_another_address(node: Node) -> None:
    pod = node.pod(7)
    result = pod.cni("ADD").output
    node.network.flows.clear()
    assert "flows of shop/web-7 are missing" in pod.cni("CHECK").output["msg"]
    result["ips"][0]["address"] = "10.4.0.99/24"
    assert "10.4.0.99/24" in pod.cni("CHECK", prevResult=result).output["msg"]


def test_add_repairs_a_cable_removed_by_hand_so_that_packets_flow(node: Node) -> None:
    first, second = node.pod(7), node.pod(8)
    node.switch.ofctl("add-flow", "br-int", "actions=NORMAL")
    assert first.cni("ADD").code == second.cni("ADD").code == 0
    ip("link", "del", interface_name("box-7"), netns=node.netns)
    assert first.cni("ADD").code == 0
    assert run_in(first.netns, "ping", "-c1", "-W5", second.v4).returncode == 0


def test_pods_reach_each_other_over_the_switch(node: Node) -> None:
    node.switch.ofctl("add-flow", "br-int", "actions=NORMAL")
    first, second = node.pod(7), node.pod(8)
    assert first.cni("ADD").code == second.cni("ADD").code == 0
    for address in (second.v4, second.v6):
        done = run_in(first.netns, "ping", "-c2", "-i0.2", "-W5", address)
        assert done.returncode == 0, done.stdout
    oversize = run_in(first.netns, "ping", "-c1", "-W5", "-s4000", second.v4)
    assert oversize.returncode == 0, oversize.stdout


def test_tcp_arrives_whole(node: Node) -> None:
    """With an offload left on, segments past the MTU or without checksum would never arrive."""
    node.switch.ofctl("add-flow", "br-int", "actions=NORMAL")
    first, second = node.pod(7), node.pod(8)
    assert first.cni("ADD").code == second.cni("ADD").code == 0
    listen = (
        "import socket; s = socket.create_server(('', 7000)); print('up', flush=True)\n"
        "c, _ = s.accept(); n = 0\n"
        "while d := c.recv(1 << 16): n += len(d)\n"
        "print(n)"
    )
    send = (
        f"import socket; c = socket.create_connection(('{second.v4}', 7000), 10); c.sendall(bytes(1 << 20)); c.close()"
    )
    command = ("ip", "netns", "exec", second.netns, sys.executable, "-c", listen)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "up\n"
            assert run_in(first.netns, sys.executable, "-c", send).returncode == 0
            assert server.stdout.readline() == f"{1 << 20}\n"
        finally:
            server.kill()


def test_the_switch_end_is_silent(node: Node) -> None:
    """The node's own kernel must not answer a pod behind the switch's back, even where its filters are off."""
    pod = node.pod(7)
    assert pod.cni("ADD").code == 0
    filter_of = f"net.ipv4.conf.{interface_name('box-7')}.rp_filter"
    assert run_in(node.netns, "sysctl", "-n", filter_of).stdout.strip() == "1"
    assert run_in(node.netns, "sysctl", "-w", f"{filter_of}=0").returncode == 0
    ip("link", "set", "lo", "up", netns=node.netns)
    ip("addr", "add", "10.4.0.200/32", "dev", "lo", netns=node.netns)
    try:
        assert run_in(pod.netns, "ping", "-c1", "-W1", "10.4.0.200").returncode != 0
        assert "lladdr" not in ip("neigh", "show", "10.4.0.200", netns=pod.netns)
        assert "inet6" not in ip("addr", "show", interface_name("box-7"), netns=node.netns)
    finally:
        ip("addr", "del", "10.4.0.200/32", "dev", "lo", netns=node.netns)


def test_collect_removes_what_the_runtime_no_longer_knows(node: Node) -> None:
    kept, stale = node.pod(7)._replace(version="1.1.0"), node.pod(8)
    assert kept.cni("ADD").code == stale.cni("ADD").code == 0
    assert kept.cni("GC").output["code"] == 7
    valid = [{"containerID": "box-7", "ifname": "eth0"}]
    assert kept.cni("GC", **{"cni.dev/valid-attachments": valid}).code == 0
    assert node.cables() == node.ports() == [interface_name("box-7")]
    assert set(node.network.flows) == {"shop/web-7"}


def test_status_says_whether_an_add_could_succeed(node: Node) -> None:
    pod = node.pod(7)._replace(version="1.1.0")
    assert pod.cni("STATUS").code == 0
    node.ovsdb.stop()
    node.ovsdb.connection_changed(False)
    assert pod.cni("STATUS").output["code"] == 50


def test_only_one_server_serves_a_socket_and_a_dead_ones_is_taken_over(node: Node) -> None:
    with pytest.raises(OSError, match="another process serves CNI calls"):
        CniServer(node.socket, node.realiser)
    stale = node.socket.with_name("stale.sock")
    dead = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    subprocess.run((sys.executable, "-c", dead, str(stale)), check=True, timeout=20)
    with CniServer(stale, node.realiser):
        assert stale.stat().st_mode & 0o777 == 0o600
    assert not stale.exists()


def test_a_caller_that_is_not_root_is_refused(node: Node) -> None:
    os.chmod(node.socket, 0o666)
    os.chmod(node.socket.parent, 0o711)
    program = (
        "import os, socket\n"
        "s = socket.socket(socket.AF_UNIX); os.setgid(65534); os.setuid(65534); s.connect('cni.sock')\n"
        "try: s.sendall(b'{}\\n'); print(s.recv(100))\n"
        "except (ConnectionResetError, BrokenPipeError): print(b'')"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), cwd=node.socket.parent, capture_output=True, text=True, timeout=20
    )
    assert done.stdout.strip() == "b''", done.stderr


def test_a_caller_that_says_nothing_holds_nobody_up(node: Node) -> None:
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as hasty:
        silent.connect(str(node.socket))
        hasty.connect(str(node.socket))
        hasty.sendall(b"no call\n")
        assert json.loads(hasty.makefile().read().partition("\n")[2])["code"] == 6
        assert node.pod(7).cni("ADD").code == 0


def test_a_path_longer_than_a_socket_address_works(node: Node) -> None:
    directory = node.socket.parent / ("d" * 100)
    directory.mkdir()
    path = directory / "cni.sock"
    with CniServer(path, node.realiser):
        assert node.pod(7).cni("ADD", socket=str(path)).code == 0


def test_answers_of_a_hurried_runtime_are_not_mixed_up(node: Node) -> None:
    pod = node.pod(7)
    assert pod.cni("ADD").code == 0
    barrier = threading.Barrier(6)

    def call(command: str) -> int:
        barrier.wait(10)
        return pod.cni(command).code

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(call, ["DEL", "ADD", "DEL", "ADD", "DEL", "ADD"]))
    pod.cni("DEL")
    assert nothing_is_left(node)

"""The manager against an API server."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time

from labs.api.testing import EmbeddedApi
from ncp.kube.client import Kube
from ncp.kube.resources import EVENTS, LEASES, NAMESPACES, PODS
from ncp.manager.service import lease_name
from tests.manager.conftest import INI, Client, eventually


def test_namespaces_and_pods_get_their_decisions_and_give_them_back(client: Client):
    with client.manager() as service:
        client.namespace("a")
        client.pod("a", "p")
        assert client.addresses("a", "p")[0].startswith("10.4.")
        segments = json.loads(client.has("ncp/segments", "a"))
        assert json.loads(client.annotations("a", "p")["ncp/port"])["vni"] == segments[0]["vni"]
        assert client.annotations("a", "p")["ncp/cluster"] == "k8scluster"
        assert service.stats().pods == 1
        assert [check() for check in (*service.live().values(), *service.ready().values())] == [None] * 3
        client.delete_pod("a", "p")
        assert set(json.loads(client.has("ncp/resting", "a"))) == {f"10.4.{_third(segments)}.2", _v6(segments)}
        client.kube.delete(NAMESPACES, "a")
        eventually(lambda: "a" not in {u.namespace for u in service.stats().namespaces}, "namespace a is forgotten")
        client.namespace("b")
        assert json.loads(client.has("ncp/segments", "b")) == segments


def _third(segments) -> int:
    return int(segments[0]["gateways"][0].split(".")[2])


def _v6(segments) -> str:
    return segments[0]["gateways"][1].replace("::1/64", "::2")


def test_many_pods_at_once_all_get_their_own_address(client: Client):
    with client.manager():
        for n in range(10):
            client.namespace(f"n{n}")
        for n in range(200):
            client.pod(f"n{n % 10}", f"p{n}")
        ports = eventually(lambda: (found := client.ports()) and len(found) == 200 and found, "200 ports", 20)
        addresses = [address for port in ports.values() for address in port["addresses"]]
        assert len(set(addresses)) == len(addresses) == 400


def test_an_exhausted_block_is_told_and_recovers(client: Client):
    # Four namespaces are there from the start; the block has eight subnets.
    ini = INI.replace("10.4.0.0/16, fd00:10:4::/48", "10.4.0.0/27").replace(
        "[nsx_v3]", "[nsx_v3]\nsubnet_prefix = 30\nip_reallocation_time = 0"
    )
    with client.manager(ini):
        for n in range(4):
            client.namespace(f"full{n}")
            client.has("ncp/segments", f"full{n}")
        client.namespace("a")
        client.pod("a", "p")
        for where in (("a",), ("a", "p")):
            assert client.has("ncp/error.network", *where).startswith("IP_BLOCK_EXHAUSTED: ")
        events = eventually(lambda: client.kube.list(EVENTS, "a")[0], "an event")
        assert (events[0]["reason"], events[0]["type"]) == ("IP_BLOCK_EXHAUSTED", "Warning")
        assert events[0]["involvedObject"]["name"] == "p"
        client.kube.delete(NAMESPACES, "full2")
        client.addresses("a", "p")
        client.lacks("ncp/error.network", "a", "p")
        client.lacks("ncp/error.network", "a")


def test_a_decision_edited_by_hand_comes_back(client: Client):
    with client.manager():
        client.namespace("a")
        client.pod("a", "p")
        before = client.has("ncp/port", "a", "p")
        for text in ("garbage", None):
            client.kube.patch(PODS, "p", "a", body={"metadata": {"annotations": {"ncp/port": text}}})
            eventually(lambda: client.annotations("a", "p").get("ncp/port") == before, "the decision is restored")


def test_a_pod_made_again_under_its_name_is_another_pod(client: Client):
    with client.manager():
        client.namespace("a")
        client.pod("a", "p")
        seen = [client.addresses("a", "p")[0]]
        for _ in range(10):
            client.delete_pod("a", "p")
            client.pod("a", "p")
            seen.append(client.addresses("a", "p")[0])
        assert len(set(seen)) == 11
        resting = eventually(lambda: len(found := _resting(client, "a")) >= 20 and found, "ten rests of both families")
        assert seen[-1].partition("/")[0] not in resting


def _resting(client: Client, name: str) -> dict[str, float]:
    return json.loads(client.annotations(name).get("ncp/resting", "{}"))


def test_an_api_server_that_goes_and_comes_back_loses_nothing(api: EmbeddedApi, client: Client):
    with client.manager() as service:
        client.namespace("a")
        client.pod("a", "p")
        before = client.addresses("a", "p")
        api.kill()
        api.start()
        client.pod("a", "q")
        assert client.addresses("a", "q") != before
        assert client.addresses("a", "p") == before
        eventually(service.election.leading, "leading again")


def test_objects_of_another_cluster_are_left_alone(client: Client):
    client.namespace("theirs", ncp__cluster="other")
    client.namespace("ours")
    client.pod("theirs", "p")
    client.pod("ours", "q", ncp__cluster="other")
    with client.manager():
        client.namespace("last")
        client.has("ncp/segments", "last")
        client.has("ncp/segments", "ours")
        assert client.annotations("theirs") == {"ncp/cluster": "other"}
        assert client.annotations("theirs", "p") == {}
        assert client.annotations("ours", "q") == {"ncp/cluster": "other"}


def test_the_standby_decides_nothing_and_takes_over_when_the_leader_resigns(client: Client):
    with client.manager(identity="one") as first:
        eventually(first.election.leading, "one leads")
        with client.manager(identity="two") as second:
            client.namespace("a")
            client.has("ncp/segments", "a")
            assert second.stats().namespaces == ()
            first.election.stop()
            eventually(second.election.leading, "two leads", 4)
            assert not first.election.leading()
            client.namespace("b")
            client.has("ncp/segments", "b")


def test_a_leader_whose_lease_is_taken_steps_down(client: Client):
    with client.manager(identity="one") as service:
        eventually(service.election.leading, "one leads")
        taken = {"spec": {"holderIdentity": "somebody", "acquireTime": "2026-01-01T00:00:00.000000Z"}}
        client.kube.patch(LEASES, lease_name("k8scluster"), "kube-system", body=taken)
        eventually(lambda: not service.election.leading(), "one does not lead any more", 3)
        client.namespace("late")
        eventually(service.election.leading, "one leads again when somebody's lease ended", 8)
        client.has("ncp/segments", "late")


def test_a_leader_that_cannot_renew_steps_down_before_its_lease_ends(api: EmbeddedApi, client: Client):
    with client.manager(identity="one") as service:
        eventually(service.election.leading, "one leads")
        api.stop()
        began = time.monotonic()
        eventually(lambda: not service.election.leading(), "one stepped down", 3)
        assert time.monotonic() - began < 2.5  # update_timeout is 2
        api.start()
        eventually(service.election.leading, "one leads again", 5)


class Process:
    """``ncp manager`` as a process that can be killed."""

    def __init__(self, kubeconfig: str, config: str):
        self.command = [sys.executable, "-m", "ncp", "manager", "--config", config, "--kubeconfig", kubeconfig]
        self.command += ["--identity", "one"]
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.running = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.wait()
            self.running = None


def test_pods_churned_while_the_process_is_killed_leave_no_leak_and_no_duplicate(client: Client, tmp_path):
    """The small sibling of the churn test on the books: real processes, real writes cut off by SIGKILL."""
    (tmp_path / "ncp.ini").write_text(INI.replace("[nsx_v3]", "[nsx_v3]\nip_reallocation_time = 1"))
    manager = Process(client.kubeconfig, str(tmp_path / "ncp.ini"))
    chance = random.Random(5)
    live: set[tuple[str, str]] = set()
    for name in "ab":
        client.namespace(name)
    try:
        manager.start()
        client.has("ncp/segments", "a")
        for n in range(120):
            if n % 30 == 29:
                manager.kill()
                manager.start()
            client.pod(key0 := chance.choice("ab"), f"p{n}")
            live.add((key0, f"p{n}"))
            if len(live) > 20:
                gone = chance.choice(sorted(live))
                client.delete_pod(*gone)
                live.remove(gone)
        ports = eventually(
            lambda: (p := client.ports()) and p.keys() == {f"{a}/{b}" for a, b in live} and p, "every port", 20
        )
        addresses = [address for port in ports.values() for address in port["addresses"]]
        assert len(addresses) == len(set(addresses)) == 2 * len(live)
        for key in live:
            client.delete_pod(*key)
        for name in "ab":
            client.lacks("ncp/resting", name)
    finally:
        manager.kill()
    with client.manager() as service:  # what is left is what a new manager finds: nothing
        usage = eventually(lambda: service.stats().namespaces, "books")
        assert all(each.held == each.resting == 0 for each in usage)


def test_the_process_ends_when_it_is_told_to_and_hands_the_lease_back(client: Client, tmp_path):
    (tmp_path / "ncp.ini").write_text(INI)
    manager = Process(client.kubeconfig, str(tmp_path / "ncp.ini"))
    try:
        manager.start()
        client.has("ncp/segments", "default")
        spec = client.kube.get(LEASES, lease_name("k8scluster"), "kube-system")["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("one", 3)
        manager.running.send_signal(signal.SIGTERM)
        assert manager.running.wait(10) == 0
    finally:
        manager.kill()
    assert client.kube.get(LEASES, lease_name("k8scluster"), "kube-system")["spec"]["holderIdentity"] == ""


def test_wrong_settings_end_the_process_with_code_2_and_a_sentence(tmp_path):
    (tmp_path / "ncp.ini").write_text("[nsx_v3]\ncontainer_ip_blocks = 10.4.0.0/16, 10.4.8.0/24\n")
    command = [sys.executable, "-m", "ncp", "manager", "--config", str(tmp_path / "ncp.ini"), "--kubeconfig", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "10.4.0.0/16" in done.stderr
    assert "10.4.8.0/24" in done.stderr


def test_a_pod_is_decided_within_milliseconds(client: Client):
    with client.manager():
        client.namespace("a")
        client.has("ncp/segments", "a")
        took = []
        stream = Kube.connect(client.kubeconfig)
        for n in range(20):
            pod = client.pod("a", f"p{n}")
            began = time.monotonic()
            events = stream.watch(PODS, pod["metadata"]["resourceVersion"], "a")
            for _, obj in events:
                if "ncp/port" in (obj["metadata"].get("annotations") or {}):
                    break
            took.append(time.monotonic() - began)
            events.close()
        stream.close()
        assert sorted(took)[10] < 0.1, "the median of twenty"
        assert threading.active_count() < 40

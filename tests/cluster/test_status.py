from __future__ import annotations

from typing import Any

import pytest

from labs.cluster.pods import seconds
from labs.kubelet.config import ConfigError, parse
from labs.kubelet.sandbox import Sandbox
from labs.kubelet.status import Ending, Health, differs, ended, ending, leaves_at, patch, pending, running

Json = dict[str, Any]
NOW = "2030-01-01T00:00:00Z"
LATER = "2030-01-01T00:01:00Z"
SANDBOX = Sandbox("u1", "n", "p", "node1", "f" * 64, "ns", plugged=True, addresses=("10.4.0.2", "fd00::2"), started=NOW)
HOST = ("192.168.50.11",)


def pod(**spec: Any) -> Json:
    containers = [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]
    return {"metadata": {"name": "p", "uid": "u1"}, "spec": {"containers": containers, **spec}, "status": {}}


def ready(status: Json) -> Json:
    return next(each for each in status["conditions"] if each["type"] == "Ready")


def test_ready_only_when_every_container_is() -> None:
    status = running(pod(), SANDBOX, HOST, {"b": Health(True, False)}, NOW)
    assert ready(status)["status"] == "False"
    assert ready(status)["message"] == "containers with unready status: [b]"
    assert [each["ready"] for each in status["containerStatuses"]] == [True, False]
    assert ready(running(pod(), SANDBOX, HOST, {}, NOW))["status"] == "True"


@pytest.mark.parametrize(
    ("hooks", "grace", "after"),
    [
        ((), 30, 0),
        (({"sleep": {"seconds": 5}}, None), 30, 5),
        (({"exec": {"command": ["sleep", "7"]}}, {"exec": {"command": ["sh", "-c", "sleep 3"]}}), 30, 7),
        (({"exec": {"command": ["sleep", "infinity"]}},), 30, 30),
        (({"exec": {"command": ["/bin/drain"]}},), 30, 0),
        (({"httpGet": {"path": "/drain", "port": 80}},), 30, 0),
        (({"sleep": {"seconds": 5}},), 0, 0),
    ],
)
def test_a_pod_that_is_to_go_serves_while_its_hooks_sleep(hooks: Any, grace: int, after: int) -> None:
    asked = {"deletionTimestamp": f"2030-01-01T00:00:{grace:02}Z", "deletionGracePeriodSeconds": grace}
    containers = [
        {"name": str(at), **({"lifecycle": {"preStop": hook}} if hook else {})} for at, hook in enumerate(hooks)
    ]
    assert leaves_at({"metadata": asked, "spec": {"containers": containers}}) == seconds(NOW) + after


def test_a_readiness_gate_holds_the_pod_back_until_somebody_opens_it() -> None:
    gated = pod(readinessGates=[{"conditionType": "example/lb"}])
    status = running(gated, SANDBOX, HOST, {}, NOW)
    assert (ready(status)["status"], ready(status)["reason"]) == ("False", "ReadinessGatesNotReady")
    gated["status"]["conditions"] = [{"type": "example/lb", "status": "True"}]
    opened = running(gated, SANDBOX, HOST, {}, NOW)
    assert ready(opened)["status"] == "True"
    assert all(each["type"] != "example/lb" for each in opened["conditions"]), "it is not the kubelet's to write"


def test_what_is_written_already_is_not_written_again() -> None:
    held = pod()
    held["status"] = running(held, SANDBOX, HOST, {}, NOW)
    assert not differs(held, running(held, SANDBOX, HOST, {}, LATER))
    changed = running(held, SANDBOX, HOST, {"a": Health(True, False)}, LATER)
    assert differs(held, changed)
    moved = {each["type"]: each["lastTransitionTime"] for each in changed["conditions"]}
    assert moved["Ready"] == LATER
    assert moved["Initialized"] == NOW


def test_a_patch_deletes_what_no_longer_holds() -> None:
    held = pod()
    held["status"] = running(held, SANDBOX, HOST, {"a": Health(True, False)}, NOW)
    moved = Sandbox("u1", "n", "p", "node1", "e" * 64, "ns", plugged=True, addresses=("10.4.0.9",), started=LATER)
    body = patch(held, running(held, moved, HOST, {}, LATER))["status"]
    assert {"$patch": "delete", "ip": "fd00::2"} in body["podIPs"]
    assert ready(body)["reason"] is None, "a merge would keep the reason of the time before"


def test_a_pod_that_waits_for_its_sandbox() -> None:
    status = pending(pod(), HOST, "no address", NOW)
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"] == {
        "reason": "ContainerCreating",
        "message": "no address",
    }
    assert {each["type"]: each["status"] for each in status["conditions"]}["PodScheduled"] == "True"


def test_a_pod_that_has_ended() -> None:
    status = ended(pod(), SANDBOX, HOST, 2, LATER)
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][1]["state"]["terminated"]["exitCode"] == 2
    assert ready(status)["reason"] == "PodFailed"
    assert ready(ended(pod(), SANDBOX, HOST, 0, LATER))["reason"] == "PodCompleted"


@pytest.mark.parametrize(
    ("container", "policy", "expected"),
    [
        ({}, "Always", None),
        ({"ports": [{"containerPort": 80}]}, "Never", None),
        ({"command": ["perl", "-e", "1"]}, "Never", Ending(0, 0)),
        ({"command": ["sleep", "90"]}, "Never", Ending(90, 0)),
        ({"command": ["sh", "-c"], "args": ["sleep 2m"]}, "OnFailure", Ending(120, 0)),
        ({"command": ["/bin/sleep", "infinity"]}, "Never", Ending(float("inf"), 0)),
        ({"command": ["sleep", "infinity"]}, "Never", Ending(float("inf"), 0)),
        ({"command": ["false"]}, "Never", Ending(0, 1)),
        ({"command": ["/bin/sh", "-c", "exit 7"]}, "Never", Ending(0, 7)),
    ],
)
def test_how_pods_end(container: Json, policy: str, expected: Ending | None) -> None:
    held = {"spec": {"restartPolicy": policy, "containers": [{"name": "a", **container}]}}
    assert ending(held) == expected


CONFIG: Json = {
    "nodes": [{"name": "n1", "addresses": ["192.168.50.11", "fd50::11"]}],
    "cni_command": ["/opt/cni/bin/ncp-cni"],
    "cni_config": {},
    "pod_netns_prefix": "x-p-",
    "pod_logs": "/tmp/logs",
    "state": "/tmp/state",
}


def test_a_configuration_is_read() -> None:
    config = parse(CONFIG)
    assert config.max_parallel == 8
    assert config.nodes["n1"].addresses == ("192.168.50.11", "fd50::11")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nodes": []}, "nodes is empty"),
        ({"nodes": [{"name": "n1", "addresses": ["here"]}]}, r"nodes\[0\]: addresses is \['here'\]"),
        ({"nodes": [{"addresses": []}]}, r"nodes\[0\]: name is missing; a str is needed"),
        ({"nodes": [{"name": "n1", "addresses": [], "colour": "red"}]}, "unknown field 'colour'; known are addresses"),
        ({"nodes": CONFIG["nodes"] * 2}, "one name twice"),
        ({"cni_command": "ncp-cni"}, "cni_command is 'ncp-cni'; a list is needed"),
        ({"cni_command": []}, "cni_command is empty"),
        ({"max_parallel": 0}, "max_parallel is 0"),
        ({"speed": 1}, "unknown field 'speed'"),
    ],
)
def test_a_wrong_configuration_is_named(change: Json, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(CONFIG | change)

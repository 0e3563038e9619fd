"""A pod is added: from the API write to its first reply on the wire, in a running three-node lab."""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import struct
import subprocess
import time

from benchmarks.figures import Figure
from benchmarks.lab import BenchLab, lab
from labs.kubelet.netns import run_in
from ncp.kube.client import Kube
from ncp.kube.errors import NotFound
from ncp.kube.resources import NAMESPACES, PODS

PODS_ADDED = 15
CROWD = 200
PATIENCE = 10.0  # seconds until a pod that does not answer fails the benchmark
ICMP, ECHO_REQUEST, ECHO_REPLY = socket.IPPROTO_ICMP, 8, 0


def run() -> list[Figure]:
    """Medians in an empty lab and among 200 pods, and how long those take to come and to go."""
    with lab() as bench:
        kube = Kube.connect(str(bench.state / "kubeconfig"))
        kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}})
        alone = [_one(bench, kube, number) for number in range(PODS_ADDED)]
        came, gone = crowd(kube, lambda: alone.extend(_one(bench, kube, 100 + number) for number in range(PODS_ADDED)))
    empty, crowded = alone[:PODS_ADDED], alone[PODS_ADDED:]
    return [
        Figure(
            "pod written to the API -> first reply on the wire, median",
            statistics.median(empty) * 1e3,
            "ms",
            "under 40",
        ),
        Figure(f"the same among {CROWD} pods, median", statistics.median(crowded) * 1e3, "ms", "flat"),
        Figure("the slowest of them", max(alone) * 1e3, "ms"),
        Figure(f"{CROWD} pods over 10 namespaces: written -> all ready", came, "s", "under 30"),
        Figure("the same deleted -> no trace", gone, "s", "under 30"),
    ]


def _pod(name: str, namespace: str, node: str = "") -> dict:
    container = {"name": "main", "image": "bench", "ports": [{"containerPort": 8080}]}
    spec = {"containers": [container], **({"nodeName": node} if node else {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _one(bench: BenchLab, kube: Kube, number: int) -> float:
    """Seconds until the pod answers an echo request of its node, which asks every millisecond, as nothing else would."""
    name = f"one-{number}"
    with run_in(_netns(bench, "node1"), lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, ICMP)) as echo:
        started = time.perf_counter()
        created = kube.create(PODS, _pod(name, "bench", "node1"), "bench")
        _await_reply(echo, _address(kube, created), number + 1)
        taken = time.perf_counter() - started
    kube.delete(PODS, name, "bench")
    while _exists(kube, name, "bench"):
        time.sleep(0.01)
    return taken


def _address(kube: Kube, pod: dict) -> str:
    """The pod's address, as soon as the manager has decided it."""
    metadata = pod["metadata"]
    only = f"metadata.name={metadata['name']}"
    for _, seen in kube.watch(PODS, metadata["resourceVersion"], metadata["namespace"], field_selector=only):
        decided = seen["metadata"].get("annotations", {}).get("ncp/port")
        if decided:
            return str(json.loads(decided)["addresses"][0].split("/")[0])
    raise RuntimeError(f"the watch ended before pod {metadata['name']} had an address")


def _await_reply(echo: socket.socket, address: str, identifier: int) -> None:
    """Ask every millisecond; replies of other kinds, and to others, do not count."""
    header = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, identifier, 1)
    request = header[:2] + struct.pack("!H", 0xFFFF - sum(struct.unpack("!4H", header)) % 0xFFFF) + header[4:]
    deadline = time.perf_counter() + PATIENCE
    echo.settimeout(0.001)
    while time.perf_counter() < deadline:
        with contextlib.suppress(TimeoutError):
            echo.sendto(request, (address, 0))
            reply, (source, _) = echo.recvfrom(2048)
            body = reply[(reply[0] & 0x0F) * 4 :]
            if source == address and body[0] == ECHO_REPLY and body[4:6] == header[4:6]:
                return
    raise RuntimeError(f"no reply from {address} within {PATIENCE:g} s")


def crowd(kube: Kube, meanwhile) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Seconds that 200 pods take to come and to go; ``meanwhile`` is called while they are there."""
    spaces = [f"crowd-{number}" for number in range(10)]
    started = time.perf_counter()
    for space in spaces:
        kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        for number in range(CROWD // 10):
            kube.create(PODS, _pod(f"p{number}", space), space)
    while not all(_ready(pod) for space in spaces for pod in kube.list(PODS, space)[0]):
        time.sleep(0.1)
    came = time.perf_counter() - started
    meanwhile()
    started = time.perf_counter()
    for space in spaces:
        kube.delete(NAMESPACES, space)
    while any(ns["metadata"]["name"] in spaces for ns in kube.list(NAMESPACES)[0]):
        time.sleep(0.1)
    return came, time.perf_counter() - started


def _ready(pod: dict) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _exists(kube: Kube, name: str, namespace: str) -> bool:
    try:
        kube.get(PODS, name, namespace)
    except NotFound:
        return False
    return True


def _netns(bench: BenchLab, node: str) -> str:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
    lab_id = json.loads((bench.state / "external.json").read_text())["netns"].removesuffix("-ext")
    return next(name for name in listed if name == f"{lab_id}-{node}")

"""Applications as their projects publish them: they come up, they are connected, and their published policies hold."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from ncp.probe.model import EXTERNAL, Probe
from ncp.probe.run import ask, site
from ncp.probe.site import matrix
from ncp.probe.wire import run_in

pytestmark = pytest.mark.lab
MANIFESTS = Path(os.environ.get("NCP_MANIFESTS", Path(__file__).parents[3] / "shared" / "manifests"))
OPEN = "frontend"
"""What Online Boutique's policies leave open to everybody."""


def manifest(application: str, name: str) -> Path:
    path = MANIFESTS / application / name
    if not path.exists():
        pytest.skip(f"{path} is not here; NCP_MANIFESTS says where published manifests are")
    return path


@contextmanager
def running(lab, application: str) -> Iterator[str]:
    """The application in a namespace of its own, all of it available; the namespace's name."""
    path = manifest(application, "app.yaml")
    lab.kubectl("create", "namespace", application)
    try:
        lab.kubectl("apply", "-n", application, "-f", str(path))
        lab.kubectl("wait", "-n", application, "deployments", "--all", "--for=condition=Available", "--timeout=90s")
        yield application
    finally:
        lab.kubectl("delete", "namespace", application, "--timeout=60s")


@pytest.fixture(scope="module")
def boutique(lab):
    with running(lab, "online-boutique") as namespace:
        yield namespace


@pytest.fixture(scope="module")
def guestbook(lab):
    with running(lab, "guestbook") as namespace:
        yield namespace


@pytest.mark.parametrize(("application", "deployments"), [("boutique", 12), ("guestbook", 3)])
def test_a_published_application_comes_up_and_is_connected_three_ways(lab, request, application, deployments):
    namespace = request.getfixturevalue(application)
    found = lab.get("deployments", "-n", namespace)["items"]
    assert len(found) == deployments
    assert all(d["status"]["readyReplicas"] == d["spec"]["replicas"] for d in found)
    seen, names = look(lab, namespace)
    assert len(names) == sum(d["spec"]["replicas"] for d in found)
    assert_in_their_subnets(namespace, seen, names)
    results = ask(seen, matrix(seen, names, (4, 6), ("tcp", "udp", "icmp", "neighbour")), quiet=True)
    assert len(results) >= len(names) * (len(names) - 1) * 2 * 2
    assert [r for r in results if not r.agrees or r.observed.answer != "yes"] == []


def look(lab, namespace):
    seen = site(None, lab.state.root)
    return seen, sorted(name for name in seen.endpoints if name.startswith(f"{namespace}/"))


def assert_in_their_subnets(namespace, seen, names):
    subnets = [
        ip_network(str(gateway.prefix))
        for switch in seen.translation.intent.switches.values()
        if switch.origin.name == namespace
        for gateway in switch.gateways
    ]
    for name in names:
        for address in seen.endpoints[name].addresses:
            assert any(ip_address(str(address)) in subnet for subnet in subnets)


class Call(NamedTuple):
    """What an application is told to call: a service and its port, and the pods and their port behind it."""

    caller: str
    service: str
    port: int
    callee: str
    target: int


def calls() -> set[Call]:
    """Who calls whom, as the applications themselves are told: by their environment, through their services."""
    objects = list(yaml.safe_load_all(manifest("online-boutique", "app.yaml").read_text()))
    services = {
        (each["metadata"]["name"], port["port"]): (
            each["spec"]["selector"]["app"],
            port.get("targetPort", port["port"]),
        )
        for each in objects
        if each["kind"] == "Service"
        for port in each["spec"]["ports"]
    }
    found = set()
    for each in objects:
        if each["kind"] == "Deployment":
            for container in each["spec"]["template"]["spec"]["containers"]:
                for variable in container.get("env", []):
                    name, _, port = str(variable.get("value", "")).partition(":")
                    if variable["name"].endswith("_ADDR") and (name, int(port)) in services:
                        found.add(Call(each["metadata"]["name"], name, int(port), *services[name, int(port)]))
    return found


def answer(end, address, port):
    """Who answers a pod on an address; nothing where nobody does."""

    def ask_there():
        try:
            with socket.create_connection((address, port), 2) as sock:
                sock.sendall(b"who\n")
                return sock.recv(100).decode().strip()
        except OSError:
            return ""

    return run_in(end.netns, ask_there)


def test_published_policies_leave_an_application_its_dependencies_and_nothing_else(lab, boutique, guestbook):
    wanted = {(call.caller, call.callee, call.target) for call in calls()}
    assert {("frontend", "cartservice", 7070), ("cartservice", "redis-cart", 6379)} < wanted
    policies = manifest("online-boutique", "network-policies.yaml")
    lab.kubectl("apply", "-n", boutique, "-f", str(policies))
    try:
        assert len(lab.get("networkpolicies", "-n", boutique)["items"]) == 13
        lab.wait(lambda: all_realised(lab, boutique), "every policy is realised", 10)
        seen, names = look(lab, boutique)
        strangers = [name for name in sorted(seen.endpoints) if name.startswith(f"{guestbook}/")][:2]
        app_of = {name: name.partition("/")[2].rsplit("-", 2)[0] for name in names}
        served = {(name, port) for (name, protocol, port) in seen.listening if protocol == "tcp" and name in app_of}
        probes = [
            Probe(source, destination, family, "tcp", port)
            for source in (*names, *strangers)
            for destination, port in sorted(served)
            if source != destination
            for family in (4, 6)
        ]
        results = ask(seen, probes, quiet=True)
        assert [r for r in results if not r.agrees] == []
        allowed = {(r.probe.source, r.probe.destination, r.probe.port) for r in results if r.observed.answer == "yes"}
        assert allowed == {
            (p.source, p.destination, p.port)
            for p in probes
            if app_of[p.destination] == OPEN or (app_of.get(p.source), app_of[p.destination], p.port) in wanted
        }
        addresses = {
            each["metadata"]["name"]: each["spec"]["clusterIP"] for each in lab.get("services", "-n", boutique)["items"]
        }
        for call in calls():
            for name in (name for name in names if app_of[name] == call.caller):
                said = answer(seen.endpoints[name], addresses[call.service], call.port)
                assert said.startswith(f"{call.callee}-"), f"{name} calls {call.service}"
        assert answer(seen.endpoints[strangers[0]], addresses["cartservice"], 7070) == ""
        assert answer(seen.endpoints[strangers[0]], addresses["frontend"], 80).startswith("frontend-")
        between = {(app_of[s], app_of[d], port) for s, d, port in allowed if s in app_of}
        assert wanted <= between
        assert all(r.expected.causes for r in results if r.observed.answer == "no")
    finally:
        lab.kubectl("delete", "-n", boutique, "-f", str(policies))


def all_realised(lab, namespace):
    notes = (p["metadata"].get("annotations", {}) for p in lab.get("networkpolicies", "-n", namespace)["items"])
    return all(note.get("ncp/realisation", "").startswith("Realized") for note in notes)


def test_frontends_are_reached_from_outside_and_see_who_asks(lab, boutique, guestbook):
    """Published as a load balancer there, as a node port here."""
    outside = site(None, lab.state.root).endpoints[EXTERNAL]
    (virtual,) = lab.wait(lambda: ingress(lab, boutique, "frontend-external"), "it has a virtual address")
    (port,) = lab.get("service", "frontend", "-n", guestbook)["spec"]["ports"]
    nodes = [each["status"]["addresses"][0]["address"] for each in lab.get("nodes")["items"]]
    for address, number in ((virtual, 80), *((node, port["nodePort"]) for node in nodes)):
        lab.wait(lambda: answer(outside, address, number).startswith("frontend-"), f"{address}:{number} answers")  # noqa: B023
        said = lab.exec_external("curl", "-s", "-m2", f"http://{address}:{number}/clientip").stdout
        assert said.rpartition(":")[0] == str(outside.address(4))


def ingress(lab, namespace, name):
    return [
        each["ip"] for each in lab.get("service", name, "-n", namespace)["status"]["loadBalancer"].get("ingress", ())
    ]

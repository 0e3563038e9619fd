"""Services, policies, and clients of all kinds that ask who answers: pods, nodes and the external host."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import contextmanager
from typing import NamedTuple

from labs.execute import of_external, of_node
from ncp.cli import nodeapi
from ncp.kube.resources import NETWORK_POLICIES, SERVICES
from ncp.probe.wire import run_in
from tests.wire import sctp
from tests.wire.talk import abort

NODES = ("node1", "node2", "node3")
EXTERNAL = "external"
TCP, UDP, SCTP = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET


def at(wire, client):
    """The network namespace of a pod, a node or the external host."""
    if client == EXTERNAL:
        return of_external(wire.lab.state).netns
    return wire.end(client).netns if "/" in client else of_node(wire.lab.state, client).netns


@contextmanager
def service(wire, kube, name, *, members, ports=({"name": "tcp", "port": 80, "targetPort": 8080},), **spec):
    """A service in red before the pods with the label app=``members``; yields its addresses by family."""
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "red"},
        "spec": {
            **({"selector": members} if members else {}),
            "ports": list(ports),
            "ipFamilyPolicy": "RequireDualStack",
            **spec,
        },
    }
    made = kube.create(SERVICES, body)
    addresses = {6 if ":" in each else 4: each for each in made["spec"]["clusterIPs"]}

    def flows(node):
        found = nodeapi.get(wire.lab.state.root / "nodes" / node / "node.sock", "/v1/flows")["flows"]
        mine = (flow for flow in found if (flow["origin"]["kind"], flow["origin"]["name"]) == ("Service", name))
        return [flow for flow in mine if flow["state"] == "ok"]

    def programmed(node):
        led = [
            flow
            for flow in flows(node)
            if flow["table_name"] == "services" and ("pool" in flow["actions"] or not members)
        ]
        return len(led) >= len(ports) * len(addresses)

    try:
        wire.lab.wait(lambda: all(map(programmed, NODES)), f"service {name} is programmed", 10)
        yield addresses
    finally:
        kube.delete(SERVICES, name, "red")
        wire.lab.wait(lambda: not any(map(flows, NODES)), f"nothing is left of service {name}", 10)


def own_address(wire, who, family):
    """The address of a pod, the external host, or a node."""
    if "/" in who or who == EXTERNAL:
        return str(wire.end(who).address(family))
    found = [each["address"] for each in wire.lab.get("node", who)["status"]["addresses"]]
    return next(each for each in found if (":" in each) == (family == 6))


class Balanced(NamedTuple):
    """A service of type LoadBalancer: its addresses by family, and the numbers its ports have on every node."""

    cluster: dict[int, str]
    virtual: dict[int, str]
    node_ports: list[int]


@contextmanager
def balanced(wire, kube, name, **spec):
    """The same as a load balancer, once every node routes its addresses and one answers for each."""
    with service(wire, kube, name, type="LoadBalancer", **spec) as cluster:

        def virtual():
            obj = kube.get(SERVICES, name, "red")
            given = [each["ip"] for each in obj["status"].get("loadBalancer", {}).get("ingress", ())]
            return {6 if ":" in each else 4: each for each in given} if len(given) == len(cluster) else None

        addresses = wire.lab.wait(virtual, f"{name} has virtual addresses")
        for client in (*NODES, EXTERNAL):
            for address in addresses.values():
                wire.lab.wait(lambda c=client, a=address: heard_of(wire, c, a), f"{client} knows the way to {address}")
        obj = kube.get(SERVICES, name, "red")
        yield Balanced(cluster, addresses, [each["nodePort"] for each in obj["spec"]["ports"]])


def heard_of(wire, client, address):
    """Whether a client has a way to a virtual address: a node by its own route, others by who answers for it."""
    if client == EXTERNAL:
        return answers_for(wire, address) is not None
    found = wire.lab.exec_node(client, "ip", "route", "get", address).stdout
    flows = [flow for flow in wire.flows(client) if flow["table_name"] == "services" and address in flow["match"]]
    return "ncp-node0" in found and len(flows) > 1 and all(flow["state"] == "ok" for flow in flows)


def answers_for(wire, address):
    """The node that answers for an address on the external host's network; None: nobody does."""
    links = {link(wire, node): node for node in NODES}
    wire.lab.exec_external("ip", "neigh", "flush", "to", address)

    def send():
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (address, 9))

    run_in(at(wire, EXTERNAL), send)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        said = wire.lab.exec_external("ip", "neigh", "show", "to", address).stdout.split()
        if "lladdr" in said:
            return links.get(said[said.index("lladdr") + 1])
        time.sleep(0.01)
    return None


def link(wire, node):
    """The MAC address of a node on the underlay."""
    return wire.lab.exec_node(node, "cat", "/sys/class/net/br-ul/address").stdout.strip()


def says(wire, client, address, port=80, protocol=TCP, line=b"who"):
    """What a client is answered to a line (who it is that answers); ``refused``, ``silence`` or ``unreachable`` where nobody does."""

    def ask():
        if protocol == SCTP:
            return sctp.ask(address, port, line)
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, protocol) as sock:
            sock.settimeout(2)
            try:
                sock.connect((address, port))
                sock.send(line + b"\n")
                return sock.recv(100).decode().strip()
            except TimeoutError:
                abort(sock)
                return "silence"
            except ConnectionRefusedError:
                return "refused"
            except OSError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                return "unreachable"  # nobody on the network has the address

    return run_in(at(wire, client), ask)


def seen(wire, client, address, port=80, protocol=TCP):
    """The client's address as whoever answers it sees it."""
    return says(wire, client, address, port, protocol, b"/clientip").rpartition(":")[0].strip("[]")


@contextmanager
def policy(wire, kube, name, spec):
    """A NetworkPolicy in red that every node enforces."""
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "red"},
    }
    kube.create(NETWORK_POLICIES, {**body, "spec": spec})

    def realised():
        said = kube.get(NETWORK_POLICIES, name, "red")["metadata"].get("annotations") or {}
        return said.get("ncp/realisation", "").startswith("Realized")

    try:
        wire.lab.wait(realised, f"{name} is realised")
        yield
    finally:
        kube.delete(NETWORK_POLICIES, name, "red")

"""One Kubernetes object to the part of the intent it stands for, or a :class:`Problem`. Decisions are annotations.

Shapes of the annotations are in ``docs/annotations.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from firewall.labels import Labels, labels_of
from firewall.rules import PROTOCOLS, Identity, NamedPort
from ipam.address import Address, Interface, parse_address, parse_interface
from sdn.model import MAX_DOMAIN, Binding, LogicalPort, LogicalSwitch, Origin, Problem, TransportNode

Object = Mapping[str, Any]

CLUSTER: Final = "ncp/cluster"
SEGMENTS: Final = "ncp/segments"
PORT: Final = "ncp/port"
SNAT_IP: Final = "ncp/snat_ip"
"""On a Namespace and on a Service: whom their pods are outside."""
TEP: Final = "ncp/tep"
REALISED: Final = "ncp/realised."
"""With a node's name at its end: the generation of a policy that the node enforces."""
REALISATION: Final = "ncp/realisation"
"""Whether every node that must enforces a policy."""

ZONE: Final = "topology.kubernetes.io/zone"
EDGE: Final = "ncp/edge"
"""The label of nodes that may be tier-0's way out: ``"true"``."""

TERMINAL: Final = frozenset({"Succeeded", "Failed"})


def origin_of(kind: str, obj: Object) -> Origin:
    """The origin a Kubernetes object is."""
    meta = obj["metadata"]
    return Origin(kind, meta.get("namespace", ""), meta["name"], meta.get("uid", ""))


def annotation(obj: Object, name: str) -> str | None:
    """An annotation's text, if it is there."""
    found = (obj["metadata"].get("annotations") or {}).get(name)
    return found if isinstance(found, str) else None


def owned(obj: Object, cluster: str) -> bool:
    """Whether the decisions on an object are this cluster's."""
    return annotation(obj, CLUSTER) in (None, cluster)


def segments(namespace: Object) -> tuple[tuple[LogicalSwitch, ...], tuple[Problem, ...]]:
    """A namespace's logical switches, as the manager decided."""
    origin = origin_of("Namespace", namespace)
    text = annotation(namespace, SEGMENTS)
    if text is None:
        return (), ()
    outside, problems = translated(namespace, origin)
    try:
        found = tuple(
            LogicalSwitch(
                name=f"{origin.name}/{index}",
                vni=_whole(each["vni"], 1, 2**24 - 1),
                router=_whole(each["router"], 1, 2**24 - 1),
                gateways=tuple(parse_interface(gateway) for gateway in each["gateways"]),
                origin=origin,
                snat=bool(each.get("snat", True)),
                translated=outside,
                domain=_whole(each.get("domain", 0), 0, MAX_DOMAIN),
            )
            for index, each in enumerate(_list(text))
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return (), (_malformed(origin, SEGMENTS, error), *problems)
    return found, problems


def translated(obj: Object, origin: Origin) -> tuple[tuple[Address, ...], tuple[Problem, ...]]:
    """Whom the pods of a namespace, or the members of a service, are outside: at most one address a family."""
    text = annotation(obj, SNAT_IP)
    if text is None:
        return (), ()
    try:
        found = tuple(parse_address(each.strip()) for each in text.split(","))
        if len({each.family for each in found}) != len(found):
            raise ValueError(f"{text!r} has two addresses of one family")
    except ValueError as error:
        return (), (_malformed(origin, SNAT_IP, error),)
    return found, ()


def binding(obj: Object) -> tuple[Binding | None, tuple[Problem, ...]]:
    """An AddressBinding, once the manager has given it addresses."""
    origin = origin_of("AddressBinding", obj)
    pod, shown = (obj.get("spec") or {}).get("podName"), (obj.get("status") or {}).get("ipAddresses")
    if not pod or not shown:
        return None, ()
    try:
        external = tuple(parse_address(each) for each in shown)
        if len({each.family for each in external}) != len(external):
            raise ValueError("it has two addresses of one family")
    except (ValueError, TypeError, AttributeError) as error:
        text = f"status.ipAddresses of {origin} cannot be read ({error}); the manager writes it anew"
        return None, (Problem(origin, "MALFORMED_STATUS", text),)
    return Binding(f"{origin.namespace}/{origin.name}", origin, f"{origin.namespace}/{pod}", external), ()


def port(pod: Object) -> tuple[LogicalPort | None, tuple[Problem, ...]]:
    """A pod's logical port, if it should have one and the manager has decided it."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    text = annotation(pod, PORT)
    if spec.get("hostNetwork") or status.get("phase") in TERMINAL or text is None:
        return None, ()
    origin = origin_of("Pod", pod)
    try:
        decided = orjson.loads(text)
        found = LogicalPort(
            name=f"{origin.namespace}/{origin.name}",
            vni=_whole(decided["vni"], 1, 2**24 - 1),
            mac=parse_mac(decided["mac"]),
            addresses=tuple(parse_interface(each).address for each in decided["addresses"]),
            node=spec.get("nodeName") or "",
            origin=origin,
            identity=identity(pod),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, (_malformed(origin, PORT, error),)
    return found, ()


def identity(pod: Object) -> Identity:
    """What policies may ask about a pod: its namespace, labels and named ports."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    containers = list(spec.get("containers") or ())
    containers += [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    named: dict[tuple[str, str], int] = {}
    for container in containers:
        for each in container.get("ports") or ():
            if each.get("name"):  # where a name is there twice, its first port counts, as for services
                named.setdefault((each["name"], str(each.get("protocol") or "TCP").lower()), each["containerPort"])
    ports = (
        NamedPort(name, kind, number) for (name, said), number in named.items() for kind in PROTOCOLS if kind == said
    )
    return Identity(meta.get("namespace", ""), labels_of(meta.get("labels")), tuple(sorted(ports)))


def namespace_labels(namespace: Object) -> Labels:
    """A namespace's labels, with the one for its name that every API server since 1.21 adds."""
    meta = namespace["metadata"]
    return labels_of({**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta["name"]})


def port_interfaces(pod: Object) -> tuple[tuple[Interface, ...], tuple[Address, ...]]:
    """Addresses with their prefix lengths, and gateways, for the pod's interface.

    Raises:
        ValueError: the decision is missing or malformed.
    """
    text = annotation(pod, PORT)
    if text is None:
        raise ValueError(f"annotation {PORT} is not there yet")
    try:
        decided = orjson.loads(text)
        return (
            tuple(parse_interface(each) for each in decided["addresses"]),
            tuple(parse_address(each) for each in decided.get("gateways", ())),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"annotation {PORT} is malformed: {error}") from error


def transport_node(node: Object) -> tuple[TransportNode | None, tuple[Problem, ...]]:
    """A node as the overlay sees it: tunnel endpoint and own addresses."""
    origin = origin_of("Node", node)
    try:
        addresses = tuple(
            parse_address(each["address"])
            for each in (node.get("status") or {}).get("addresses") or ()
            if each.get("type") == "InternalIP"
        )
        override = annotation(node, TEP)
        tep = parse_address(override) if override else (addresses[0] if addresses else None)
    except (ValueError, KeyError, TypeError) as error:
        return None, (_malformed(origin, TEP, error),)
    if tep is None:
        text = f"node {origin.name} has no InternalIP in status.addresses and no {TEP} annotation; add one"
        return None, (Problem(origin, "NODE_WITHOUT_ADDRESS", text),)
    zone = (node["metadata"].get("labels") or {}).get(ZONE) or ""
    return TransportNode(origin.name, tep, addresses, node_mac(origin.name), origin, zone, is_edge(node)), ()


def is_edge(node: Object) -> bool:
    """Whether a Node is labelled as an edge."""
    return (node["metadata"].get("labels") or {}).get(EDGE) == "true"


def node_mac(name: str) -> int:
    """MAC address of a node's own port into the overlay: 02:4d and four bytes that follow from its name."""
    return 0x024D << 32 | int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")


def parse_mac(text: str) -> int:
    """``"02:4e:0a:04:00:02"`` → integer.

    Raises:
        ValueError: not six bytes in hexadecimal, or a group address.
    """
    parts = text.split(":")
    if len(parts) != 6 or not all(len(part) == 2 for part in parts):
        raise ValueError(f"{text!r} is not a MAC address (six bytes, aa:bb:cc:dd:ee:ff)")
    value = int("".join(parts), 16)
    if value >> 40 & 1:
        raise ValueError(f"{text!r} is a group address; a port needs a unicast one")
    return value


def format_mac(mac: int) -> str:
    """Integer → ``"02:4e:0a:04:00:02"``."""
    return ":".join(f"{byte:02x}" for byte in mac.to_bytes(6, "big"))


def _whole(value: object, low: int, high: int) -> int:
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{value!r} is not a whole number of {low} to {high}")
    return value


def _list(text: str) -> list[dict[str, Any]]:
    found = orjson.loads(text)
    if not isinstance(found, list):
        raise ValueError("not a list")
    return found


def _malformed(origin: Origin, name: str, error: Exception) -> Problem:
    what = f"annotation {name} of {origin} is malformed ({error}); remove it and it is decided anew"
    return Problem(origin, "MALFORMED_ANNOTATION", what)

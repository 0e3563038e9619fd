"""What a cluster's names stand for, as Kubernetes' DNS specification has it. Pure: objects in, records out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any, Protocol, TypeAlias

from labs.cluster.slicing import SERVICE_LABEL
from ncp.kube.reflector import Key
from ncp.kube.resources import ENDPOINT_SLICES, SERVICES, Resource

Json = dict[str, Any]
Records: TypeAlias = dict[str, list[str]]
"""Values by record type, both as a zone file has them."""

DOMAIN = ("cluster", "local")
SERVICE_DOMAIN = ("svc", *DOMAIN)
NAMESERVER = "127.0.0.10"
"""Where a pod asks: inside its own namespace, so that no route, policy or node comes into it."""


class Objects(Protocol):
    """The services and endpoint slices there are; a :class:`labs.cluster.view.View` is one."""

    def has(self, resource: Resource) -> bool:
        """Whether objects of that kind are known at all: servers before 1.21 have no slices."""

    def get(self, resource: Resource, key: Key) -> Json | None:
        """One object, or None."""

    def within(self, resource: Resource, namespace: str) -> list[Json]:
        """The objects of one namespace."""


def resolv_conf(namespace: str) -> str:
    """The resolver's configuration of a pod in ``namespace``."""
    domains = [".".join(each) for each in ((namespace, *SERVICE_DOMAIN), SERVICE_DOMAIN, DOMAIN)]
    return f"nameserver {NAMESERVER}\nsearch {' '.join(domains)}\noptions ndots:5\n"


def records(labels: Sequence[str], objects: Objects) -> Records | None:
    """What there is about a name, given as its labels in lower case; None when there is no such name."""
    match tuple(labels):
        case ("cluster", "local") | ("svc", "cluster", "local"):
            return {}
        case (space, "svc", "cluster", "local"):
            return {} if objects.within(SERVICES, space) else None
        case (*inner, name, space, "svc", "cluster", "local"):
            service = objects.get(SERVICES, (space, name))
            return _of_service(service, inner, _slices(objects, space, name)) if service is not None else None
    return None


def _of_service(service: Json, inner: list[str], slices: Iterable[Json]) -> Records | None:
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return None if inner else {"CNAME": [spec["externalName"].rstrip(".") + "."]}
    headless = spec.get("clusterIP") == "None"
    match inner:
        case []:
            if headless:
                return _by_family(address for each in slices for address, _ in _ready(each)) or None
            return _by_family(spec.get("clusterIPs") or [spec["clusterIP"]] if spec.get("clusterIP") else [])
        case [host]:
            return _by_family(address for each in slices for address, name in _ready(each) if name == host) or None
        case [port, protocol]:
            if not (port.startswith("_") and port != "_" and protocol.startswith("_")):
                return None
            wanted = (port[1:], protocol[1:])
            target = ".".join((service["metadata"]["name"], service["metadata"]["namespace"], *SERVICE_DOMAIN)) + "."
            if headless:
                hosts = ((f"{name}.{target}", each) for each in slices for _, name in _ready(each))
                found = [f"0 100 {number} {host}" for host, each in hosts for number in _numbers(each, wanted)]
            else:
                found = [f"0 100 {number} {target}" for number in _numbers(spec, wanted)]
            return {"SRV": list(dict.fromkeys(found))} if found else None
    return None


def _slices(objects: Objects, space: str, name: str) -> Iterator[Json]:
    for each in objects.within(ENDPOINT_SLICES, space) if objects.has(ENDPOINT_SLICES) else ():
        if (each["metadata"].get("labels") or {}).get(SERVICE_LABEL) == name:
            yield each


def _ready(endpoint_slice: Json) -> Iterator[tuple[str, str]]:
    """Address and host name of each ready endpoint; one without a name is called by its address, as CoreDNS does."""
    for endpoint in endpoint_slice.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready") is False:
            continue
        address = endpoint["addresses"][0]  # further ones have no meaning (discovery/v1)
        yield address, endpoint.get("hostname") or address.replace(".", "-").replace(":", "-")


def _numbers(holder: Json, wanted: tuple[str, str]) -> list[int]:
    ports = holder.get("ports") or ()
    return [
        each["port"]
        for each in ports
        if each.get("port") and (each.get("name") or "", (each.get("protocol") or "TCP").lower()) == wanted
    ]


def _by_family(addresses: Iterable[str]) -> Records:
    out: Records = {}
    for address in dict.fromkeys(addresses):
        out.setdefault("A" if ip_address(address).version == 4 else "AAAA", []).append(address)
    return out

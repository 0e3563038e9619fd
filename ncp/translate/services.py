"""A Service, and an EndpointSlice (discovery.k8s.io/v1) or Endpoints (core/v1), to what they ask of the network, or a :class:`Problem`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from firewall.rules import PROTOCOLS, Protocol
from ipam.address import Address, Prefix, parse_address, parse_interface
from ncp.translate.objects import Object, origin_of, translated
from sdn.model import LogicalPort, Problem
from sdn.services import Endpoint, Scope, ServicePort, Slice, VirtualServer

SERVICE_LABEL: Final = "kubernetes.io/service-name"
DEFAULT_TIMEOUT: Final = 10800
"""Seconds of session affinity where a Service names none (core/v1 ClientIPConfig)."""
INVALID: Final = "SERVICE_INVALID"


def virtual_server(service: Object) -> tuple[VirtualServer | None, tuple[Problem, ...]]:
    """What a Service asks for; None for those that need nothing of the network (ExternalName; headless ones whose
    members are nobody else outside)."""
    origin = origin_of("Service", service)
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return None, ()
    problems: list[Problem] = []

    def refused(field: str, value: object, allowed: str) -> None:
        text = f"{origin}: {field}: {value!r}; allowed: {allowed}"
        problems.append(Problem(origin, INVALID, text))

    clusters = [each for each in spec.get("clusterIPs") or [spec.get("clusterIP")] if each and each != "None"]
    internal = tuple(found for each in clusters if (found := _address(each, "spec.clusterIPs", refused)))
    sources = _sources(spec, refused)
    external = [
        found for each in spec.get("externalIPs") or () if (found := _address(each, "spec.externalIPs", refused))
    ]
    balancers: list[Address] = []
    if sources or not spec.get("loadBalancerSourceRanges"):  # no range that can be read is not the same as everybody
        field = "status.loadBalancer.ingress"
        balancers = [found for each in _balancers(service) if (found := _address(each, field, refused))]
    outside, malformed = translated(service, origin)
    problems += malformed
    if not internal and not external and not balancers and not outside:
        return None, tuple(problems)
    found = VirtualServer(
        name=f"{origin.namespace}/{origin.name}",
        origin=origin,
        ports=_ports(spec, refused),
        internal=internal,
        external=tuple(dict.fromkeys(external)),
        balancers=tuple(dict.fromkeys(balancers)),
        sources=sources,
        affinity=_affinity(spec),
        local=_local(spec),
        takes_unready=bool(spec.get("publishNotReadyAddresses")),
        translated=outside,
    )
    return found, tuple(problems)


def _address(text: str, field: str, refused: Any) -> Address | None:
    try:
        return parse_address(text)
    except ValueError:
        refused(field, text, "an IPv4 or IPv6 address")
        return None


def _balancers(service: Object) -> list[str]:
    if (service.get("spec") or {}).get("type") != "LoadBalancer":
        return []
    status = (service.get("status") or {}).get("loadBalancer") or {}
    return [each["ip"] for each in status.get("ingress") or () if each.get("ip") and each.get("ipMode") != "Proxy"]


def _ports(spec: Mapping[str, Any], refused: Any) -> tuple[ServicePort, ...]:
    found = []
    for number, each in enumerate(spec.get("ports") or ()):
        protocol = _protocol(each.get("protocol"))
        if protocol is None:
            refused(f"spec.ports[{number}].protocol", each.get("protocol"), "TCP, UDP, SCTP")
            continue
        found.append(ServicePort(each.get("name") or "", protocol, int(each["port"]), int(each.get("nodePort") or 0)))
    return tuple(found)


def _protocol(text: str | None) -> Protocol | None:
    said = (text or "TCP").lower()
    return next((each for each in PROTOCOLS if each == said), None)


def _sources(spec: Mapping[str, Any], refused: Any) -> tuple[Prefix, ...]:
    """Host bits are nothing, as for Kubernetes, which takes such ranges as well."""
    found = set()
    for number, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        try:
            found.add(parse_interface(text).prefix)
        except ValueError:
            refused(f"spec.loadBalancerSourceRanges[{number}]", text, "a network, as 192.0.2.0/24")
    return tuple(sorted(found))


def _affinity(spec: Mapping[str, Any]) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client.get("timeoutSeconds") or DEFAULT_TIMEOUT)


def _local(spec: Mapping[str, Any]) -> frozenset[Scope]:
    policies: tuple[tuple[Scope, str], ...] = (
        ("internal", "internalTrafficPolicy"),
        ("external", "externalTrafficPolicy"),
    )
    return frozenset(scope for scope, name in policies if spec.get(name) == "Local")


def of_pod(namespace: str, name: str) -> str:
    """What the virtual server of a pod's host ports is called; no service is called so."""
    return f"{namespace}/{name}@host"


def host_ports(pod: Object, port: LogicalPort) -> tuple[VirtualServer, Slice] | None:
    """A pod's ports on its node's own addresses: a virtual server, and the pod as its member; None where it has none."""
    ports, numbers = [], []
    for container in (pod.get("spec") or {}).get("containers") or ():
        for each in container.get("ports") or ():
            protocol = _protocol(each.get("protocol"))
            if protocol is None or not each.get("hostPort"):
                continue
            name = f"{protocol}/{each['hostPort']}"
            ports.append(ServicePort(name, protocol, int(each["hostPort"]), only=_only(each.get("hostIP"))))
            numbers.append((name, protocol, int(each["containerPort"])))
    if not ports or not port.node:
        return None
    name = of_pod(*port.name.split("/"))
    origin = port.origin.about("host ports")
    server = VirtualServer(name, origin, tuple(dict.fromkeys(ports)), host=port.node, takes_unready=True)
    ends = tuple(Endpoint(each, port.node) for each in port.addresses)
    return server, Slice(tuple(sorted(set(numbers))), ends)


def _only(text: str | None) -> Address | None:
    try:
        address = parse_address(text or "0.0.0.0")
    except ValueError:
        return None
    return address if address.value else None


def slice_of(obj: Object) -> tuple[str, Slice] | None:
    """The service an EndpointSlice belongs to, as ``namespace/name``, and its endpoints; None where it names none, or holds names
    instead of addresses."""
    meta = obj["metadata"]
    name = (meta.get("labels") or {}).get(SERVICE_LABEL)
    if not name or obj.get("addressType") not in ("IPv4", "IPv6"):
        return None
    endpoints = [found for each in obj.get("endpoints") or () if (found := _endpoint(each)) is not None]
    return f"{meta.get('namespace', '')}/{name}", _slice(obj, endpoints)


def slices_of_endpoints(obj: Object) -> tuple[Slice, ...]:
    """What Endpoints say, a slice for each of their subsets: addresses that are ready, and others that are not. They say nothing of
    who terminates, and have no hints."""
    return tuple(
        _slice(
            subset,
            [
                Endpoint(address, each.get("nodeName") or "", ready, ready)
                for field, ready in (("addresses", True), ("notReadyAddresses", False))
                for each in subset.get(field) or ()
                if (address := _readable(each.get("ip"))) is not None
            ],
        )
        for subset in obj.get("subsets") or ()
    )


def _slice(obj: Mapping[str, Any], endpoints: Iterable[Endpoint]) -> Slice:
    ports = []
    for each in obj.get("ports") or ():
        protocol = _protocol(each.get("protocol"))
        if protocol is not None and each.get("port"):
            ports.append((each.get("name") or "", protocol, int(each["port"])))
    return Slice(tuple(sorted(ports)), tuple(sorted(endpoints, key=_by_address)))


def _readable(text: object) -> Address | None:
    try:
        return parse_address(str(text))
    except ValueError:
        return None


def _by_address(endpoint: Endpoint) -> Address:
    return endpoint.address


def _endpoint(value: Mapping[str, Any]) -> Endpoint | None:
    """All addresses of an endpoint are alike: the first will do (discovery/v1 Endpoint)."""
    conditions, hints = value.get("conditions") or {}, value.get("hints") or {}
    address = _readable(next(iter(value.get("addresses") or ()), None))
    if address is None:
        return None
    ready = conditions.get("ready") is not False
    return Endpoint(
        address,
        value.get("nodeName") or "",
        ready,
        ready if conditions.get("serving") is None else bool(conditions["serving"]),
        bool(conditions.get("terminating")),
        frozenset(each["name"] for each in hints.get("forZones") or ()),
        frozenset(each["name"] for each in hints.get("forNodes") or ()),
    )

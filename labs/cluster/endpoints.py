"""Endpoint slices and Endpoints: which pods are behind a Service (discovery/v1, core/v1). Pure functions.

Only what changed is written: an endpoint stays in the slice it is in, and slices that say what they should are left
alone.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

import orjson

from labs.cluster.pods import Json, is_leaving, is_ready, is_terminal, reference_to
from labs.cluster.selectors import equal_labels
from labs.cluster.writes import Create, Delete, Replace, Write
from ncp.kube.resources import ENDPOINT_SLICES, ENDPOINTS

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS_LABEL = "service.kubernetes.io/headless"
ENDPOINTS_MANAGER = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
SLICE_SIZE = 100
ENDPOINTS_SIZE = 1000
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


class _Member(NamedTuple):
    """A pod behind a service: its address in one family, its ports, and the endpoint as a slice shows it."""

    pod: Json
    ports: tuple[tuple[str, str, int, str], ...]  # (name, protocol, number, application protocol)
    endpoint: Json


def slices(service: Json, pods: Sequence[Json], nodes: Mapping[str, Json], held: Sequence[Json]) -> list[Write]:
    """The writes that make the service's endpoint slices true; ``held`` are those there now, ``pods`` its namespace's."""
    ours = [each for each in held if (each["metadata"].get("labels") or {}).get(MANAGER_LABEL) == MANAGER]
    if is_leaving(service) or not _selects(service):
        return [Delete(ENDPOINT_SLICES, each) for each in ours if not is_leaving(service)]
    chosen = _chosen(service, pods)
    writes: list[Write] = []
    families = _families(service, chosen)
    for family in families:
        by_ports: dict[tuple[Any, ...], list[Json]] = defaultdict(list)
        for member in _members(service, chosen, nodes, family):
            by_ports[member.ports].append(member.endpoint)
        if not by_ports:
            by_ports[()] = []
        mine = [each for each in ours if each.get("addressType") == family]
        for ports, endpoints in by_ports.items():
            same = [each for each in mine if _port_key(each) == _sorted(ports)]
            mine = [each for each in mine if each not in same]
            writes += _pack(service, family, ports, endpoints, same)
        writes += [Delete(ENDPOINT_SLICES, each) for each in mine]
    writes += [Delete(ENDPOINT_SLICES, each) for each in ours if each.get("addressType") not in families]
    return writes


def endpoints(service: Json, pods: Sequence[Json], held: Json | None) -> list[Write]:
    """The writes that make the service's Endpoints object true, in the service's first family."""
    if is_leaving(service) or not _selects(service):
        return []
    chosen = _chosen(service, pods)
    family = _families(service, chosen)[0]
    groups: dict[tuple[Any, ...], dict[str, list[Json]]] = defaultdict(
        lambda: {"addresses": [], "notReadyAddresses": []}
    )
    members = list(_members(service, chosen, {}, family))
    for member in members[:ENDPOINTS_SIZE]:
        entry: Json = {"ip": member.endpoint["addresses"][0], "targetRef": member.endpoint["targetRef"]}
        for name in ("nodeName", "hostname"):
            if name in member.endpoint:
                entry[name] = member.endpoint[name]
        place = "addresses" if member.endpoint["conditions"]["ready"] else "notReadyAddresses"
        groups[member.ports][place].append(entry)
    subsets = []
    for ports, places in sorted(groups.items(), key=lambda item: _sorted(item[0])):
        subset: Json = {name: sorted(each, key=lambda entry: entry["ip"]) for name, each in places.items() if each}
        if ports:
            subset["ports"] = _port_list(ports)
        subsets.append(subset)
    labels = {**(service["metadata"].get("labels") or {}), **ENDPOINTS_MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    metadata: Json = {
        "name": service["metadata"]["name"],
        "namespace": service["metadata"]["namespace"],
        "labels": labels,
    }
    if len(members) > ENDPOINTS_SIZE:
        metadata["annotations"] = {"endpoints.kubernetes.io/over-capacity": "truncated"}
    wanted: Json = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
    if subsets:
        wanted["subsets"] = subsets
    if held is None:
        return [Create(ENDPOINTS, wanted)]
    if (held.get("subsets") or []) == subsets and (held["metadata"].get("labels") or {}) == labels:
        return []
    merged = {**held["metadata"], "labels": labels}
    return [Replace(ENDPOINTS, {**held, "subsets": subsets, "metadata": merged})]


def leftover(held: Json | None) -> list[Write]:
    """The writes after a service is gone: its Endpoints go too, but for those that somebody wrote by hand."""
    if (
        held is None
        or is_leaving(held)
        or not ENDPOINTS_MANAGER.items() <= (held["metadata"].get("labels") or {}).items()
    ):
        return []
    return [Delete(ENDPOINTS, held)]


def _selects(service: Json) -> bool:
    return bool(service["spec"].get("selector")) and service["spec"].get("type") != "ExternalName"


def _chosen(service: Json, pods: Sequence[Json]) -> list[Json]:
    selector = service["spec"]["selector"]
    return [
        pod
        for pod in pods
        if equal_labels(selector, pod["metadata"].get("labels")) and not is_terminal(pod) and _addresses(pod)
    ]


def _addresses(pod: Json) -> list[str]:
    status = pod.get("status", {})
    return [each["ip"] for each in status.get("podIPs") or ([{"ip": status["podIP"]}] if status.get("podIP") else [])]


def _family(address: str) -> str:
    return f"IPv{ip_address(address).version}"


def _families(service: Json, chosen: list[Json]) -> list[str]:
    spec = service["spec"]
    if spec.get("ipFamilies"):
        return list(spec["ipFamilies"])
    given = [each for each in spec.get("clusterIPs") or [spec.get("clusterIP")] if each and each != "None"]
    # A headless service of a server that knows no families follows its pods.
    found = given or [address for pod in chosen for address in _addresses(pod)]
    return list(dict.fromkeys(map(_family, found))) or ["IPv4"]


def _members(service: Json, chosen: list[Json], nodes: Mapping[str, Json], family: str) -> Iterable[_Member]:
    anyway = service["spec"].get("publishNotReadyAddresses", False)
    for pod in chosen:
        address = next((each for each in _addresses(pod) if _family(each) == family), None)
        if address is None:
            continue
        ports = _resolve(service, pod)
        if ports is None:
            continue
        ready, leaving = is_ready(pod), is_leaving(pod)
        metadata, node = pod["metadata"], pod["spec"].get("nodeName", "")
        endpoint: Json = {
            "addresses": [address],
            "conditions": {
                "ready": anyway or (ready and not leaving),
                "serving": ready,
                "terminating": leaving,
            },
            "targetRef": {
                "kind": "Pod",
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        }
        if node:
            endpoint["nodeName"] = node
        zone = (nodes.get(node, {}).get("metadata", {}).get("labels") or {}).get("topology.kubernetes.io/zone")
        if zone:
            endpoint["zone"] = zone
        if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
            endpoint["hostname"] = pod["spec"]["hostname"]
        yield _Member(pod, ports, endpoint)


def _resolve(service: Json, pod: Json) -> tuple[tuple[str, str, int, str], ...] | None:
    """The service's ports as this pod serves them; None when it has none of them (a name no container knows)."""
    wanted = service["spec"].get("ports") or ()
    out = []
    for port in wanted:
        protocol = port.get("protocol") or "TCP"
        target = port.get("targetPort") or port["port"]
        number = target if isinstance(target, int) else _named_port(pod, target, protocol)
        if number is not None:
            out.append((port.get("name") or "", protocol, number, port.get("appProtocol") or ""))
    return tuple(out) if out or not wanted else None


def _named_port(pod: Json, name: str, protocol: str) -> int | None:
    for container in pod["spec"].get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == name and (port.get("protocol") or "TCP") == protocol:
                return int(port["containerPort"])
    return int(name) if name.isdigit() else None


def _port_list(ports: Iterable[tuple[str, str, int, str]]) -> list[Json]:
    out = []
    for name, protocol, number, application in ports:
        port: Json = {"port": number, "protocol": protocol}
        if name:
            port["name"] = name
        if application:
            port["appProtocol"] = application
        out.append(port)
    return out


def _sorted(ports: Iterable[tuple[str, str, int, str]]) -> tuple[tuple[str, str, int, str], ...]:
    return tuple(sorted(ports))


def _port_key(endpoint_slice: Json) -> tuple[tuple[str, str, int, str], ...]:
    return _sorted(
        (each.get("name") or "", each.get("protocol") or "TCP", each.get("port") or 0, each.get("appProtocol") or "")
        for each in endpoint_slice.get("ports") or ()
    )


def _pack(
    service: Json, family: str, ports: tuple[tuple[str, str, int, str], ...], wanted: list[Json], held: list[Json]
) -> list[Write]:
    """Put the ``wanted`` endpoints into the ``held`` slices and new ones, moving none that is in one already."""
    missing = {each["addresses"][0]: each for each in wanted}
    kept: list[tuple[Json, list[Json]]] = []
    for each in sorted(held, key=lambda each: each["metadata"]["name"]):
        stay = []
        for endpoint in each.get("endpoints") or ():
            if (new := missing.pop(endpoint["addresses"][0], None)) is not None:
                stay.append(new)
        kept.append((each, stay))
    for _, stay in sorted(kept, key=lambda item: -len(item[1])):
        while missing and len(stay) < SLICE_SIZE:
            stay.append(missing.pop(next(iter(missing))))
    writes: list[Write] = []
    some = any(stay for _, stay in kept) or bool(missing)
    spared = not some  # one empty slice is kept: it says that there is nothing behind the service
    labels = _labels(service)
    for each, stay in kept:
        if not stay and not spared:
            writes.append(Delete(ENDPOINT_SLICES, each))
            continue
        spared = spared and bool(stay)
        if _plain(each.get("endpoints")) != _plain(stay) or not labels.items() <= each["metadata"]["labels"].items():
            merged = {**each["metadata"], "labels": {**each["metadata"]["labels"], **labels}}
            writes.append(Replace(ENDPOINT_SLICES, {**each, "metadata": merged, "endpoints": stay}))
    rest = list(missing.values())
    starts = range(0, len(rest), SLICE_SIZE) if kept else range(0, max(1, len(rest)), SLICE_SIZE)
    writes += [Create(ENDPOINT_SLICES, _new(service, family, ports, rest[at : at + SLICE_SIZE])) for at in starts]
    return writes


def _plain(value: list[Json] | None) -> bytes:
    return orjson.dumps(value or [], option=orjson.OPT_SORT_KEYS)


def _labels(service: Json) -> dict[str, str]:
    labels = {
        **(service["metadata"].get("labels") or {}),
        SERVICE_LABEL: service["metadata"]["name"],
        MANAGER_LABEL: MANAGER,
    }
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    return labels


def _new(service: Json, family: str, ports: tuple[tuple[str, str, int, str], ...], held: list[Json]) -> Json:
    name = service["metadata"]["name"]
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-{suffix}",
            "namespace": service["metadata"]["namespace"],
            "labels": _labels(service),
            "ownerReferences": [reference_to(service)],
        },
        "addressType": family,
        "endpoints": held,
        "ports": _port_list(ports),
    }

"""Endpoint slices and Endpoints: which pods are behind a Service (discovery/v1, core/v1). Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from labs.cluster.pods import Json, is_leaving, is_ready, is_terminal, reference_to
from labs.cluster.selectors import equal_labels
from labs.cluster.slicing import MANAGER_LABEL, SERVICE_LABEL, Head, Ports, pack, port_key, port_list
from labs.cluster.writes import Create, Delete, Replace, Write
from ncp.kube.resources import ENDPOINT_SLICES, ENDPOINTS

MANAGER = "endpointslice-controller.k8s.io"
HEADLESS_LABEL = "service.kubernetes.io/headless"
ENDPOINTS_MANAGER = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
ENDPOINTS_SIZE = 1000
NEAR = ("PreferClose", "PreferSameZone", "PreferSameNode")  # the first two mean the same


class _Member(NamedTuple):
    """A pod behind a service: its address in one family, its ports, and the endpoint as a slice shows it."""

    pod: Json
    ports: Ports
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
            same = [each for each in mine if port_key(each) == tuple(sorted(ports))]
            mine = [each for each in mine if each not in same]
            writes += pack(_head(service), family, ports, endpoints, same)
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
    if not service["spec"].get("publishNotReadyAddresses"):
        chosen = [pod for pod in chosen if not is_leaving(pod)]  # unlike slices, these have no word for terminating
    members = list(_members(service, chosen, {}, family))
    for member in members[:ENDPOINTS_SIZE]:
        entry: Json = {"ip": member.endpoint["addresses"][0], "targetRef": member.endpoint["targetRef"]}
        for name in ("nodeName", "hostname"):
            if name in member.endpoint:
                entry[name] = member.endpoint[name]
        place = "addresses" if member.endpoint["conditions"]["ready"] else "notReadyAddresses"
        groups[member.ports][place].append(entry)
    subsets = []
    for ports, places in sorted(groups.items(), key=lambda item: sorted(item[0])):
        subset: Json = {name: sorted(each, key=lambda entry: entry["ip"]) for name, each in places.items() if each}
        if ports:
            subset["ports"] = port_list(ports)
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
        if hints := _hints(service, endpoint):
            endpoint["hints"] = hints
        if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
            endpoint["hostname"] = pod["spec"]["hostname"]
        yield _Member(pod, ports, endpoint)


def _hints(service: Json, endpoint: Json) -> Json:
    """For whom a ready endpoint is meant, as ``trafficDistribution`` asks: for those near it."""
    wanted = service["spec"].get("trafficDistribution")
    if wanted not in NEAR or not endpoint["conditions"]["ready"]:
        return {}
    hints: Json = {}
    if "zone" in endpoint:
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if wanted == "PreferSameNode" and "nodeName" in endpoint:
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return hints


def _resolve(service: Json, pod: Json) -> Ports | None:
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


def _head(service: Json) -> Head:
    metadata = service["metadata"]
    labels = {**(metadata.get("labels") or {}), SERVICE_LABEL: metadata["name"], MANAGER_LABEL: MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    return Head(metadata["name"], metadata["namespace"], labels, reference_to(service))

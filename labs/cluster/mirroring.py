"""Endpoints written by hand, for services without a selector, shown as endpoint slices too (pure functions)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from ipaddress import ip_address

from labs.cluster.pods import Json, is_leaving, reference_to
from labs.cluster.slicing import MANAGER_LABEL, SERVICE_LABEL, Head, Ports, pack, port_key
from labs.cluster.writes import Delete, Write
from ncp.kube.resources import ENDPOINT_SLICES

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"


def mirror(endpoints: Json, service: Json | None, held: Sequence[Json]) -> list[Write]:
    """The writes that make the mirrored slices true; ``held`` are all slices of that service name."""
    ours = [each for each in held if (each["metadata"].get("labels") or {}).get(MANAGER_LABEL) == MANAGER]
    if service is None or service["spec"].get("selector") or is_leaving(endpoints) or _skipped(endpoints):
        return [Delete(ENDPOINT_SLICES, each) for each in ours]
    groups: dict[tuple[str, Ports], list[Json]] = defaultdict(list)
    for subset in endpoints.get("subsets") or ():
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field) or ():
                family = f"IPv{ip_address(address['ip']).version}"
                groups[family, port_key(subset)].append(_endpoint(address, ready))
    writes: list[Write] = []
    for (family, ports), wanted in groups.items():
        same = [each for each in ours if each.get("addressType") == family and port_key(each) == ports]
        ours = [each for each in ours if each not in same]
        writes += pack(_head(endpoints), family, ports, wanted, same)
    return [*writes, *(Delete(ENDPOINT_SLICES, each) for each in ours)]


def _skipped(endpoints: Json) -> bool:
    """Whether somebody asked not to mirror these, or they are a leader's lock."""
    metadata = endpoints["metadata"]
    return (metadata.get("labels") or {}).get(SKIP_LABEL) == "true" or "control-plane.alpha.kubernetes.io/leader" in (
        metadata.get("annotations") or {}
    )


def _endpoint(address: Json, ready: bool) -> Json:
    endpoint: Json = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for name in ("hostname", "nodeName", "targetRef"):
        if address.get(name):
            endpoint[name] = address[name]
    return endpoint


def _head(endpoints: Json) -> Head:
    metadata = endpoints["metadata"]
    labels = {**(metadata.get("labels") or {}), SERVICE_LABEL: metadata["name"], MANAGER_LABEL: MANAGER}
    return Head(metadata["name"], metadata["namespace"], labels, reference_to(endpoints))

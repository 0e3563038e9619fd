"""Who is behind a service, as an agent hears it from a server that serves EndpointSlices and from one that does not."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator

import pytest

from ncp.kube.client import Kube
from ncp.kube.listing import everything
from ncp.kube.reflector import Json, Key
from ncp.kube.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES
from ncp.node.inputs import Inputs
from ncp.translate.intent import KINDS, Translation, apply, start, translated
from sdn.services import Member, Place, members
from tests.translate.test_intent import FABRIC

from .concessions import Server

SECONDS = 10.0
Change = tuple[str, Key, Json | None]


@pytest.fixture
def kube(server: Server) -> Iterator[Kube]:
    client = Kube.connect(str(server.kubeconfig))
    yield client
    client.close()


def behind(translation: Translation, name: str) -> list[str]:
    """Addresses of the members of a service's port, as a node sees them; none where there is no such service."""
    intent = translation.intent
    service = intent.services.get(name)
    if service is None:
        return []
    slices = intent.slices.get(name, {}).values()
    found: tuple[Member, ...] = members(service, slices, service.ports[0], 4, Place("n1"), local=False)
    return [f"{each.address}:{each.port}" for each in found]


def endpoints(name: str, *ready: str, unready: tuple[str, ...] = ()) -> Json:
    subset = {"addresses": [{"ip": each} for each in ready], "ports": [{"port": 8080, "protocol": "TCP"}]}
    if unready:
        subset["notReadyAddresses"] = [{"ip": each} for each in unready]
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name}, "subsets": [subset] if ready else []}


def sliced(name: str, *ready: str) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [each]} for each in ready],
    }


def test_members_come_from_slices_or_where_there_are_none_from_endpoints(kube: Kube, server: Server, ns: str) -> None:
    has_slices = "v1" in kube.versions(ENDPOINT_SLICES.group)
    kube.create(SERVICES, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}, ns)
    made = kube.create(ENDPOINTS, endpoints("s", "10.4.0.1", "10.4.0.2", unready=("10.4.0.3",)), ns)
    if has_slices:
        kube.create(ENDPOINT_SLICES, sliced("s", "10.4.0.9"), ns)
    first = ["10.4.0.9:8080"] if has_slices else ["10.4.0.1:8080", "10.4.0.2:8080"]
    assert behind(translated(FABRIC, everything(kube)), f"{ns}/s") == first, "what commands see"

    changes: queue.Queue[Change | str] = queue.Queue()

    def on_change(kind: str) -> Callable[[Key, Json | None, Json | None], None]:
        return lambda key, old, new: changes.put((kind, key, new))

    inputs = Inputs(kube, on_change, changes.put)
    state, synced = start(FABRIC), set[str]()

    def follow(until: Callable[[], bool]) -> None:
        nonlocal state
        deadline = time.monotonic() + SECONDS
        while not until():
            match changes.get(timeout=deadline - time.monotonic()):
                case str(kind):
                    synced.add(kind)
                case kind, key, obj:
                    state = apply(state, kind, key, obj)[0]

    inputs.start()
    try:
        follow(lambda: synced == KINDS)
        assert behind(state, f"{ns}/s") == first
        assert ("Endpoints" in inputs.reflectors) is not has_slices
        assert all(each.healthy() for each in inputs.reflectors.values())
        kube.replace(ENDPOINTS, {**made, **endpoints("s", "10.4.0.2"), "metadata": made["metadata"]})
        if has_slices:
            kube.delete(ENDPOINT_SLICES, "s-1", ns)
        follow(lambda: behind(state, f"{ns}/s") == ([] if has_slices else ["10.4.0.2:8080"]))
        kube.delete(ENDPOINTS, "s", ns)
        follow(lambda: behind(state, f"{ns}/s") == [])
    finally:
        inputs.stop()
    assert f"{ns}/s" not in state.intent.slices

"""Spreads endpoints over endpoint slices (discovery/v1), of pods or written by hand.

Only what changed is written: an endpoint stays in the slice it is in, and slices that say what they should are left
alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import orjson

from labs.cluster.pods import Json
from labs.cluster.writes import Create, Delete, Replace, Write
from ncp.kube.resources import ENDPOINT_SLICES

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
SLICE_SIZE = 100
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"

Ports: TypeAlias = tuple[tuple[str, str, int, str], ...]
"""(name, protocol, number, application protocol) of each port."""


class Head(NamedTuple):
    """What the slices of one service have in common."""

    service: str
    namespace: str
    labels: dict[str, str]
    owner: Json  # an owner reference


def port_list(ports: Ports) -> list[Json]:
    """The ports as the API writes them."""
    out = []
    for name, protocol, number, application in ports:
        port: Json = {"port": number, "protocol": protocol}
        if name:
            port["name"] = name
        if application:
            port["appProtocol"] = application
        out.append(port)
    return out


def port_key(holder: Json) -> Ports:
    """The ports of a slice or a subset, in order."""
    return tuple(sorted(_port(each) for each in holder.get("ports") or ()))


def _port(port: Json) -> tuple[str, str, int, str]:
    return (port.get("name") or "", port.get("protocol") or "TCP", port.get("port") or 0, port.get("appProtocol") or "")


def pack(head: Head, family: str, ports: Ports, wanted: list[Json], held: list[Json]) -> list[Write]:
    """Put the ``wanted`` endpoints into the ``held`` slices and new ones, moving none that is in one already."""
    missing = {_identity(each): each for each in wanted}
    kept: list[tuple[Json, list[Json]]] = []
    for each in sorted(held, key=lambda each: each["metadata"]["name"]):
        found = (missing.pop(_identity(endpoint), None) for endpoint in each.get("endpoints") or ())
        kept.append((each, [endpoint for endpoint in found if endpoint is not None]))
    for _, stay in sorted(kept, key=lambda item: -len(item[1])):
        while missing and len(stay) < SLICE_SIZE:
            stay.append(missing.pop(next(iter(missing))))
    writes: list[Write] = []
    spared = not wanted  # one empty slice is kept: it says that there is nothing behind the service
    for each, stay in kept:
        if not stay and not spared:
            writes.append(Delete(ENDPOINT_SLICES, each))
            continue
        spared = spared and bool(stay)
        writes += _rewrite(head, each, stay)
    rest = list(missing.values())
    starts: Iterable[int] = range(0, len(rest) if kept else max(1, len(rest)), SLICE_SIZE)
    return [*writes, *(Create(ENDPOINT_SLICES, _new(head, family, ports, rest[at : at + SLICE_SIZE])) for at in starts)]


def _identity(endpoint: Json) -> tuple[str, str]:
    """Pods on their host's network share its address, so an address alone is not enough."""
    return (endpoint["addresses"][0], (endpoint.get("targetRef") or {}).get("uid", ""))


def _rewrite(head: Head, held: Json, endpoints: list[Json]) -> list[Write]:
    labels = held["metadata"].get("labels") or {}
    if _plain(held.get("endpoints")) == _plain(endpoints) and head.labels.items() <= labels.items():
        return []
    metadata = {**held["metadata"], "labels": {**labels, **head.labels}}
    return [Replace(ENDPOINT_SLICES, {**held, "metadata": metadata, "endpoints": endpoints})]


def _plain(value: list[Json] | None) -> bytes:
    return orjson.dumps(value or [], option=orjson.OPT_SORT_KEYS)


def _new(head: Head, family: str, ports: Ports, endpoints: list[Json]) -> Json:
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{head.service}-{suffix}",
            "namespace": head.namespace,
            "labels": head.labels,
            "ownerReferences": [head.owner],
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": port_list(ports),
    }

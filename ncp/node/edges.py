"""Edges and their lease, as Kubernetes objects have them. Values in, values out.

The lease is not the manager's kind of election (:mod:`ncp.kube.election`): whether it may be taken is not a matter of time alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from ncp.kube.resources import EDGE_LEASE, LEASES
from ncp.translate.objects import Object, annotation, is_edge, transport_node
from ncp.translate.uplinks import UPLINKS

Json = dict[str, Any]

PRIORITY: Final = "ncp/edge-priority"
READY: Final = "ncp/edge_ready"
"""On an edge's Node: ``yes``, or ``no:`` and why, written by its agent."""
WHY: Final = "ncp/why"
LEFT: Final = "ncp/left"


class Edge(NamedTuple):
    """A node that may be tier-0's way out."""

    name: str
    tep: str
    priority: int = 0
    ready: bool = False


def edge_of(node: Object) -> Edge | None:
    """The edge that a Node is, if it is labelled so and has an address. A node that the cluster has lost is not ready, whatever it said."""
    if not is_edge(node) or (found := transport_node(node)[0]) is None:
        return None
    conditions = (node.get("status") or {}).get("conditions") or ()
    lost = any(each.get("type") == "Ready" and each.get("status") != "True" for each in conditions)
    ready = annotation(node, READY) == "yes" and not lost
    return Edge(found.name, str(found.tep), _priority(node), ready)


def _priority(node: Object) -> int:
    text = annotation(node, PRIORITY) or (node["metadata"].get("labels") or {}).get(PRIORITY) or "0"
    try:
        return int(text)
    except ValueError:
        return 0


def uplinks_of(node: Object) -> tuple[str, ...]:
    """Names of an edge's uplinks; none that cannot be read."""
    try:
        return tuple(str(each["name"]) for each in orjson.loads(annotation(node, UPLINKS) or "[]"))
    except (ValueError, KeyError, TypeError):
        return ()


class Lease(NamedTuple):
    """What of the lease is looked at. ``version`` tells the later of two."""

    holder: str = ""
    left: str = ""
    renewed: str = ""
    version: int = 0


def lease_of(obj: Object | None) -> Lease:
    """The lease; one that does not exist has no version."""
    if obj is None:
        return Lease()
    spec = obj.get("spec") or {}
    version = str(obj["metadata"].get("resourceVersion"))
    return Lease(
        spec.get("holderIdentity") or "", annotation(obj, LEFT) or "", str(spec.get("renewTime")), _number(version)
    )


def _number(version: str) -> int:
    """Versions are ordered numbers on every server there is; of any other nothing is known (0)."""
    return int(version) if version.isdigit() else 0


def renewed(obj: Object, now: str) -> Json:
    """The lease once its holder has renewed it. ``now`` is a MicroTime, for people."""
    return {**obj, "spec": {**(obj.get("spec") or {}), "renewTime": now}}


def taken(obj: Object | None, name: str, now: str, why: str, lasts: float) -> Json:
    """The lease once ``name`` has taken it, or been given it by its holder. ``lasts`` in seconds; the API has whole ones."""
    before = (obj or {}).get("spec") or {}
    spec = {
        "holderIdentity": name,
        "leaseDurationSeconds": max(1, math.ceil(lasts)),
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": int(before.get("leaseTransitions") or 0) + (obj is not None),
    }
    return _written(obj, spec, {WHY: why, LEFT: None})


def released(obj: Object, name: str, now: str, why: str) -> Json:
    """The lease once ``name`` has given it back."""
    spec = {**(obj.get("spec") or {}), "holderIdentity": "", "renewTime": now}
    return _written(obj, spec, {WHY: why, LEFT: name})


def _written(obj: Object | None, spec: Json, notes: Mapping[str, str | None]) -> Json:
    meta = (obj or {}).get("metadata") or {"namespace": EDGE_LEASE[0], "name": EDGE_LEASE[1]}
    kept = {**(meta.get("annotations") or {}), **notes}
    metadata = {**meta, "annotations": {name: text for name, text in kept.items() if text is not None}}
    return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}

"""The columns of every kind, as the printers of a real server show them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from labs.api import cells
from labs.api.cells import Obj, at, count
from labs.api.clock import age
from labs.api.jsonpath import found
from labs.api.resources import Resource

Cell = Callable[[Obj], Any]


class Columns(NamedTuple):
    """Column headers, and the makers of an object's cells."""

    definitions: list[dict[str, Any]]
    makers: tuple[Cell, ...]

    def cells(self, obj: Obj) -> list[Any]:
        """One row."""
        return [make(obj) for make in self.makers]


def _definition(name: str, kind: str, wide: bool, description: str = "") -> dict[str, Any]:
    form = "name" if name == "Name" else ""
    return {"name": name, "type": kind, "format": form, "description": description, "priority": int(wide)}


def _field(path: str, default: Any = "") -> Cell:
    steps = path.split(".")
    return lambda obj: at(obj, steps, default)


def _number(path: str) -> Cell:
    return _field(path, 0)


_NAME: tuple[str, Cell] = ("Name", lambda obj: obj["metadata"]["name"])
_AGE: tuple[str, Cell] = ("Age", lambda obj: age(obj["metadata"].get("creationTimestamp")))

# One entry a store: columns in order, a name ending in * is shown by -o wide only. Name comes first, unless given.
_COLUMNS: dict[str, list[tuple[str, Cell]]] = {
    "namespaces": [("Status", _field("status.phase")), _AGE],
    "pods": [
        ("Ready", cells.pod_ready),
        ("Status", cells.pod_status),
        ("Restarts", cells.pod_restarts),
        _AGE,
        ("IP*", _field("status.podIP", "<none>")),
        ("Node*", _field("spec.nodeName", "<none>")),
        ("Nominated Node*", _field("status.nominatedNodeName", "<none>")),
        ("Readiness Gates*", cells.pod_gates),
    ],
    "nodes": [
        ("Status", cells.node_status),
        ("Roles", cells.node_roles),
        _AGE,
        ("Version", _field("status.nodeInfo.kubeletVersion")),
        ("Internal-IP*", lambda obj: cells.node_address(obj, "InternalIP")),
        ("External-IP*", lambda obj: cells.node_address(obj, "ExternalIP")),
        ("OS-Image*", _field("status.nodeInfo.osImage", "<unknown>")),
        ("Kernel-Version*", _field("status.nodeInfo.kernelVersion", "<unknown>")),
        ("Container-Runtime*", _field("status.nodeInfo.containerRuntimeVersion", "<unknown>")),
    ],
    "services": [
        ("Type", _field("spec.type")),
        ("Cluster-IP", cells.service_cluster_ip),
        ("External-IP", cells.service_external_ip),
        ("Port(s)", cells.service_ports),
        _AGE,
        ("Selector*", lambda obj: cells.labels(at(obj, ["spec", "selector"], {}))),
    ],
    "endpoints": [("Endpoints", cells.endpoints), _AGE],
    "endpointslices.discovery.k8s.io": [
        ("AddressType", _field("addressType")),
        ("Ports", cells.slice_ports),
        ("Endpoints", cells.slice_endpoints),
        _AGE,
    ],
    "configmaps": [("Data", lambda obj: len(obj.get("data", ())) + len(obj.get("binaryData", ()))), _AGE],
    "secrets": [("Type", _field("type")), ("Data", lambda obj: len(obj.get("data", ()))), _AGE],
    "serviceaccounts": [("Secrets", lambda obj: len(obj.get("secrets", ()))), _AGE],
    "events": [
        ("Last Seen", cells.event_last_seen),
        ("Type", _field("type")),
        ("Reason", _field("reason")),
        ("Object", cells.event_object),
        ("Subobject*", _field("involvedObject.fieldPath")),
        ("Source*", cells.event_source),
        ("Message", lambda obj: obj.get("message", "").strip()),
        ("First Seen*", cells.event_first_seen),
        ("Count*", cells.event_count),
        ("Name*", lambda obj: obj["metadata"]["name"]),
    ],
    "deployments.apps": [
        ("Ready", lambda obj: count(obj, "status.readyReplicas", "spec.replicas")),
        ("Up-to-date", _number("status.updatedReplicas")),
        ("Available", _number("status.availableReplicas")),
        _AGE,
        *cells.template_columns("spec.selector"),
    ],
    "replicasets.apps": [
        ("Desired", _number("spec.replicas")),
        ("Current", _number("status.replicas")),
        ("Ready", _number("status.readyReplicas")),
        _AGE,
        *cells.template_columns("spec.selector"),
    ],
    "replicationcontrollers": [
        ("Desired", _number("spec.replicas")),
        ("Current", _number("status.replicas")),
        ("Ready", _number("status.readyReplicas")),
        _AGE,
        *cells.template_columns("spec.selector"),
    ],
    "statefulsets.apps": [
        ("Ready", lambda obj: count(obj, "status.readyReplicas", "spec.replicas")),
        _AGE,
        *cells.template_columns(""),
    ],
    "daemonsets.apps": [
        ("Desired", _number("status.desiredNumberScheduled")),
        ("Current", _number("status.currentNumberScheduled")),
        ("Ready", _number("status.numberReady")),
        ("Up-to-date", _number("status.updatedNumberScheduled")),
        ("Available", _number("status.numberAvailable")),
        ("Node Selector", cells.template_nodes),
        _AGE,
        *cells.template_columns("spec.selector"),
    ],
    "controllerrevisions.apps": [("Controller", cells.owner), ("Revision", _number("revision")), _AGE],
    "jobs.batch": [
        ("Status", cells.job_status),
        ("Completions", cells.job_completions),
        ("Duration", cells.job_duration),
        _AGE,
        *cells.template_columns("spec.selector"),
    ],
    "cronjobs.batch": [
        ("Schedule", _field("spec.schedule")),
        ("Timezone", _field("spec.timeZone", "<none>")),
        ("Suspend", lambda obj: str(at(obj, ["spec", "suspend"], False))),
        ("Active", lambda obj: len(at(obj, ["status", "active"], []))),
        ("Last Schedule", lambda obj: cells.since(at(obj, ["status", "lastScheduleTime"], ""))),
        _AGE,
    ],
    "networkpolicies.networking.k8s.io": [
        ("Pod-Selector", lambda obj: cells.selector(at(obj, ["spec", "podSelector"], {}))),
        _AGE,
    ],
    "ingresses.networking.k8s.io": [
        ("Class", _field("spec.ingressClassName", "<none>")),
        ("Hosts", cells.ingress_hosts),
        ("Address", cells.ingress_address),
        ("Ports", lambda obj: "80, 443" if at(obj, ["spec", "tls"], None) else "80"),
        _AGE,
    ],
    "ingressclasses.networking.k8s.io": [
        ("Controller", _field("spec.controller")),
        ("Parameters", _field("spec.parameters.name", "<none>")),
        _AGE,
    ],
    "leases.coordination.k8s.io": [("Holder", _field("spec.holderIdentity")), _AGE],
    "poddisruptionbudgets.policy": [
        ("Min Available", lambda obj: str(at(obj, ["spec", "minAvailable"], "N/A"))),
        ("Max Unavailable", lambda obj: str(at(obj, ["spec", "maxUnavailable"], "N/A"))),
        ("Allowed Disruptions", _number("status.disruptionsAllowed")),
        _AGE,
    ],
    "customresourcedefinitions.apiextensions.k8s.io": [
        ("Created At", _field("metadata.creationTimestamp")),
    ],
    "horizontalpodautoscalers.autoscaling": [
        ("Reference", cells.scale_target),
        ("Targets", lambda obj: "<unknown>"),
        ("MinPods", _field("spec.minReplicas", "<unset>")),
        ("MaxPods", _number("spec.maxReplicas")),
        ("Replicas", _number("status.currentReplicas")),
        _AGE,
    ],
    "persistentvolumeclaims": [
        ("Status", _field("status.phase")),
        ("Volume", _field("spec.volumeName")),
        ("Capacity", _field("status.capacity.storage")),
        ("Access Modes", lambda obj: cells.access_modes(at(obj, ["status", "accessModes"], []))),
        ("StorageClass", _field("spec.storageClassName")),
        _AGE,
        ("VolumeMode*", _field("spec.volumeMode", "<unset>")),
    ],
    "persistentvolumes": [
        ("Capacity", _field("spec.capacity.storage")),
        ("Access Modes", lambda obj: cells.access_modes(at(obj, ["spec", "accessModes"], []))),
        ("Reclaim Policy", _field("spec.persistentVolumeReclaimPolicy")),
        ("Status", _field("status.phase")),
        ("StorageClass", _field("spec.storageClassName")),
        _AGE,
    ],
    "priorityclasses.scheduling.k8s.io": [
        ("Value", _number("value")),
        ("Global-Default", _field("globalDefault", False)),
        _AGE,
        ("PreemptionPolicy", _field("preemptionPolicy")),
    ],
    "storageclasses.storage.k8s.io": [
        ("Provisioner", _field("provisioner")),
        ("ReclaimPolicy", _field("reclaimPolicy", "Delete")),
        ("VolumeBindingMode", _field("volumeBindingMode", "Immediate")),
        ("AllowVolumeExpansion", _field("allowVolumeExpansion", False)),
        _AGE,
    ],
    "rolebindings.rbac.authorization.k8s.io": [("Role", cells.role_ref), _AGE],
    "clusterrolebindings.rbac.authorization.k8s.io": [("Role", cells.role_ref), _AGE],
    "roles.rbac.authorization.k8s.io": [("Created At", _field("metadata.creationTimestamp"))],
    "clusterroles.rbac.authorization.k8s.io": [("Created At", _field("metadata.creationTimestamp"))],
}  # fmt: skip
_INTEGERS = {
    "Desired",
    "Current",
    "Up-to-date",
    "Available",
    "Data",
    "Count",
    "Revision",
    "Value",
    "Replicas",
    "MaxPods",
}


def columns_of(resource: Resource) -> Columns:
    """The columns of a resource: its kind's, or those its definition declares, or name and age."""
    if resource.custom is not None:
        return _custom(resource.custom.columns)
    return _built_in(resource)


@cache
def _built_in(resource: Resource) -> Columns:
    listed = _COLUMNS.get(resource.store, [_AGE])
    if resource.store != "events":
        listed = [_NAME, *listed]
    definitions = [_definition(name.rstrip("*"), _kind(name), name.endswith("*")) for name, _ in listed]
    return Columns(definitions, tuple(make for _, make in listed))


def _kind(name: str) -> str:
    return "integer" if name.rstrip("*") in _INTEGERS else "string"


def _custom(declared: tuple[dict[str, Any], ...]) -> Columns:
    definitions, makers = [_definition("Name", "string", False)], [_NAME[1]]
    for column in declared or ({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},):
        wide = column.get("priority", 0) > 0
        definitions.append(_definition(column["name"], column["type"], wide, column.get("description", "")))
        makers.append(_custom_cell(column["jsonPath"], column["type"]))
    return Columns(definitions, tuple(makers))


def _custom_cell(path: str, kind: str) -> Cell:
    def cell(obj: Obj) -> Any:
        values = found(obj, path)
        if not values:
            return None
        if kind == "date":
            return age(values[0])
        if kind in ("integer", "number", "boolean"):
            return values[0]
        return cells.text(values[0] if len(values) == 1 else values)

    return cell

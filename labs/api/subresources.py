"""Subresources that are not a part of the object: scale, binding, eviction; and those a lab has no use for."""

from __future__ import annotations

from typing import Any

from labs.api import patch
from labs.api.calls import Call
from labs.api.clock import now
from labs.api.errors import ApiError, bad_request, conflict, invalid, wrong
from labs.api.lifecycle import Deletion, Written
from labs.api.objects import Objects
from labs.api.resources import Resource

Obj = dict[str, Any]
Answer = tuple[int, Obj]
_SCALE_PATHS = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}


def serve(objects: Objects, call: Call) -> Answer | Written | None:
    """The answer of a subresource; None where it does not exist. 501 for what needs a container runtime."""
    name, method = call.target.subresource.partition("/")[0], call.method
    if name == "scale" and method in ("GET", "PUT", "PATCH"):
        return _scale(objects, call)
    if name == "binding" and method == "POST":
        return _bind(objects, call)
    if name == "eviction" and method == "POST":
        return _evict(objects, call)
    if name == "ephemeralcontainers" or name in ("exec", "attach", "portforward", "proxy"):
        message = f"{name} is not served here; run commands in a pod with: ncp lab exec NAMESPACE/POD -- COMMAND"
        raise ApiError(501, "NotImplemented", message)
    return None


def _bind(objects: Objects, call: Call) -> Answer:
    """Assigns a pod to a node, once."""
    resource, namespace, name, _, _ = call.target
    body = call.read()
    node = (body.get("target") or {}).get("name", "") if isinstance(body, dict) else ""
    if not node:
        raise bad_request("target.name: Required value: the binding must name a node")
    entry = objects.get(resource, namespace, name)
    obj = entry.load()
    if obj["metadata"].get("deletionTimestamp"):
        raise conflict("pods/binding", "", name, f"pod {name} is being deleted, cannot be assigned to a host")
    if obj["spec"].get("nodeName"):
        raise conflict("pods/binding", "", name, f'pod {name} is already assigned to node "{obj["spec"]["nodeName"]}"')
    wanted_uid = (body.get("metadata") or {}).get("uid")
    if wanted_uid and wanted_uid != entry.uid:
        why = f"Precondition failed: UID in precondition: {wanted_uid}, UID in object meta: {entry.uid}"
        raise conflict("pods/binding", "", name, why)
    obj["spec"]["nodeName"] = node
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}
    conditions = [c for c in obj["status"].get("conditions", ()) if c["type"] != "PodScheduled"]
    obj["status"]["conditions"] = [*conditions, scheduled]
    if not call.write().dry_run:
        objects.store.put(entry.key, obj)
    return 201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _evict(objects: Objects, call: Call) -> Answer:
    """Deletes a pod with the options of the eviction."""
    resource, namespace, name, _, _ = call.target
    body = call.read() if call.body else {}
    options = (body or {}).get("deleteOptions") or {}
    uid = (options.get("preconditions") or {}).get("uid") or ""
    how = Deletion(
        options.get("gracePeriodSeconds"), options.get("propagationPolicy") or "", uid, "", call.write().dry_run
    )
    objects.delete(resource, namespace, name, how)
    return 201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _scale(objects: Objects, call: Call) -> Answer:
    resource, namespace, name, _, _ = call.target
    entry = objects.get(resource, namespace, name)
    obj = objects.loaded(resource, entry)
    if call.method == "GET":
        return 200, _scale_of(resource, obj)
    body = call.read()
    current = _scale_of(resource, obj)
    if call.method == "PATCH":
        body = (
            patch.json_patch(current, body) if "json-patch" in call.content_type() else patch.merge_patch(current, body)
        )
    replicas = (body.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        raise invalid(
            "Scale", "autoscaling", name, [wrong("spec.replicas", replicas, "must be greater than or equal to 0")]
        )
    given = (body.get("metadata") or {}).get("resourceVersion")
    objects.check_version(resource, entry, {"resourceVersion": given})
    _put_path(obj, _path(resource, "specReplicasPath"), replicas)
    written = objects.replace(resource, entry, obj, call.write(), "scale")
    return 200, _scale_of(resource, objects.loaded(resource, written.entry))


def _path(resource: Resource, name: str) -> list[str]:
    settings = (resource.custom.scale if resource.custom else None) or _SCALE_PATHS
    return settings.get(name, "").strip(".").split(".")


def _scale_of(resource: Resource, obj: Obj) -> Obj:
    """The Scale of an object that can be scaled."""
    meta = {
        k: v
        for k, v in obj["metadata"].items()
        if k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    status: Obj = {"replicas": _get_path(obj, _path(resource, "statusReplicasPath")) or 0}
    selector = _selector(resource, obj)
    if selector:
        status["selector"] = selector
    replicas = _get_path(obj, _path(resource, "specReplicasPath")) or 0
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {"replicas": replicas},
        "status": status,
    }


def _selector(resource: Resource, obj: Obj) -> str:
    if resource.custom:
        path = _path(resource, "labelSelectorPath")
        return str(_get_path(obj, path) or "") if path != [""] else ""
    selector = obj["spec"].get("selector") or {}
    labels = selector.get("matchLabels", {}) if resource.group else selector
    parts = [f"{k}={v}" for k, v in labels.items()]
    for need in selector.get("matchExpressions") or () if resource.group else ():
        words = {"In": "in", "NotIn": "notin"}.get(need["operator"])
        values = ",".join(need.get("values") or ())
        plain = need["key"] if need["operator"] == "Exists" else "!" + need["key"]
        parts.append(f"{need['key']} {words} ({values})" if words else plain)
    return ",".join(parts)


def _get_path(obj: Any, path: list[str]) -> Any:
    for step in path:
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


def _put_path(obj: Obj, path: list[str], value: Any) -> None:
    for step in path[:-1]:
        obj = obj.setdefault(step, {})
    obj[path[-1]] = value

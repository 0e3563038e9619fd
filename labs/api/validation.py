"""Rules on built-in objects: what must be there, what may be there, what may not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from labs.api import networkpolicy
from labs.api.addresses import prefix
from labs.api.errors import Cause, denied, duplicate, required, unsupported, wrong
from labs.api.names import broken, key_fault, label_faults, metadata_faults
from labs.api.ports import PROTOCOLS, number_fault
from labs.api.selectors import labels_select

Obj = dict[str, Any]
_POD_UPDATE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_STATEFUL_SET_UPDATE = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_STATEFUL_SET_MUTABLE = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
]


def faults(obj: Obj, old: Obj | None) -> list[Cause]:
    """Everything wrong with a defaulted object, alone and as the successor of ``old``."""
    found = [*metadata_faults(obj), *finalizer_faults(obj, old)]
    check = _BY_KIND.get(obj["kind"])
    if check is not None:
        found += check(obj, old)
    return found


def finalizer_faults(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    """A dying object takes no new finalizer."""
    if old is None or not old["metadata"].get("deletionTimestamp"):
        return
    added = [f for f in obj["metadata"].get("finalizers") or () if f not in (old["metadata"].get("finalizers") or ())]
    if added:
        listed = ", ".join(f'"{name}"' for name in added)
        why = (
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{"
            + listed
            + "}"
        )
        yield denied("metadata.finalizers", why)


def _pod_spec(spec: Obj, at: str) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield required(f"{at}.containers")
    seen: set[str] = set()
    volumes = {v.get("name") for v in spec.get("volumes", ())}
    for group in ("initContainers", "containers"):
        for place, container in enumerate(spec.get(group, ())):
            yield from _container(container, f"{at}.{group}[{place}]", seen, volumes)
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        yield unsupported(f"{at}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never"))
    yield from label_faults(spec.get("nodeSelector") or {}, f"{at}.nodeSelector")


def _container(container: Obj, at: str, seen: set[str], volumes: set[str]) -> Iterator[Cause]:
    name = container.get("name", "")
    if not name:
        yield required(f"{at}.name")
    elif fault := broken(name, "label"):
        yield wrong(f"{at}.name", name, fault)
    elif name in seen:
        yield duplicate(f"{at}.name", name)
    seen.add(name)
    if not container.get("image", ""):
        yield required(f"{at}.image")
    for place, port in enumerate(container.get("ports", ())):
        field = f"{at}.ports[{place}]"
        if not port.get("containerPort"):
            yield required(f"{field}.containerPort")
        elif fault := number_fault(port["containerPort"]):
            yield wrong(f"{field}.containerPort", port["containerPort"], fault)
        if port.get("protocol") not in PROTOCOLS:
            yield unsupported(f"{field}.protocol", port.get("protocol"), PROTOCOLS)
    for place, mount in enumerate(container.get("volumeMounts", ())):
        if mount.get("name") not in volumes:
            yield Cause("FieldValueNotFound", f'Not found: "{mount.get("name")}"', f"{at}.volumeMounts[{place}].name")


def _pod(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    if old is None:
        yield from _pod_spec(obj.get("spec", {}), "spec")
    elif _fixed(obj["spec"]) != _fixed(old["spec"]):
        yield denied("spec", _POD_UPDATE)


def _fixed(spec: Obj) -> Obj:
    """What of a pod's spec may not change after creation (the scheduler's binding sets nodeName once)."""
    fixed = {
        k: v
        for k, v in spec.items()
        if k not in ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")
    }
    for group in ("containers", "initContainers"):
        if group in fixed:
            fixed[group] = [{k: v for k, v in c.items() if k != "image"} for c in fixed[group]]
    return fixed


def _template(obj: Obj, at: str = "spec.template") -> Iterator[Cause]:
    template = obj["spec"].get("template", {})
    yield from _pod_spec(template.get("spec", {}), f"{at}.spec")
    yield from label_faults(template.get("metadata", {}).get("labels") or {}, f"{at}.labels")


def _workload(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    spec = obj.get("spec", {})
    selector = spec.get("selector")
    labels = spec.get("template", {}).get("metadata", {}).get("labels") or {}
    if not selector:
        yield required("spec.selector")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield wrong("spec.selector", selector, "empty selector is invalid for deployment")
    elif not labels_select(selector, labels):
        yield wrong("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from _template(obj)
    if spec.get("replicas", 0) < 0:
        yield wrong("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    policy = spec.get("template", {}).get("spec", {}).get("restartPolicy", "Always")
    if policy != "Always":
        yield unsupported("spec.template.spec.restartPolicy", policy, ("Always",))
    if old is not None and old["spec"].get("selector") != selector:
        yield wrong("spec.selector", selector, "field is immutable")


def _stateful_set(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    yield from _workload(obj, None)
    if old is not None and _without(obj["spec"], _STATEFUL_SET_MUTABLE) != _without(old["spec"], _STATEFUL_SET_MUTABLE):
        yield denied("spec", _STATEFUL_SET_UPDATE)


def _without(spec: Obj, names: list[str]) -> Obj:
    return {k: v for k, v in spec.items() if k not in names}


def _job(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    spec = obj.get("spec", {})
    yield from _template(obj)
    policy = spec.get("template", {}).get("spec", {}).get("restartPolicy")
    if policy == "Always":
        yield Cause(
            "FieldValueRequired",
            'Required value: valid values: "OnFailure", "Never"',
            "spec.template.spec.restartPolicy",
        )
    for field in ("completions", "selector", "template"):
        if old is not None and old["spec"].get(field) != spec.get(field) and not old["spec"].get("suspend"):
            yield wrong(f"spec.{field}", spec.get(field), "field is immutable")


def _cron_job(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    if not obj.get("spec", {}).get("schedule"):
        yield required("spec.schedule")


def _service(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    spec = obj["spec"]
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec.get("type") not in kinds:
        yield unsupported("spec.type", spec.get("type"), kinds)
    if spec.get("type") == "ExternalName":
        if not spec.get("externalName"):
            yield required("spec.externalName")
    elif not spec.get("ports") and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    if spec.get("sessionAffinity") not in ("None", "ClientIP"):
        yield unsupported("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    yield from _balancer(spec, (old or {}).get("spec") or {})
    for place, address in enumerate(spec.get("externalIPs", ())):
        if not _family(address):
            yield wrong(
                f"spec.externalIPs[{place}]", address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            )
    yield from label_faults(spec.get("selector") or {}, "spec.selector")
    yield from _service_ports(spec.get("ports", ()))


def _balancer(spec: Obj, before: Obj) -> Iterator[Cause]:
    """What a Service says of its load balancer."""
    ranges, named = spec.get("loadBalancerSourceRanges") or (), spec.get("loadBalancerClass")
    if spec.get("type") != "LoadBalancer":
        for field in ("loadBalancerClass", "allocateLoadBalancerNodePorts"):
            if spec.get(field) is not None:
                yield denied(f"spec.{field}", "may only be used when `type` is 'LoadBalancer'")
        if ranges:
            yield wrong("spec.LoadBalancerSourceRanges", "", "may only be used when `type` is 'LoadBalancer'")
        return
    if before.get("type") == "LoadBalancer" and named != before.get("loadBalancerClass"):
        yield wrong("spec.loadBalancerClass", named, "may not change once set")
    elif named is not None and (fault := key_fault(named)):
        yield wrong("spec.loadBalancerClass", named, fault)
    if any(prefix(str(each).strip()) is None for each in ranges):
        why = "must be a list of IP ranges. For example, 10.240.0.0/24,10.250.0.0/24 "
        yield wrong("spec.LoadBalancerSourceRanges", ",".join(map(str, ranges)), why)


def _service_ports(ports: Any) -> Iterator[Cause]:
    names: set[str] = set()
    numbers: set[tuple[Any, Any]] = set()
    for place, port in enumerate(ports):
        at, name = f"spec.ports[{place}]", port.get("name", "")
        if not name and len(ports) > 1:
            yield required(f"{at}.name")
        elif name in names:
            yield duplicate(f"{at}.name", name)
        elif name and (fault := broken(name, "label")):
            yield wrong(f"{at}.name", name, fault)
        names.add(name)
        if fault := number_fault(port.get("port")):
            yield wrong(f"{at}.port", port.get("port", 0), fault)
        if port.get("protocol") not in PROTOCOLS:
            yield unsupported(f"{at}.protocol", port.get("protocol"), PROTOCOLS)
        target = port.get("targetPort")
        if isinstance(target, int) and (fault := number_fault(target)):
            yield wrong(f"{at}.targetPort", target, fault)
        number = (port.get("protocol"), port.get("port"))
        if number in numbers:
            yield duplicate(at, f"{number[0]}/{number[1]}")
        numbers.add(number)


def _config(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    for field in ("data", "binaryData"):
        for key in obj.get(field) or ():
            if fault := broken(key, "config key"):
                yield wrong(f"{field}[{key}]", key, fault)
    if old is not None and old.get("immutable"):
        for field in ("data", "binaryData"):
            if obj.get(field) != old.get(field):
                yield denied(field, "field is immutable when `immutable` is set")


def _endpoint_slice(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    kinds = ("FQDN", "IPv4", "IPv6")
    if obj.get("addressType") not in kinds:
        yield unsupported("addressType", obj.get("addressType", ""), kinds)
    if old is not None and old.get("addressType") != obj.get("addressType"):
        yield wrong("addressType", obj.get("addressType"), "field is immutable")
    for place, endpoint in enumerate(obj.get("endpoints") or ()):
        if not endpoint.get("addresses"):
            yield required(f"endpoints[{place}].addresses", "must contain at least 1 address")
        for number, address in enumerate(endpoint.get("addresses") or ()):
            family = _family(address)
            if obj.get("addressType") in ("IPv4", "IPv6") and family != obj["addressType"]:
                why = f"must be a valid {obj['addressType']} address"
                yield wrong(f"endpoints[{place}].addresses[{number}]", address, why)


def _family(address: str) -> str:
    try:
        return f"IPv{ip_address(address).version}"
    except ValueError:
        return ""


_BY_KIND: dict[str, Callable[[Obj, Obj | None], Iterator[Cause]]] = {
    "Pod": _pod,
    "Deployment": _workload,
    "ReplicaSet": _workload,
    "DaemonSet": _workload,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "CronJob": _cron_job,
    "Service": _service,
    "NetworkPolicy": networkpolicy.faults,
    "ConfigMap": _config,
    "Secret": _config,
    "EndpointSlice": _endpoint_slice,
}

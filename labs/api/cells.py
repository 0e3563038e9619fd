"""The cells of tables: what ``kubectl get`` prints about an object, made from the object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from labs.api.clock import age, epoch, span

Obj = dict[str, Any]


def at(obj: Any, steps: Sequence[str], default: Any) -> Any:
    """The value at a path of fields, or the default where there is none."""
    for step in steps:
        obj = obj.get(step) if isinstance(obj, dict) else None
    return default if obj is None or obj == "" else obj


def text(value: Any) -> str:
    """A value as a cell: strings as they are, all else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def count(obj: Obj, done: str, wanted: str) -> str:
    """``2/3``: how many of the wanted ones there are."""
    return f"{at(obj, done.split('.'), 0)}/{at(obj, wanted.split('.'), 0)}"


def since(moment: str) -> str:
    """An age, or ``<none>`` where there is no time."""
    return age(moment) if moment else "<none>"


def labels(pairs: Obj) -> str:
    """``a=b,c=d`` or ``<none>``."""
    return ",".join(f"{key}={value}" for key, value in sorted(pairs.items())) or "<none>"


def selector(obj: Obj) -> str:
    """A LabelSelector in the notation of the command line, in the order of its keys."""
    parts = [(key, f"{key}={value}") for key, value in (obj.get("matchLabels") or {}).items()]
    for need in obj.get("matchExpressions") or ():
        key, values = need["key"], ",".join(sorted(need.get("values") or ()))
        shown = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": "!" + key,
        }
        parts.append((key, shown.get(need["operator"], "")))
    return ",".join(text for _, text in sorted(parts)) or "<none>"


def template_columns(path: str) -> list[tuple[str, Callable[[Obj], Any]]]:
    """The wide columns of everything with a pod template: containers, images and, where asked, the selector."""

    def containers(field: str) -> Callable[[Obj], str]:
        steps = ("spec", "template", "spec", "containers")
        return lambda obj: ",".join(c.get(field, "") for c in at(obj, steps, []))

    columns: list[tuple[str, Callable[[Obj], Any]]] = [
        ("Containers*", containers("name")),
        ("Images*", containers("image")),
    ]
    if path:
        columns.append(("Selector*", lambda obj: _any_selector(at(obj, path.split("."), {}))))
    return columns


def _any_selector(obj: Obj) -> str:
    return selector(obj) if "matchLabels" in obj or "matchExpressions" in obj else labels(obj)


# ---- pods ----


def _statuses(obj: Obj) -> list[Obj]:
    return at(obj, ("status", "containerStatuses"), [])


def pod_ready(obj: Obj) -> str:
    """``1/2``: containers that are ready."""
    ready = sum(bool(status.get("ready")) for status in _statuses(obj))
    return f"{ready}/{len(at(obj, ('spec', 'containers'), []))}"


def pod_status(obj: Obj) -> str:
    """The phase, or the reason that tells more: of the pod, of its containers, or that it is going."""
    status = obj.get("status", {})
    reason = status.get("reason") or status.get("phase", "Unknown")
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    running = False
    for container in reversed(_statuses(obj)):
        state = container.get("state", {})
        waiting, ended = state.get("waiting", {}), state.get("terminated")
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif ended is not None:
            reason = ended.get("reason") or f"ExitCode:{ended.get('exitCode', 0)}"
        elif container.get("ready") and "running" in state:
            running = True
    if reason == "Completed" and running:
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
        reason = "Running" if ready else "NotReady"
    if obj["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return reason


def pod_restarts(obj: Obj) -> str:
    """How often containers started anew, and when last."""
    total = sum(status.get("restartCount", 0) for status in _statuses(obj))
    ends = [at(status, ("lastState", "terminated", "finishedAt"), "") for status in _statuses(obj)]
    last = max(ends, default="")
    return f"{total} ({age(last)} ago)" if total and last else str(total)


def pod_gates(obj: Obj) -> str:
    """``1/2``: readiness gates that are open."""
    gates = at(obj, ("spec", "readinessGates"), [])
    if not gates:
        return "<none>"
    true = {c["type"] for c in at(obj, ("status", "conditions"), []) if c.get("status") == "True"}
    return f"{sum(gate['conditionType'] in true for gate in gates)}/{len(gates)}"


# ---- nodes ----


def node_status(obj: Obj) -> str:
    """Ready or not, and whether pods may be scheduled."""
    conditions = {c["type"]: c["status"] for c in at(obj, ("status", "conditions"), [])}
    words = ["Unknown" if "Ready" not in conditions else "Ready" if conditions["Ready"] == "True" else "NotReady"]
    if at(obj, ("spec", "unschedulable"), False):
        words.append("SchedulingDisabled")
    return ",".join(words)


def node_roles(obj: Obj) -> str:
    """The roles its labels tell."""
    stem = "node-role.kubernetes.io/"
    held = obj["metadata"].get("labels", {})
    roles = {key.removeprefix(stem) for key in held if key.startswith(stem)} | {
        value for key, value in held.items() if key == "kubernetes.io/role"
    }
    return ",".join(sorted(roles - {""})) or "<none>"


def node_address(obj: Obj, kind: str) -> str:
    """The first address of a kind."""
    return next((a["address"] for a in at(obj, ("status", "addresses"), []) if a["type"] == kind), "<none>")


# ---- services and endpoints ----


def service_cluster_ip(obj: Obj) -> str:
    """The cluster address; None for a headless Service."""
    return at(obj, ("spec", "clusterIP"), "<none>")


def service_external_ip(obj: Obj) -> str:
    """Addresses reachable from outside."""
    spec = obj.get("spec", {})
    given = list(spec.get("externalIPs", ()))
    if spec.get("type") == "LoadBalancer":
        ingress = at(obj, ("status", "loadBalancer", "ingress"), [])
        given = [entry.get("ip") or entry.get("hostname", "") for entry in ingress] + given
        return ",".join(given) or "<pending>"
    if spec.get("type") == "ExternalName":
        return spec.get("externalName", "")
    return ",".join(given) or "<none>"


def service_ports(obj: Obj) -> str:
    """``80:30080/TCP``."""
    parts = []
    for port in at(obj, ("spec", "ports"), []):
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        parts.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(parts) or "<none>"


def _joined_address(address: str, port: Any) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _some(parts: list[str]) -> str:
    more = f" + {len(parts) - 3} more..." if len(parts) > 3 else ""
    return ",".join(parts[:3]) + more if parts else "<none>"


def endpoints(obj: Obj) -> str:
    """The first ready addresses with their ports."""
    parts = []
    for subset in obj.get("subsets", ()):
        addresses = [a["ip"] for a in subset.get("addresses", ())]
        ports = [p["port"] for p in subset.get("ports", ())]
        parts += [_joined_address(a, p) for p in ports for a in addresses] if ports else addresses
    return _some(parts)


def slice_ports(obj: Obj) -> str:
    """The ports of a slice."""
    ports = obj.get("ports")
    if not ports:
        return "<unset>"
    return _some_short([str(p.get("port") or p.get("name") or "*") for p in ports])


def slice_endpoints(obj: Obj) -> str:
    """The first addresses of a slice."""
    addresses = [address for endpoint in obj.get("endpoints") or () for address in endpoint.get("addresses", ())]
    return _some_short(addresses) if addresses else "<unset>"


def _some_short(parts: list[str]) -> str:
    return ",".join(parts[:3]) + (f" + {len(parts) - 3} more..." if len(parts) > 3 else "")


def ingress_hosts(obj: Obj) -> str:
    """The hosts of the rules."""
    hosts = [rule["host"] for rule in at(obj, ("spec", "rules"), []) if rule.get("host")]
    return ",".join(hosts[:3]) + (f" + {len(hosts) - 3} more..." if len(hosts) > 3 else "") if hosts else "*"


def ingress_address(obj: Obj) -> str:
    """Where the ingress is reached."""
    return ",".join(e.get("ip") or e.get("hostname", "") for e in at(obj, ("status", "loadBalancer", "ingress"), []))


# ---- events ----


def event_last_seen(obj: Obj) -> str:
    """When it happened last."""
    moment = at(obj, ("series", "lastObservedTime"), "") or obj.get("lastTimestamp") or event_first(obj)
    return age(moment)


def event_first(obj: Obj) -> str:
    """The time it happened first."""
    return obj.get("firstTimestamp") or obj.get("eventTime") or obj["metadata"].get("creationTimestamp", "")


def event_first_seen(obj: Obj) -> str:
    """How long ago it happened first."""
    return age(event_first(obj))


def event_object(obj: Obj) -> str:
    """``pod/web-0``."""
    about = obj.get("involvedObject", {})
    return f"{about.get('kind', '').lower()}/{about.get('name', '')}"


def event_source(obj: Obj) -> str:
    """Who reports it."""
    source = obj.get("source", {})
    parts = (source.get("component") or obj.get("reportingComponent", ""), source.get("host", ""))
    return ", ".join(filter(None, parts))


def event_count(obj: Obj) -> int:
    """How often it happened."""
    return at(obj, ("series", "count"), 0) or obj.get("count") or 1


# ---- jobs and the rest ----


def job_status(obj: Obj) -> str:
    """How a job stands."""
    true = {c["type"] for c in at(obj, ("status", "conditions"), []) if c.get("status") == "True"}
    for condition, word in (("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended")):
        if condition in true:
            return word
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return "FailureTarget" if "FailureTarget" in true else "Running"


def job_completions(obj: Obj) -> str:
    """``1/3``."""
    spec, done = obj.get("spec", {}), at(obj, ("status", "succeeded"), 0)
    if spec.get("completions") is not None:
        return f"{done}/{spec['completions']}"
    parallel = spec.get("parallelism", 1)
    return f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"


def job_duration(obj: Obj) -> str:
    """How long it ran, or runs."""
    status = obj.get("status", {})
    start, end = status.get("startTime"), status.get("completionTime")
    if not start:
        return ""
    return span(epoch(end) - epoch(start)) if end else age(start)


def owner(obj: Obj) -> str:
    """The controlling owner."""
    refs = obj["metadata"].get("ownerReferences", ())
    return next((f"{r['kind'].lower()}/{r['name']}" for r in refs if r.get("controller")), "<none>")


def access_modes(modes: Sequence[str]) -> str:
    """``RWO,ROX``."""
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return ",".join(short.get(mode, mode) for mode in modes)


def role_ref(obj: Obj) -> str:
    """``Role/reader``."""
    ref = obj.get("roleRef", {})
    return f"{ref.get('kind', '')}/{ref.get('name', '')}"


def scale_target(obj: Obj) -> str:
    """``Deployment/web``."""
    ref = at(obj, ("spec", "scaleTargetRef"), {})
    return f"{ref.get('kind', '')}/{ref.get('name', '')}"


def template_nodes(obj: Obj) -> str:
    """The node selector of the template."""
    return labels(at(obj, ("spec", "template", "spec", "nodeSelector"), {}))

"""What the API server fills in where the author of an object said nothing. Functions change the object in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Obj = dict[str, Any]
NODE_TROUBLE_SECONDS = 300
_RBAC = "rbac.authorization.k8s.io"
_SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def default(obj: Obj) -> None:
    """Fills in the defaults of a built-in object, by its kind."""
    fill = _BY_KIND.get(obj["kind"])
    if fill is not None:
        fill(obj)


def _fill(target: Obj, **values: Any) -> None:
    for key, value in values.items():
        target.setdefault(key, value)


def pod_spec(spec: Obj) -> None:
    """Defaults of a pod's spec, alone or in a template."""
    _fill(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes", ()):
        _volume(volume)
    if "serviceAccountName" in spec:
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    elif "serviceAccount" in spec:
        spec["serviceAccountName"] = spec["serviceAccount"]


def _container(container: Obj, *, host_network: bool) -> None:
    image = container.get("image", "")
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    latest = tag in ("", "latest") and "@" not in image
    _fill(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy="Always" if latest else "IfNotPresent",
    )
    for port in container.get("ports", ()):
        _fill(port, protocol="TCP")
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            _probe(container[name])
    limits = container["resources"].get("limits")
    if limits:
        container["resources"]["requests"] = limits | container["resources"].get("requests", {})
    for hook in container.get("lifecycle", {}).values():
        if isinstance(hook, dict) and "httpGet" in hook:
            _fill(hook["httpGet"], path="/", scheme="HTTP")
    for variable in container.get("env", ()):
        _field_reference(variable.get("valueFrom", {}))


def _field_reference(source: Obj) -> None:
    if "fieldRef" in source:
        _fill(source["fieldRef"], apiVersion="v1")


def _probe(probe: Obj) -> None:
    _fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    if "httpGet" in probe:
        _fill(probe["httpGet"], path="/", scheme="HTTP")
    if "grpc" in probe:
        _fill(probe["grpc"], service="")


def _volume(volume: Obj) -> None:
    for kind in ("configMap", "secret", "projected", "downwardAPI"):
        if isinstance(volume.get(kind), dict):
            _fill(volume[kind], defaultMode=420)
    if isinstance(volume.get("hostPath"), dict):
        _fill(volume["hostPath"], type="")
    parts = [volume.get("downwardAPI") or {}]
    for source in (volume.get("projected") or {}).get("sources", ()):
        parts.append(source.get("downwardAPI") or {})
        if "serviceAccountToken" in source:
            _fill(source["serviceAccountToken"], expirationSeconds=3600)
    for item in (item for part in parts for item in part.get("items", ())):
        _field_reference(item)
    if len(volume) == 1:
        volume["emptyDir"] = {}


def _pod(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("serviceAccountName", "default")
    priority = _SYSTEM_PRIORITIES.get(spec.get("priorityClassName", ""), 0)
    _fill(spec, enableServiceLinks=True, preemptionPolicy="PreemptLowerPriority", priority=priority)
    pod_spec(spec)
    present = {(t.get("key"), t.get("effect")) for t in spec.get("tolerations", ()) if t.get("operator") != "Equal"}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not {(key, "NoExecute"), (key, None), (None, None)} & present:
            wait = {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NODE_TROUBLE_SECONDS}
            spec.setdefault("tolerations", []).append(wait)
    status = obj.setdefault("status", {})
    _fill(status, phase="Pending", qosClass=_qos(spec))


def _qos(spec: Obj) -> str:
    """BestEffort, Burstable or Guaranteed, from the containers' requests and limits."""
    containers = [*spec.get("containers", ()), *spec.get("initContainers", ())]
    asked = [c.get("resources", {}) for c in containers]
    if not any(r.get("requests") or r.get("limits") for r in asked):
        return "BestEffort"
    full = all({"cpu", "memory"} <= set(r.get("limits", ())) and r.get("requests") == r.get("limits") for r in asked)
    return "Guaranteed" if full else "Burstable"


def _template(obj: Obj, **status: int) -> Obj:
    """Fills in the pod template and the counts a status always shows; returns the spec."""
    _fill(obj.setdefault("status", {}), **status)
    spec = obj.setdefault("spec", {})
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {"creationTimestamp": None})
    if template["metadata"].get("creationTimestamp", "") is None:
        del template["metadata"]["creationTimestamp"]
    if template.get("spec"):
        pod_spec(template["spec"])
    return spec


def _deployment(obj: Obj) -> None:
    spec = _template(obj)
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec.setdefault("strategy", {})
    _fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")


def _replica_set(obj: Obj) -> None:
    spec = _template(obj, replicas=0)
    _fill(spec, replicas=1)


def _replication_controller(obj: Obj) -> None:
    spec = _template(obj, replicas=0)
    labels = spec["template"].get("metadata", {}).get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)
    _fill(spec, replicas=1, **({"selector": dict(labels)} if labels else {}))


def _stateful_set(obj: Obj) -> None:
    spec = _template(obj, replicas=0, availableReplicas=0)
    for claim in spec.get("volumeClaimTemplates", ()):
        _fill(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        _claim(claim)
    _fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady", serviceName="")
    strategy = spec.setdefault("updateStrategy", {})
    _fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), partition=0)
    _fill(spec, persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Retain"})


def _daemon_set(obj: Obj) -> None:
    spec = _template(obj, currentNumberScheduled=0, desiredNumberScheduled=0, numberMisscheduled=0, numberReady=0)
    _fill(spec, revisionHistoryLimit=10)
    strategy = spec.setdefault("updateStrategy", {})
    _fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), maxUnavailable=1, maxSurge=0)


def _job_spec(spec: Obj) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    _fill(
        spec,
        parallelism=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        podReplacementPolicy="TerminatingOrFailed",
    )


def _job(obj: Obj) -> None:
    spec = _template(obj)
    _job_spec(spec)
    if spec.get("manualSelector"):
        return
    uid = obj["metadata"].get("uid")
    if uid and "selector" not in spec:
        marks = {
            "batch.kubernetes.io/controller-uid": uid,
            "controller-uid": uid,
            "batch.kubernetes.io/job-name": obj["metadata"]["name"],
            "job-name": obj["metadata"]["name"],
        }
        meta = spec["template"].setdefault("metadata", {})
        meta["labels"] = meta.get("labels", {}) | marks
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    labels = spec["template"].get("metadata", {}).get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)


def _cron_job(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _fill(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    template = spec.get("jobTemplate", {}).get("spec", {}).get("template", {})
    if template.get("spec"):
        pod_spec(template["spec"])


def _network_policy(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]
    for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
        for port in rule.get("ports", ()):
            _fill(port, protocol="TCP")


def _service(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _fill(spec, sessionAffinity="None", type="ClusterIP")
    if spec["sessionAffinity"] == "ClientIP":
        _fill(spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}), timeoutSeconds=10800)
    for port in spec.get("ports", ()):
        _fill(port, protocol="TCP")
        if spec["type"] != "ExternalName" and "port" in port and port.get("targetPort", 0) in (0, ""):
            port["targetPort"] = port["port"]
    if spec["type"] != "ExternalName":
        _fill(spec, internalTrafficPolicy="Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _fill(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _fill(spec, allocateLoadBalancerNodePorts=True)
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _namespace(obj: Obj) -> None:
    meta = obj["metadata"]
    meta["labels"] = {**meta.get("labels", {}), "kubernetes.io/metadata.name": meta.get("name", "")}
    obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    obj.setdefault("status", {}).setdefault("phase", "Active")


def _endpoint_ports(obj: Obj) -> None:
    for port in obj.get("ports") or ():
        _fill(port, protocol="TCP", name="")


def _endpoints(obj: Obj) -> None:
    for subset in obj.get("subsets", ()):
        for port in subset.get("ports", ()):
            _fill(port, protocol="TCP")


def _secret(obj: Obj) -> None:
    import base64

    _fill(obj, type="Opaque")
    plain = obj.pop("stringData", None)
    if plain:
        obj["data"] = obj.get("data", {}) | {k: base64.b64encode(v.encode()).decode() for k, v in plain.items()}


def _crd(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = names.get("kind", "")
    _fill(names, singular=kind.lower(), listKind=kind + "List")
    _fill(spec, conversion={"strategy": "None"})


def _ingress(obj: Obj) -> None:
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _node(obj: Obj) -> None:
    obj.setdefault("spec", {})
    status = obj.setdefault("status", {})
    spec = obj["spec"]
    if spec.get("podCIDR"):
        spec.setdefault("podCIDRs", [spec["podCIDR"]])
    elif spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))


def _claim(obj: Obj) -> None:
    _fill(obj.setdefault("spec", {}), volumeMode="Filesystem")
    _fill(obj.setdefault("status", {}), phase="Pending")


def _binding(obj: Obj) -> None:
    _fill(obj.setdefault("roleRef", {}), apiGroup=_RBAC)
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            _fill(subject, apiGroup=_RBAC)


_BY_KIND: dict[str, Callable[[Obj], None]] = {
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "ReplicationController": _replication_controller,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "CronJob": _cron_job,
    "NetworkPolicy": _network_policy,
    "Service": _service,
    "Namespace": _namespace,
    "EndpointSlice": _endpoint_ports,
    "Endpoints": _endpoints,
    "Secret": _secret,
    "CustomResourceDefinition": _crd,
    "Ingress": _ingress,
    "Node": _node,
    "PersistentVolumeClaim": _claim,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
}

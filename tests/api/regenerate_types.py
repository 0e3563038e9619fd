"""Writes ``labs/api/types.json``: the fields of every built-in kind, read from the Kubernetes client's models.

Run as ``python -m tests.api.regenerate_types`` after the client was upgraded. The server itself reads only the
file, because importing the client's models takes a second and 60 MB.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from kubernetes.client import models

TARGET = Path(__file__).parents[2] / "labs" / "api" / "types.json"
ROOTS = [
    "V1Namespace",
    "V1Pod",
    "V1Node",
    "V1Service",
    "V1Endpoints",
    "V1ConfigMap",
    "V1Secret",
    "V1ServiceAccount",
    "CoreV1Event",
    "EventsV1Event",
    "V1PersistentVolume",
    "V1PersistentVolumeClaim",
    "V1ReplicationController",
    "V1LimitRange",
    "V1ResourceQuota",
    "V1PodTemplate",
    "V1Deployment",
    "V1ReplicaSet",
    "V1StatefulSet",
    "V1DaemonSet",
    "V1ControllerRevision",
    "V1Job",
    "V1CronJob",
    "V1EndpointSlice",
    "V1NetworkPolicy",
    "V1Ingress",
    "V1IngressClass",
    "V1Lease",
    "V1Role",
    "V1RoleBinding",
    "V1ClusterRole",
    "V1ClusterRoleBinding",
    "V1PodDisruptionBudget",
    "V1CustomResourceDefinition",
    "V2HorizontalPodAutoscaler",
    "V1PriorityClass",
    "V1StorageClass",
    "V1CSIDriver",
    "V1CSINode",
    "V1VolumeAttachment",
    "V1RuntimeClass",
    "V1ValidatingWebhookConfiguration",
    "V1MutatingWebhookConfiguration",
    "V1Scale",
    "V1Binding",
    "V1Eviction",
]
SCALARS = {"str": "s", "int": "i", "bool": "b", "float": "f", "datetime": "t", "bytes": "B", "object": "*"}
INT_OR_STRING = {
    ("ServicePort", "targetPort"), ("NetworkPolicyPort", "port"), ("HTTPGetAction", "port"), ("TCPSocketAction", "port"),
    ("RollingUpdateDeployment", "maxSurge"), ("RollingUpdateDeployment", "maxUnavailable"),
    ("RollingUpdateDaemonSet", "maxSurge"), ("RollingUpdateDaemonSet", "maxUnavailable"),
    ("RollingUpdateStatefulSetStrategy", "maxUnavailable"),
    ("PodDisruptionBudgetSpec", "minAvailable"), ("PodDisruptionBudgetSpec", "maxUnavailable"),
}  # fmt: skip
QUANTITY_MAPS = {
    "limits", "requests", "capacity", "allocatable", "hard", "used", "overhead", "podFixed", "allocatedResources",
    "default", "defaultRequest", "max", "min", "maxLimitRequestRatio",
}  # fmt: skip
QUANTITIES = {("EmptyDirVolumeSource", "sizeLimit"), ("ResourceFieldSelector", "divisor")}


def short(name: str) -> str:
    """``V1PodSpec`` → ``PodSpec``; ``CoreV1Event`` → ``Event``; ``EventsV1Event`` → ``EventsEvent``."""
    return re.sub(r"^(?:Core)?V[12](?:(?:alpha|beta)\d+)?|(?<=[a-z])V1(?=[A-Z])", "", name)


def code(declared: str) -> str:
    """The short form of a declared type, see ``labs.api.types``."""
    if match := re.fullmatch(r"[Ll]ist\[(.*)\]", declared):
        return "[" + code(match[1])
    if match := re.fullmatch(r"[Dd]ict(?:\[|\()str, (.*)[\])]", declared):
        return "{" + code(match[1])
    return SCALARS.get(declared) or short(declared)


def fields(name: str) -> tuple[dict[str, str], set[str]]:
    """One model's fields (``name!`` when required) and the models it mentions."""
    model, owner, found, mentioned = getattr(models, name), short(name), {}, set()
    for attribute, declared in model.openapi_types.items():
        json_name = model.attribute_map[attribute]
        kind = code(declared)
        if (owner, json_name) in INT_OR_STRING:
            kind = "q"
        elif (owner, json_name) in QUANTITIES or (kind == "{s" and json_name in QUANTITY_MAPS):
            kind = "Q" if kind == "s" else "{Q"
        elif json_name == "openAPIV3Schema":
            kind = "*"
        else:
            mentioned.update(re.findall(r"[A-Z]\w*V\d\w+|V\d\w+", declared))
        model_fields = model.model_fields
        field = model_fields.get(attribute) or model_fields.get("var_" + attribute.lstrip("_"))
        required = field is not None and field.is_required()
        found[json_name + ("!" if required else "")] = kind
    return found, mentioned


def main() -> None:
    """Walks the models from the roots and writes the file, one type a line."""
    waiting, types = list(ROOTS), {}
    while waiting:
        name = waiting.pop()
        if short(name) not in types:
            types[short(name)], mentioned = fields(name)
            waiting += mentioned
    lines = [f"{json.dumps(name)}: {json.dumps(types[name], separators=(',', ':'))}" for name in sorted(types)]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

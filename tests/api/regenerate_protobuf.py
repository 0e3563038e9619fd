"""Writes ``labs/api/protobuf.json``: the field numbers of the messages kubectl sends, read from kubectl itself.

Run as ``python -m tests.api.regenerate_protobuf /path/to/kubectl``. The binary carries the descriptors of its messages
(gzipped FileDescriptorProto); their numbers never change, so a newer kubectl only adds to the file.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

from labs.api.protobuf import fields

TARGET = Path(__file__).parents[2] / "labs" / "api" / "protobuf.json"
_PACKAGES = ("k8s.io.apimachinery.pkg.apis.", "k8s.io.apimachinery.pkg.", "k8s.io.api.")
_SCALARS = {1: "d", 2: "d", 3: "i", 4: "i", 5: "i", 8: "b", 9: "s", 12: "y", 13: "i"}
_REPEATED = 3
_ROOTS = """
core.v1: Namespace Pod Node Service Endpoints ConfigMap Secret ServiceAccount Event PersistentVolume
core.v1: PersistentVolumeClaim ReplicationController LimitRange ResourceQuota PodTemplate Binding
apps.v1: Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision
batch.v1: Job CronJob
discovery.v1: EndpointSlice
networking.v1: NetworkPolicy Ingress IngressClass
coordination.v1: Lease
rbac.v1: Role RoleBinding ClusterRole ClusterRoleBinding
policy.v1: PodDisruptionBudget Eviction
events.v1: Event
autoscaling.v1: Scale
autoscaling.v2: HorizontalPodAutoscaler
scheduling.v1: PriorityClass
storage.v1: StorageClass CSIDriver CSINode VolumeAttachment
node.v1: RuntimeClass
admissionregistration.v1: ValidatingWebhookConfiguration MutatingWebhookConfiguration
authorization.v1: SelfSubjectAccessReview
meta.v1: DeleteOptions
"""


def short(name: str) -> str:
    """``.k8s.io.api.core.v1.Pod`` → ``core.v1.Pod``."""
    name = name.lstrip(".")
    for package in _PACKAGES:
        if name.startswith(package):
            return name.removeprefix(package)
    return name


def descriptors(binary: bytes) -> dict[str, dict[str, list[Any]]]:
    """Every message in the binary: field number → [name, type code]."""
    found: dict[str, dict[str, list[Any]]] = {}
    for match in re.finditer(b"\x1f\x8b\x08", binary):
        try:
            body = zlib.decompressobj(31).decompress(binary[match.start() : match.start() + 400_000])
            parts = list(fields(body))
        except (zlib.error, ValueError, IndexError):
            continue  # Three bytes that look like gzip, and are something else.
        if parts and parts[0][0] == 1 and bytes(parts[0][1]).startswith(b"k8s.io/"):
            package = next(bytes(value).decode() for number, value in parts if number == 2)
            for number, value in parts:
                if number == 4:
                    _message(value, package, found)
    return found


def _message(body: bytes, scope: str, found: dict[str, dict[str, list[Any]]]) -> None:
    parts = list(fields(body))
    name = f"{scope}.{bytes(parts[0][1]).decode()}"
    nested: dict[str, dict[str, list[Any]]] = {}
    for number, value in parts:
        if number == 3:
            _message(value, name, nested)
    made = {}
    for number, value in parts:
        if number == 2:
            made.update([_field(value, nested)])
    found[short(name)] = made


def _field(body: bytes, nested: dict[str, dict[str, list[Any]]]) -> tuple[str, list[Any]]:
    about = dict(fields(body))
    kind, label = about[5], about[4]
    if kind == 11:
        target = short(bytes(about[6]).decode())
        if target in nested:  # A map is a repeated message of key and value.
            return str(about[3]), [bytes(about[1]).decode(), "{" + nested[target]["2"][1]]
        code = target
    else:
        code = _SCALARS[kind]
    return str(about[3]), [bytes(about[1]).decode(), ("[" if label == _REPEATED else "") + code]


def main() -> None:
    """Writes the messages reachable from what kubectl sends, one a line."""
    known = descriptors(Path(sys.argv[1]).read_bytes())
    waiting = []
    for line in _ROOTS.strip().splitlines():
        package, _, kinds = line.partition(":")
        waiting += [f"{package}.{kind}" for kind in kinds.split()]
    chosen: dict[str, Any] = {}
    while waiting:
        name = waiting.pop()
        if name in chosen:
            continue
        chosen[name] = known[name]
        waiting += [code.lstrip("[{") for _, code in known[name].values() if "." in code]
    lines = [f"{json.dumps(name)}: {json.dumps(chosen[name], separators=(',', ':'))}" for name in sorted(chosen)]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

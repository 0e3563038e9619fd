"""How lists and maps of the built-in types merge: facts of the Kubernetes API that its client models do not carry.

Everything not named here is atomic: replaced as a whole by a strategic merge patch and owned as a whole in apply.
"""

from __future__ import annotations

from typing import NamedTuple


class ListRule(NamedTuple):
    """``kind`` (atomic, set, map) and ``keys`` rule server-side apply; ``merge_key`` a strategic merge patch.

    ``merge_key`` None means replace; empty means a list of scalars that is united.
    """

    kind: str = "atomic"
    keys: tuple[str, ...] = ()
    merge_key: str | None = None


def _map(*keys: str) -> ListRule:
    return ListRule("map", keys, keys[0])


_SET = ListRule("set", (), "")
_CONTAINER = {
    "ports": _map("containerPort", "protocol"),
    "env": _map("name"),
    "volumeMounts": _map("mountPath"),
    "volumeDevices": _map("devicePath"),
}

LISTS: dict[str, ListRule] = {
    "ObjectMeta.finalizers": _SET,
    "ObjectMeta.ownerReferences": _map("uid"),
    "PodSpec.containers": _map("name"),
    "PodSpec.initContainers": _map("name"),
    "PodSpec.ephemeralContainers": _map("name"),
    "PodSpec.volumes": _map("name"),
    "PodSpec.imagePullSecrets": _map("name"),
    "PodSpec.hostAliases": _map("ip"),
    "PodSpec.topologySpreadConstraints": _map("topologyKey", "whenUnsatisfiable"),
    "PodSpec.resourceClaims": _map("name"),
    "PodSpec.schedulingGates": _map("name"),
    "PodStatus.podIPs": _map("ip"),
    "PodStatus.hostIPs": ListRule("atomic", (), "ip"),
    "ResourceRequirements.claims": ListRule("map", ("name",)),
    "ServiceSpec.ports": _map("port", "protocol"),
    "ServiceAccount.secrets": _map("name"),
    "NodeSpec.podCIDRs": _SET,
    "NodeStatus.addresses": _map("type"),
    "ValidatingWebhookConfiguration.webhooks": _map("name"),
    "MutatingWebhookConfiguration.webhooks": _map("name"),
    **{f"Container.{field}": rule for field, rule in _CONTAINER.items()},
    **{f"EphemeralContainer.{field}": rule for field, rule in _CONTAINER.items()},
}

ATOMIC_FIELDS = frozenset({"PodSpec.nodeSelector", "ServiceSpec.selector", "ReplicationControllerSpec.selector"})

ATOMIC_TYPES = frozenset(
    {
        "LabelSelector",
        "NodeSelector",
        "NodeSelectorTerm",
        "LocalObjectReference",
        "ObjectReference",
        "ConfigMapKeySelector",
        "SecretKeySelector",
        "ObjectFieldSelector",
        "ResourceFieldSelector",
        "TypedLocalObjectReference",
        "SecretReference",
        "CrossVersionObjectReference",
        "ServiceBackendPort",
        "RoleRef",
        "Subject",
        "ScopeSelector",
    }
)

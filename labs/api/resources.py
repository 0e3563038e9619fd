"""Which resources the server serves: one table of facts, and the lookup that also knows custom resources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labs.api.types import Type, named


@dataclass(frozen=True, slots=True)
class Custom:
    """What a custom resource adds: its CRD's name and version entry."""

    crd: str
    schema: dict[str, Any] | None
    columns: tuple[dict[str, Any], ...]
    scale: dict[str, Any] | None
    storage_version: str


@dataclass(frozen=True, slots=True)
class Resource:
    """One served resource. ``store`` is where its objects live: versions of one resource share it."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    type: Type = field(repr=False, compare=False, default_factory=lambda: Type("any"))
    store: str = ""
    custom: Custom | None = field(repr=False, compare=False, default=None)
    list_kind: str = ""

    @property
    def group_version(self) -> str:
        """``apps/v1``, or ``v1`` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def has_status(self) -> bool:
        """Whether status is written through its own subresource only."""
        return "status" in self.subresources

    @property
    def prefix(self) -> bytes:
        """How the encoding of every object of this resource begins."""
        return f'{{"apiVersion":"{self.group_version}","kind":"{self.kind}",'.encode()


# group/version | kind | plural | scope | short names | categories | subresources
_TABLE = """
v1 | Namespace | namespaces | C | ns | | status finalize
v1 | Pod | pods | N | po | all | status binding log eviction exec attach portforward proxy ephemeralcontainers
v1 | Node | nodes | C | no | | status proxy
v1 | Service | services | N | svc | all | status proxy
v1 | Endpoints | endpoints | N | ep | |
v1 | ConfigMap | configmaps | N | cm | |
v1 | Secret | secrets | N | | |
v1 | ServiceAccount | serviceaccounts | N | sa | |
v1 | Event | events | N | ev | |
v1 | PersistentVolume | persistentvolumes | C | pv | | status
v1 | PersistentVolumeClaim | persistentvolumeclaims | N | pvc | | status
v1 | ReplicationController | replicationcontrollers | N | rc | all | status scale
v1 | LimitRange | limitranges | N | limits | |
v1 | ResourceQuota | resourcequotas | N | quota | | status
v1 | PodTemplate | podtemplates | N | | |
apps/v1 | Deployment | deployments | N | deploy | all | status scale
apps/v1 | ReplicaSet | replicasets | N | rs | all | status scale
apps/v1 | StatefulSet | statefulsets | N | sts | all | status scale
apps/v1 | DaemonSet | daemonsets | N | ds | all | status
apps/v1 | ControllerRevision | controllerrevisions | N | | |
batch/v1 | Job | jobs | N | | all | status
batch/v1 | CronJob | cronjobs | N | cj | all | status
discovery.k8s.io/v1 | EndpointSlice | endpointslices | N | | |
networking.k8s.io/v1 | NetworkPolicy | networkpolicies | N | netpol | |
networking.k8s.io/v1 | Ingress | ingresses | N | ing | | status
networking.k8s.io/v1 | IngressClass | ingressclasses | C | | |
coordination.k8s.io/v1 | Lease | leases | N | | |
rbac.authorization.k8s.io/v1 | Role | roles | N | | |
rbac.authorization.k8s.io/v1 | RoleBinding | rolebindings | N | | |
rbac.authorization.k8s.io/v1 | ClusterRole | clusterroles | C | | |
rbac.authorization.k8s.io/v1 | ClusterRoleBinding | clusterrolebindings | C | | |
policy/v1 | PodDisruptionBudget | poddisruptionbudgets | N | pdb | | status
apiextensions.k8s.io/v1 | CustomResourceDefinition | customresourcedefinitions | C | crd crds | api-extensions | status
events.k8s.io/v1 | Event | events | N | ev | |
autoscaling/v2 | HorizontalPodAutoscaler | horizontalpodautoscalers | N | hpa | all | status
scheduling.k8s.io/v1 | PriorityClass | priorityclasses | C | pc | |
storage.k8s.io/v1 | StorageClass | storageclasses | C | sc | |
storage.k8s.io/v1 | CSIDriver | csidrivers | C | | |
storage.k8s.io/v1 | CSINode | csinodes | C | | |
storage.k8s.io/v1 | VolumeAttachment | volumeattachments | C | | | status
node.k8s.io/v1 | RuntimeClass | runtimeclasses | C | | |
admissionregistration.k8s.io/v1 | ValidatingWebhookConfiguration | validatingwebhookconfigurations | C | | api-extensions |
admissionregistration.k8s.io/v1 | MutatingWebhookConfiguration | mutatingwebhookconfigurations | C | | api-extensions |
"""


def _row(line: str) -> Resource:
    gv, kind, plural, scope, shorts, categories, subs = (cell.strip() for cell in line.split("|"))
    group, _, version = gv.rpartition("/")
    return Resource(
        group, version, kind, plural, scope == "N", kind.lower(), tuple(shorts.split()), tuple(categories.split()),
        tuple(subs.split()), named("EventsEvent" if group == "events.k8s.io" else kind),
        # Events are one set of objects seen through two groups.
        "events" if plural == "events" else f"{plural}.{group}" if group else plural, None, kind + "List",
    )  # fmt: skip


BUILT_IN: tuple[Resource, ...] = tuple(_row(line) for line in _TABLE.strip().splitlines())


class Catalog:
    """Every resource served now: the built-in ones and those of custom resource definitions."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {(r.group, r.version, r.plural): r for r in BUILT_IN}
        self._crds: dict[str, tuple[Resource, ...]] = {}
        self.generation = 0
        """Rises with every change, so that what was derived from the catalog can be kept until then."""

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource served at this path, or None."""
        return self._by_path.get((group, version, plural))

    def all(self) -> list[Resource]:
        """Every resource, built-in ones first."""
        return list(self._by_path.values())

    def versions(self, group: str) -> list[str]:
        """The served versions of a group, the preferred one first."""
        found = dict.fromkeys(r.version for r in self._by_path.values() if r.group == group)
        return sorted(found, key=_version_rank)

    def groups(self) -> list[str]:
        """Every named group (the core group is not among them)."""
        return list(dict.fromkeys(r.group for r in self._by_path.values() if r.group))

    def stores(self) -> dict[str, Resource]:
        """One resource for each store: the way to walk over all objects once."""
        found: dict[str, Resource] = {}
        for resource in self._by_path.values():
            found.setdefault(resource.store, resource)
        return found

    def put_crd(self, name: str, resources: tuple[Resource, ...]) -> None:
        """Serves the resources of a definition in place of those it had before; none withdraws it."""
        for old in self._crds.pop(name, ()):
            self._by_path.pop((old.group, old.version, old.plural), None)
        if resources:
            self._crds[name] = resources
            self._by_path.update({(r.group, r.version, r.plural): r for r in resources})
        self.generation += 1


def _version_rank(version: str) -> tuple[int, int, int]:
    """v2 before v1 before v1beta2 before v1beta1 before v1alpha1."""
    body = version.lstrip("v")
    for place, word in enumerate(("alpha", "beta")):
        if word in body:
            major, _, minor = body.partition(word)
            return (2 - place, -int(major or 0), -int(minor or 0))
    return (0, -int(body) if body.isdigit() else 0, 0)

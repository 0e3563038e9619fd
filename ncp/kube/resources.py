"""The Kubernetes resources we speak to, as values."""

from __future__ import annotations

from typing import Final, NamedTuple


class Resource(NamedTuple):
    """One kind of object as the API serves it; ``group`` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """What an object of this kind carries in ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path below which this resource's group and version are served."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection (no ``name``), of one object, or of its subresource.

        An empty ``namespace`` on a namespaced collection means all namespaces.

        Raises:
            ValueError: one namespaced object asked for without its namespace, or a namespace given to a
                resource that has none.
        """
        if namespace and not self.namespaced:
            raise ValueError(f"{self.kind} has no namespaces, but namespace {namespace!r} was given")
        if name and self.namespaced and not namespace:
            raise ValueError(f"{self.kind} {name!r} needs a namespace")
        parts = [self.root]
        if namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


PODS: Final = Resource("", "v1", "pods", "Pod", True)
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", False)
NODES: Final = Resource("", "v1", "nodes", "Node", False)
SERVICES: Final = Resource("", "v1", "services", "Service", True)
EVENTS: Final = Resource("", "v1", "events", "Event", True)
ENDPOINTS: Final = Resource("", "v1", "endpoints", "Endpoints", True)
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap", True)
SECRETS: Final = Resource("", "v1", "secrets", "Secret", True)
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount", True)
ENDPOINT_SLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", True)
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment", True)
REPLICA_SETS: Final = Resource("apps", "v1", "replicasets", "ReplicaSet", True)
STATEFUL_SETS: Final = Resource("apps", "v1", "statefulsets", "StatefulSet", True)
DAEMON_SETS: Final = Resource("apps", "v1", "daemonsets", "DaemonSet", True)
JOBS: Final = Resource("batch", "v1", "jobs", "Job", True)
CRON_JOBS: Final = Resource("batch", "v1", "cronjobs", "CronJob", True)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease", True)
NETWORK_POLICIES: Final = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True)
CUSTOM_RESOURCE_DEFINITIONS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)
CLUSTER_NETWORK_POLICIES: Final = Resource(
    "policy.networking.k8s.io", "v1alpha2", "clusternetworkpolicies", "ClusterNetworkPolicy", False
)
SECURITY_POLICIES: Final = Resource("crd.nsx.vmware.com", "v1alpha1", "securitypolicies", "SecurityPolicy", True)
ADDRESS_BINDINGS: Final = Resource("crd.nsx.vmware.com", "v1alpha1", "addressbindings", "AddressBinding", True)
STATIC_ROUTES: Final = Resource("crd.nsx.vmware.com", "v1alpha1", "staticroutes", "StaticRoute", True)
ROUTERS: Final = Resource("crd.nsx.vmware.com", "v1alpha1", "routers", "Router", False)

EDGE_LEASE: Final = ("kube-system", "ncp-tier0")
"""Namespace and name of the Lease whose holder is the active edge."""

INTENT: Final = (NODES, NAMESPACES, PODS, NETWORK_POLICIES, SERVICES, ENDPOINT_SLICES)
"""What the network follows from, served by every API server."""
OPTIONAL: Final = frozenset({ENDPOINT_SLICES})
"""Of what every API server serves, what very old ones do not."""
INSTEAD: Final = {ENDPOINT_SLICES.kind: ENDPOINTS}
"""What says the same there (Kubernetes before 1.21), by the kind it stands in for."""
POLICY_CUSTOM: Final = (CLUSTER_NETWORK_POLICIES, SECURITY_POLICIES)
"""Policies, where their definitions are."""
INTENT_CUSTOM: Final = (*POLICY_CUSTOM, ADDRESS_BINDINGS)
"""What it follows from as well, where their definitions are."""

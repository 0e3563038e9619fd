"""The controllers as values: which changes make them look at which object, and what they then plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from labs.cluster import daemonsets, deployments, endpoints, jobs, mirroring, replicasets, statefulsets
from labs.cluster.pods import controller_of, is_leaving, is_ready
from labs.cluster.revisions import CONTROLLER_REVISIONS
from labs.cluster.selectors import equal_labels, matches
from labs.cluster.slicing import SERVICE_LABEL
from labs.cluster.view import View
from labs.cluster.writes import Plan, Write
from ncp.kube.reflector import Key
from ncp.kube.resources import (
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    JOBS,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)

Json = dict[str, Any]
Keys = Callable[[View, Json], Iterable[Key]]
Planner = Callable[[View, Json, float], Plan]

STATUS_DELAY = 0.03  # seconds in which changes of many children become one look at their owner


class Watch(NamedTuple):
    """A resource whose changes concern a controller: the keys to look at for an object, and after what delay."""

    resource: Resource
    keys: Keys
    delay: float = STATUS_DELAY


class Controller(NamedTuple):
    """One controller: ``plan`` is called with an object of ``resource``, ``gone`` with its key once it is no more.

    ``others`` are further resources it reads.
    """

    name: str
    resource: Resource
    plan: Planner
    watches: tuple[Watch, ...] = ()
    others: tuple[Resource, ...] = ()
    gone: Callable[[View, Key], list[Write]] | None = None


def matters(resource: Resource, old: Json | None, new: Json | None) -> bool:
    """Whether a change can concern anybody: of pods and nodes, most changes concern none of the controllers."""
    if old is None or new is None:
        return True
    if resource == PODS:
        return _pod_facts(old) != _pod_facts(new)
    if resource == NODES:
        return _node_facts(old) != _node_facts(new)
    return True


def _pod_facts(pod: Json) -> tuple[Any, ...]:
    metadata, status = pod["metadata"], pod.get("status", {})
    return (
        metadata["uid"],
        metadata.get("labels"),
        metadata.get("ownerReferences"),
        is_leaving(pod),
        pod["spec"].get("nodeName"),
        status.get("phase"),
        is_ready(pod),
        status.get("podIPs"),
    )


def _node_facts(node: Json) -> tuple[Any, ...]:
    status = node.get("status", {})
    return (
        node["metadata"]["uid"],
        node["metadata"].get("labels"),
        node["spec"],
        is_ready(node),
        status.get("allocatable"),
    )


def _key(obj: Json) -> Key:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _owner(kind: str) -> Keys:
    def keys(_: View, obj: Json) -> Iterable[Key]:
        owner = controller_of(obj)
        if owner is not None and owner.get("kind") == kind:
            yield (obj["metadata"]["namespace"], owner["name"])

    return keys


def _replica_sets_of(view: View, pod: Json) -> Iterable[Key]:
    if controller_of(pod) is not None:
        yield from _owner("ReplicaSet")(view, pod)
        return
    for each in view.within(REPLICA_SETS, pod["metadata"]["namespace"]):  # an orphan may be adopted
        if matches(each["spec"].get("selector"), pod["metadata"].get("labels")):
            yield _key(each)


def _recreating(view: View, pod: Json) -> Iterable[Key]:
    """The deployment of a pod, where it waits for its old pods to be gone."""
    for key in _owner("ReplicaSet")(view, pod):
        replica_set = view.get(REPLICA_SETS, key)
        for name in _owner("Deployment")(view, replica_set) if replica_set else ():
            deployment = view.get(DEPLOYMENTS, name)
            if deployment and (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
                yield name


def _services_of(view: View, pod: Json) -> Iterable[Key]:
    for each in view.within(SERVICES, pod["metadata"]["namespace"]):
        if equal_labels(each["spec"].get("selector"), pod["metadata"].get("labels")):
            yield _key(each)


def _service_named(_: View, endpoint_slice: Json) -> Iterable[Key]:
    name = (endpoint_slice["metadata"].get("labels") or {}).get(SERVICE_LABEL)
    if name:
        yield (endpoint_slice["metadata"]["namespace"], name)


def _every_service(view: View, _: Json) -> Iterable[Key]:
    return [_key(each) for each in view.all(SERVICES)]  # endpoints tell their nodes' zones


def _every_daemon_set(view: View, _: Json) -> Iterable[Key]:
    return [_key(each) for each in view.all(DAEMON_SETS)]


def _namespace(obj: Json) -> str:
    return str(obj["metadata"]["namespace"])


def _plan_deployment(view: View, deployment: Json, now: float) -> Plan:
    sets = view.within(REPLICA_SETS, _namespace(deployment))
    recreates = (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"
    pods = view.within(PODS, _namespace(deployment)) if recreates else []
    return deployments.plan(deployment, sets, pods, now)


def _plan_replica_set(view: View, replica_set: Json, now: float) -> Plan:
    return replicasets.plan(replica_set, view.within(PODS, _namespace(replica_set)), now)


def _plan_stateful_set(view: View, stateful_set: Json, now: float) -> Plan:
    space = _namespace(stateful_set)
    return statefulsets.plan(stateful_set, view.within(PODS, space), view.within(CONTROLLER_REVISIONS, space), now)


def _plan_daemon_set(view: View, daemon_set: Json, now: float) -> Plan:
    space = _namespace(daemon_set)
    revisions = view.within(CONTROLLER_REVISIONS, space)
    return daemonsets.plan(daemon_set, view.all(NODES), view.within(PODS, space), revisions, now)


def _plan_job(view: View, job: Json, now: float) -> Plan:
    return jobs.plan(job, view.within(PODS, _namespace(job)), now)


def _slices_named(view: View, key: Key) -> list[Json]:
    return [
        each
        for each in view.within(ENDPOINT_SLICES, key[0])
        if (each["metadata"].get("labels") or {}).get(SERVICE_LABEL) == key[1] and not is_leaving(each)
    ]


def _plan_slices(view: View, service: Json, now: float) -> Plan:
    nodes = {each["metadata"]["name"]: each for each in view.all(NODES)}
    held = _slices_named(view, _key(service))
    return Plan(endpoints.slices(service, view.within(PODS, _namespace(service)), nodes, held))


def _plan_mirror(view: View, held: Json, now: float) -> Plan:
    key = _key(held)
    return Plan(mirroring.mirror(held, view.get(SERVICES, key), _slices_named(view, key)))


def _plan_endpoints(view: View, service: Json, now: float) -> Plan:
    held = view.get(ENDPOINTS, _key(service))
    return Plan(endpoints.endpoints(service, view.within(PODS, _namespace(service)), held))


def _leftover_endpoints(view: View, key: Key) -> list[Write]:
    return endpoints.leftover(view.get(ENDPOINTS, key))


def _itself(_: View, obj: Json) -> Iterable[Key]:
    yield _key(obj)


CONTROLLERS = (
    Controller(
        "deployment",
        DEPLOYMENTS,
        _plan_deployment,
        (Watch(REPLICA_SETS, _owner("Deployment")), Watch(PODS, _recreating)),
    ),
    Controller("replicaset", REPLICA_SETS, _plan_replica_set, (Watch(PODS, _replica_sets_of),)),
    Controller(
        "statefulset", STATEFUL_SETS, _plan_stateful_set, (Watch(PODS, _owner("StatefulSet")),), (CONTROLLER_REVISIONS,)
    ),
    Controller(
        "daemonset",
        DAEMON_SETS,
        _plan_daemon_set,
        (Watch(PODS, _owner("DaemonSet")), Watch(NODES, _every_daemon_set)),
        (CONTROLLER_REVISIONS,),
    ),
    Controller("job", JOBS, _plan_job, (Watch(PODS, _owner("Job")),)),
    Controller(
        "endpointslice",
        SERVICES,
        _plan_slices,
        (Watch(PODS, _services_of, 0.01), Watch(ENDPOINT_SLICES, _service_named), Watch(NODES, _every_service)),
    ),
    Controller(
        "endpointslicemirroring",
        ENDPOINTS,
        _plan_mirror,
        (Watch(SERVICES, _itself), Watch(ENDPOINT_SLICES, _service_named)),
    ),
    Controller(
        "endpoints",
        SERVICES,
        _plan_endpoints,
        (Watch(PODS, _services_of, 0.02), Watch(ENDPOINTS, _itself)),
        gone=_leftover_endpoints,
    ),
)

"""What the manager says on policies, against an API server: how far they are realised, what is wrong with them."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from labs import crds
from labs.api.testing import EmbeddedApi
from ncp.kube.client import Kube
from ncp.kube.errors import NotFound
from ncp.kube.resources import (
    CLUSTER_NETWORK_POLICIES,
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    NAMESPACES,
    NETWORK_POLICIES,
    SECURITY_POLICIES,
    Resource,
)
from ncp.manager import policies
from ncp.manager.policies import PolicyStatus
from tests.manager.conftest import eventually
from tests.manager.test_coverage import FABRIC, pod
from tests.manager.test_coverage import namespace as labelled

FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "clusternetworkpolicies.policy.networking.k8s.io"},
    "spec": {
        "group": "policy.networking.k8s.io",
        "scope": "Cluster",
        "names": {"plural": "clusternetworkpolicies", "kind": "ClusterNetworkPolicy"},
        "versions": [
            {
                "name": "v1alpha2",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": FREE, "status": FREE}}},
            }
        ],
    },
}
"""Takes any spec: what is wrong with one is then for us to say, as on a server with a later version of the API."""
WEB = {"podSelector": {"matchLabels": {"app": "web"}}}
DROPS_WEB = {"appliedTo": [WEB], "rules": [{"action": "Drop", "direction": "In"}]}
DENY = {"action": "Deny", "from": [{"namespaces": {}}]}
FAULTY = {"tier": "Middle", "priority": 1, "subject": {"namespaces": {}}, "ingress": [DENY]}
_numbers = itertools.count(1)


class Cluster:
    """A namespace of the test's own with policies in it, and the pods that the manager hears of."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.space = f"s{next(_numbers)}"
        self.is_leader = True
        self.pods: dict[str, dict[str, Any]] = {}
        self._made: list[tuple[Resource, str, str]] = []
        self._running: PolicyStatus | None = None
        kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.space}})

    def make(self, resource: Resource, spec: dict[str, Any], name: str = "p", **annotations: str) -> Policy:
        meta = {"name": name if resource.namespaced else f"{self.space}-{name}"}
        meta |= {"annotations": {f"ncp/realised.{node}": value for node, value in annotations.items()}}
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, "spec": spec}
        found = self.kube.create(resource, obj, self.space if resource.namespaced else "")
        self._made.append((resource, found["metadata"]["name"], found["metadata"].get("namespace", "")))
        return Policy(self.kube, resource, *self._made[-1][1:])

    def pod(self, name: str, node: str | None) -> None:
        """A pod with the label app=web runs on a node from now on; None: it is gone."""
        if node is None:
            del self.pods[name]
        else:
            self.pods[name] = pod(name, node, space=self.space)
        if self._running:
            self._running.see("Pod", (self.space, name), self.pods.get(name))

    @contextmanager
    def manager(self, kube: Kube | None = None) -> Iterator[PolicyStatus]:
        """The status of policies is kept, as in the term of a leader."""
        with self.beginning(kube) as status:
            status.synced()
            yield status

    @contextmanager
    def beginning(self, kube: Kube | None = None) -> Iterator[PolicyStatus]:
        """The same before every pod is known."""
        status = self._running = PolicyStatus(kube or self.kube, FABRIC, lambda: self.is_leader)
        try:
            status.start()
            status.see("Namespace", ("", self.space), labelled(self.space))
            for name, obj in self.pods.items():
                status.see("Pod", (self.space, name), obj)
            yield status
        finally:
            self._running = None
            status.stop()

    def clean(self) -> None:
        for each in self._made:
            with contextlib.suppress(NotFound):
                self.kube.delete(*each)
        self.kube.delete(NAMESPACES, self.space)


class Policy:
    """A policy on the API server."""

    def __init__(self, kube: Kube, resource: Resource, name: str, space: str) -> None:
        self.kube, self.resource, self.name, self.space = kube, resource, name, space

    def now(self) -> dict[str, Any]:
        return self.kube.get(self.resource, self.name, self.space)

    def notes(self) -> dict[str, str]:
        return self.now()["metadata"].get("annotations") or {}

    def condition(self) -> dict[str, Any]:
        conditions = (self.now().get("status") or {}).get("conditions") or ()
        return next((each for each in conditions if each["type"] == "Realized"), {})

    def change(self, **body: Any) -> dict[str, Any]:
        return self.kube.patch(self.resource, self.name, self.space, body=body)

    def say(self, **by_node: str | None) -> None:
        """Nodes say that they enforce a generation."""
        notes = {f"ncp/realised.{node}": value for node, value in by_node.items()}
        self.change(metadata={"annotations": notes})

    def delete(self) -> None:
        self.kube.delete(self.resource, self.name, self.space)

    def becomes(self, realisation: str) -> None:
        eventually(lambda: self.notes().get("ncp/realisation") == realisation, f"{self.name} is {realisation}", 5)

    def settles(self, **wanted: Any) -> dict[str, Any]:
        """The condition, once it says so."""
        return eventually(lambda: wanted.items() <= (found := self.condition()).items() and found, f"{wanted}", 5)

    def events(self) -> list[dict[str, Any]]:
        found, _ = self.kube.list(EVENTS, self.space or "default")
        return [each for each in found if each["involvedObject"]["uid"] == self.now()["metadata"]["uid"]]


@pytest.fixture(scope="module")
def kube() -> Iterator[Kube]:
    with EmbeddedApi() as api:
        found = Kube.connect(str(api.kubeconfig))
        for definition in (*crds.definitions(), DEFINITION):
            found.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
        yield found
        found.close()


@pytest.fixture
def cluster(kube: Kube) -> Iterator[Cluster]:
    found = Cluster(kube)
    yield found
    found.clean()


def test_a_policy_is_realised_once_every_node_with_a_pod_of_it_says_so(cluster: Cluster):
    cluster.pod("a", "node1")
    cluster.pod("b", "node2")
    policy = cluster.make(NETWORK_POLICIES, WEB)
    with cluster.manager():
        policy.becomes("Realizing 0/2")
        policy.say(node1="1")
        policy.becomes("Realizing 1/2")
        policy.say(node2="1")
        policy.becomes("Realized 2/2")
        policy.change(spec=WEB | {"policyTypes": ["Egress"]})
        policy.becomes("Realizing 0/2")
        policy.say(node1="2", node2="2")
        policy.becomes("Realized 2/2")
        cluster.pod("c", "node3")
        policy.becomes("Realizing 2/3")


def test_what_a_node_says_goes_with_its_last_pod(cluster: Cluster):
    cluster.pod("a", "node1")
    cluster.pod("b", "node2")
    policy = cluster.make(NETWORK_POLICIES, WEB, node1="1", node2="1")
    with cluster.manager():
        policy.becomes("Realized 2/2")
        cluster.pod("b", "node1")
        policy.becomes("Realized 1/1")
        assert policy.notes() == {"ncp/realisation": "Realized 1/1", "ncp/realised.node1": "1"}
        cluster.pod("a", None)
        cluster.pod("b", None)
        policy.becomes("Realized 0/0")
        assert policy.notes() == {"ncp/realisation": "Realized 0/0"}


@pytest.mark.parametrize("resource", [SECURITY_POLICIES, CLUSTER_NETWORK_POLICIES], ids=lambda one: one.kind)
def test_custom_policies_say_it_as_a_condition_too(cluster: Cluster, resource: Resource):
    own = {"matchLabels": {"kubernetes.io/metadata.name": cluster.space}}
    spec = {"tier": "Admin", "priority": 7, "subject": {"namespaces": own}, "ingress": [DENY]}
    cluster.pod("a", "node1")
    policy = cluster.make(resource, DROPS_WEB if resource.namespaced else spec)
    theirs = {"type": "Theirs", "status": "True", "reason": "Said", "message": "", "observedGeneration": 1}
    theirs["lastTransitionTime"] = long_ago = "2026-01-01T00:00:00Z"
    cluster.kube.patch(
        resource, policy.name, policy.space, body={"status": {"conditions": [theirs]}}, subresource="status"
    )
    with cluster.manager():
        waits = policy.settles(status="False", reason="Realizing", observedGeneration=1)
        assert waits["message"] == "enforced by 0 of the 1 nodes with pods it applies to"
        policy.say(node1="1")
        done = policy.settles(status="True", reason="Realized", observedGeneration=1)
        done["lastTransitionTime"] = long_ago
        cluster.kube.patch(
            resource, policy.name, policy.space, body={"status": {"conditions": [theirs, done]}}, subresource="status"
        )
        cluster.pod("b", "node2")
        policy.say(node2="1")
        policy.settles(status="True", message="enforced by 2 of the 2 nodes with pods it applies to")
        conditions = {each["type"]: each for each in policy.now()["status"]["conditions"]}
    assert conditions["Theirs"] == theirs, "what others say stays"
    assert len(conditions) == 2


def test_the_time_of_a_condition_is_that_of_its_status(cluster: Cluster):
    cluster.pod("a", "node1")
    policy = cluster.make(SECURITY_POLICIES, DROPS_WEB)
    with cluster.manager():
        first = policy.settles(status="False")
        old = first | {"lastTransitionTime": "2026-01-01T00:00:00Z"}
        cluster.kube.patch(
            SECURITY_POLICIES, policy.name, policy.space, body={"status": {"conditions": [old]}}, subresource="status"
        )
        policy.change(spec=DROPS_WEB | {"priority": 9})
        assert policy.settles(observedGeneration=2)["lastTransitionTime"] == "2026-01-01T00:00:00Z"
        policy.say(node1="2")
        assert policy.settles(status="True")["lastTransitionTime"] > "2026-01-01T00:00:00Z"


def test_a_faulty_policy_says_what_is_wrong_until_it_is_mended(cluster: Cluster):
    policy = cluster.make(CLUSTER_NETWORK_POLICIES, FAULTY)
    fault = "spec.tier: 'Middle'; allowed: Admin, Baseline"
    with cluster.manager():
        policy.becomes("Invalid 0/0")
        assert policy.notes()["ncp/error.policy"] == f"POLICY_INVALID: {fault}"
        assert policy.settles(status="False", reason="Invalid")["message"] == fault
        (event,) = eventually(policy.events, "an event")
        assert (event["type"], event["reason"]) == ("Warning", "POLICY_INVALID")
        assert event["message"].endswith(fault)
        cluster.pod("a", "node1")
        policy.becomes("Invalid 0/1")
        policy.change(spec={"tier": "Admin"})
        policy.becomes("Realizing 0/1")
        assert "ncp/error.policy" not in policy.notes()
        assert [each["count"] for each in policy.events()] == [1], "told once, whatever else is written"


def test_only_a_leader_writes_and_what_it_missed_it_makes_good(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(policies, "RETRY", 0.1)
    cluster.is_leader = False
    policy = cluster.make(NETWORK_POLICIES, WEB)
    before = policy.now()
    with cluster.manager() as status:
        assert status.reflectors["NetworkPolicy"].synced.wait(5)
        assert never(lambda: policy.now() != before)
        cluster.is_leader = True
        policy.becomes("Realized 0/0")


def never(look: Callable[[], object], seconds: float = 0.25) -> bool:
    """Whether it is not so for a while."""
    try:
        eventually(look, "", seconds)
    except AssertionError:
        return True
    return False


def test_nothing_is_said_before_every_pod_is_known(cluster: Cluster):
    """A manager that begins must not take a policy's nodes for none, and what they said for stale."""
    cluster.pod("a", "node1")
    known = cluster.make(NETWORK_POLICIES, WEB, node1="1")
    pods, cluster.pods = cluster.pods, {}
    with cluster.beginning() as status:
        assert status.reflectors["NetworkPolicy"].synced.wait(5)
        before = known.now()
        assert never(lambda: known.now() != before)
        for name, obj in pods.items():
            status.see("Pod", (cluster.space, name), obj)
        status.synced()
        known.becomes("Realized 1/1")
        assert known.notes()["ncp/realised.node1"] == "1"


class Meddler(Kube):
    """A client before whose first write of a policy's status somebody else comes in."""

    def meanwhile(self, act: Callable[[], object]) -> Meddler:
        self.acts = [act]
        self.refused = threading.Event()
        return self

    def patch(self, *arguments: Any, subresource: str = "", **more: Any) -> dict[str, Any]:
        if subresource == "status" and self.acts:
            self.acts.pop()()
            try:
                return super().patch(*arguments, subresource=subresource, **more)
            except Exception:
                self.refused.set()
                raise
        return super().patch(*arguments, subresource=subresource, **more)


def test_a_write_that_meets_another_is_tried_again(cluster: Cluster):
    cluster.pod("a", "node1")
    policy = cluster.make(SECURITY_POLICIES, DROPS_WEB)
    kube = Meddler(cluster.kube.access).meanwhile(lambda: policy.change(metadata={"labels": {"their": "own"}}))
    with cluster.manager(kube):
        policy.settles(status="False", reason="Realizing")
        assert kube.refused.is_set()
        assert policy.now()["metadata"]["labels"] == {"their": "own"}


def test_a_policy_that_is_deleted_before_it_is_written_holds_nobody_up(cluster: Cluster):
    gone = cluster.make(SECURITY_POLICIES, DROPS_WEB, "a-gone")
    stays = cluster.make(SECURITY_POLICIES, DROPS_WEB, "b-stays")
    kube = Meddler(cluster.kube.access).meanwhile(gone.delete)
    with cluster.manager(kube):
        stays.becomes("Realized 0/0")
        assert kube.refused.is_set()


def test_a_policy_in_a_shape_nobody_foresaw_holds_nobody_up(cluster: Cluster):
    odd = cluster.make(CLUSTER_NETWORK_POLICIES, FAULTY)
    body = {"status": {"conditions": ["odd"]}}
    cluster.kube.patch(CLUSTER_NETWORK_POLICIES, odd.name, body=body, subresource="status")
    plain = cluster.make(NETWORK_POLICIES, WEB)
    with cluster.manager():
        plain.becomes("Realized 0/0")


def test_nothing_is_written_after_the_end(cluster: Cluster):
    policy = cluster.make(NETWORK_POLICIES, WEB)
    with cluster.manager() as status:
        policy.becomes("Realized 0/0")
    status.see("Pod", (cluster.space, "late"), pod("late", space=cluster.space))
    before = policy.now()
    assert never(lambda: policy.now() != before)


def test_the_manager_itself_tells_of_the_pods_it_gave_addresses(client, api):
    """The whole way: a pod of a real manager, and a node that answers."""
    with client.manager():
        client.namespace("a")
        client.pod("a", "p")
        client.has("ncp/port", "a", "p")
        client.kube.bind("p", "a", "node1")
        meta = {"name": "all", "namespace": "a"}
        client.kube.create(NETWORK_POLICIES, {"metadata": meta, "spec": {"podSelector": {}}})
        policy = Policy(client.kube, NETWORK_POLICIES, "all", "a")
        policy.becomes("Realizing 0/1")
        policy.say(node1="1")
        policy.becomes("Realized 1/1")

"""Changes to a cluster, and waiting until they are in force: on every switch exactly the flows of the intent, and every policy
said to be realised."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from ncp.cli import nodeapi
from ncp.kube.client import Kube
from ncp.kube.errors import AlreadyExists, NotFound
from ncp.kube.resources import NAMESPACES, PODS, Resource
from ncp.manager.coverage import realisation
from ncp.probe import run
from ncp.probe.site import BRIDGE, Site
from ncp.verify.errors import NotRealised
from ncp.verify.policies import RESOURCES, enforcing, key_of, section_of
from sdn.openflow.dump import dump_flows
from sdn.openflow.pack import OWNER_MASK, OWNER_SHIFT, installed_key_bytes, owner_of
from sdn.program import against, build

Json = dict[str, Any]
PATIENCE: Final = 15.0
"""Seconds until what was asked for must be so."""
STEP: Final = 0.01
"""Seconds between two looks at something that cannot be watched."""
FIELD_MANAGER: Final = "ncp-verify"


class Cluster:
    """One cluster with its switches on this host."""

    def __init__(self, kubeconfig: str | None, state: Path | None) -> None:
        self._where = (kubeconfig, state)
        self.kube = Kube.connect(nodeapi.kubeconfig(kubeconfig, state))
        self.site = run.site(kubeconfig, state)

    def close(self) -> None:
        """Close what is open towards API server and switches."""
        self.site.switches.close()
        self.kube.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def look(self) -> Site:
        """The cluster as it is now."""
        self.site = run.site(*self._where, self.site)
        return self.site

    def serves(self, resource: Resource) -> bool:
        """Whether the cluster knows objects of that kind."""
        try:
            self.kube.list(resource)
        except NotFound:
            return False
        return True

    # -- changes ----------------------------------------------------------------------------------------------------

    def apply(self, obj: Json, *, dry_run: bool = False) -> Json:
        """Make a policy as given; what the server made of it, or with ``dry_run`` would make of it."""
        meta, resource = obj["metadata"], RESOURCES[obj["kind"]]
        where = meta.get("namespace", "")
        return self.kube.patch(
            resource,
            meta["name"],
            where,
            body=obj,
            kind="apply",
            field_manager=FIELD_MANAGER,
            force=True,
            dry_run=dry_run,
        )

    def remove(self, resource: Resource, namespace: str, name: str) -> bool:
        """Delete an object; whether it was there."""
        grace = 0 if resource is PODS else None
        try:
            self.kube.delete(resource, name, namespace, grace_seconds=grace)
        except NotFound:
            return False
        return True

    def relabel(self, resource: Resource, namespace: str, name: str, labels: dict[str, str]) -> None:
        """Give an object exactly these labels, those of Kubernetes itself aside."""
        held = self.kube.get(resource, name, namespace)["metadata"].get("labels") or {}
        gone = {key: None for key in held if key not in labels and not key.startswith("kubernetes.io/")}
        self.kube.patch(resource, name, namespace, body={"metadata": {"labels": {**labels, **gone}}})

    def create(self, resource: Resource, obj: Json) -> bool:
        """Create an object; whether it was not there yet."""
        try:
            self.kube.create(resource, obj)
        except AlreadyExists:
            return False
        return True

    # -- waiting ----------------------------------------------------------------------------------------------------

    def await_gone(self, resource: Resource, namespace: str, name: str, uid: str = "") -> None:
        """Wait until an object (of that uid) is no more.

        Raises:
            NotRealised: it stays.
        """

        def gone() -> bool:
            try:
                held = self.kube.get(resource, name, namespace)
            except NotFound:
                return True
            return bool(uid) and held["metadata"]["uid"] != uid

        _wait(gone, lambda: f"{resource.kind} {f'{namespace}/' if namespace else ''}{name} is still there")

    def await_pods(self, names: Iterable[str]) -> None:
        """Wait until pods, as ``namespace/pod``, are ready.

        Raises:
            NotRealised: one is not in time.
        """
        for each in names:
            namespace, name = each.split("/")
            with contextlib.suppress(StopIteration):
                next(pod for pod in self._seen(PODS, namespace, name) if _is_ready(pod))
                continue
            raise NotRealised(f"pod {each} is not ready after {PATIENCE:g} s; `kubectl describe pod` says why")

    def await_policy(self, obj: Json, site: Site) -> None:
        """Wait until every node that must enforces a policy in its present generation; ``obj`` is as the server has it.

        Raises:
            NotRealised: a node does not in time.
        """
        meta, section = obj["metadata"], section_of(obj)
        nodes = enforcing(site.intent, section)
        said = realisation(obj, section, nodes)
        for now in self._seen(RESOURCES[obj["kind"]], meta.get("namespace", ""), meta["name"]):
            said = realisation(now, section, nodes)
            if int(now["metadata"].get("generation") or 0) >= int(meta.get("generation") or 0) and not said.waiting:
                return
        waiting = ", ".join(said.waiting)
        raise NotRealised(f"{key_of(obj)} is not enforced by {waiting} {PATIENCE:g} s after it was applied")

    def await_flows(self, site: Site | None = None) -> Site:
        """Wait until every switch has exactly the flows of the intent; the site as it is then. Where ``site`` is given the
        intent is known to be its.

        Raises:
            NotRealised: a switch has others in the end; the text has the first.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            now = site or self.look()
            wrong = unrealised(now)
            if not wrong:
                return now
            if time.monotonic() > deadline:
                raise NotRealised(f"after {PATIENCE:g} s {wrong}")
            time.sleep(STEP)

    def _seen(self, resource: Resource, namespace: str, name: str) -> Iterator[Json]:
        """An object as it is, and as it becomes, for as long as we have patience."""
        deadline = time.monotonic() + PATIENCE
        obj = self.kube.get(resource, name, namespace)
        yield obj
        while (left := deadline - time.monotonic()) > 0:
            events = self.kube.watch(
                resource,
                obj["metadata"]["resourceVersion"],
                namespace,
                field_selector=f"metadata.name={name}",
                timeout_seconds=max(1, int(left)),
            )
            with contextlib.closing(events):
                for kind, obj in events:
                    if kind != "BOOKMARK":
                        yield obj


def unrealised(site: Site) -> str:
    """The first difference between what a switch holds and what its program would be if it were made anew; empty: none."""
    owner = owner_of(site.translation.cluster)
    for node, rundir in site.switches.rundirs.items():
        program = build(site.intent, node, owner, site.attachments(node))
        flows = dump_flows(Path(rundir, f"{BRIDGE}.mgmt"), cookie=owner << OWNER_SHIFT, cookie_mask=OWNER_MASK)
        changes = against(program, {installed_key_bytes(f.table, f.priority, f.match): f.cookie for f in flows})
        if changes.add:
            return f"{node} lacks {len(changes.add)} flows, the first of them of {changes.add[0].flow.origin}"
        if changes.delete:
            return f"{node} has {len(changes.delete)} flows too many, the first in table {changes.delete[0][0]}"
    return ""


def _is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _wait(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise NotRealised(f"after {PATIENCE:g} s {what()}")
        time.sleep(STEP)


def namespaces_gone(cluster: Cluster, names: Iterable[str]) -> None:
    """Delete namespaces with all that is in them, and wait until they are gone.

    Raises:
        NotRealised: one stays.
    """
    for name in names:
        if cluster.remove(NAMESPACES, "", name):
            cluster.await_gone(NAMESPACES, "", name)

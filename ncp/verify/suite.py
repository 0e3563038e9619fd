"""Running conformance cases on a cluster: nine pods for all of them, and after every step the whole truth table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ncp.kube.errors import ApiError
from ncp.kube.resources import NAMESPACES, PODS
from ncp.probe import run
from ncp.probe.model import EXTERNAL, NODE, Probe, Result
from ncp.probe.run import Traces
from ncp.probe.site import Site, matrix
from ncp.verify.cases import Apply, Case, Change, Delete, Recreate, Relabel, Step, cases
from ncp.verify.cluster import Cluster, namespaces_gone
from ncp.verify.errors import NotRealised, VerifyError
from ncp.verify.ground import LABEL, NAMES, PORTS, PREFIX, SPACES, Ground, namespace_object, pod_object
from ncp.verify.policies import RESOURCES, key_of, parse_key
from ncp.verify.saving import save
from ncp.verify.sweep import forget
from sdn.ovsdb.appctl import AppctlError

Json = dict[str, Any]
PROBED: Final = ("tcp", "udp", "sctp", "icmp")


@dataclass(frozen=True, slots=True)
class Asked:
    """A step that was taken. ``problem`` says why it could not be asked about; ``skipped`` why it need not."""

    case: str
    step: str
    probes: int
    wrong: tuple[Result, ...]
    saved: tuple[Path, ...]
    seconds: float
    problem: str = ""
    skipped: str = ""

    @property
    def is_good(self) -> bool:
        """Whether all three agreed on everything."""
        return not self.wrong and not self.problem


@dataclass(frozen=True, slots=True)
class Wish:
    """How the suite is to be run."""

    families: tuple[int, ...] = (4, 6)
    trace: Traces = "sample"
    directory: Path = Path("verify-cases")
    prefix: str = PREFIX


@dataclass(slots=True)
class Stage:
    """The nine pods, what cases have done to them, and how to take that back."""

    cluster: Cluster
    wish: Wish
    policies: dict[str, Json] = field(default_factory=dict)  # by key, as the server has them
    relabelled: list[Relabel] = field(default_factory=list)  # how it was
    _served: frozenset[str] | None = None

    # -- the ground -------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Make the namespaces and pods, or take those of an earlier run.

        Raises:
            VerifyError: a namespace of that name is somebody else's.
            NotRealised: a pod does not run in time.
        """
        bare = Ground({}, {}, prefix=self.wish.prefix)
        nodes = sorted(self.cluster.site.agents)
        if not nodes:
            raise VerifyError("no node agent is on this host, so nothing can be sent or traced here")
        for space in SPACES:
            self._own(namespace_object(bare, space))
        for space in SPACES:
            for pod in NAMES:
                self.cluster.create(PODS, pod_object(bare, f"{space}/{pod}", nodes))
        self.cluster.await_pods(f"{bare.namespace(space)}/{pod}" for space in SPACES for pod in NAMES)
        self.cluster.await_flows()

    def _own(self, wanted: Json) -> None:
        name = wanted["metadata"]["name"]
        if self.cluster.create(NAMESPACES, wanted):
            return
        held = self.cluster.kube.get(NAMESPACES, name)["metadata"].get("labels") or {}
        if LABEL not in held:
            raise VerifyError(f"namespace {name} is there already and not the suite's; --prefix names others")
        self.cluster.relabel(NAMESPACES, "", name, wanted["metadata"]["labels"])

    def ground(self) -> Ground:
        """The ground as it is now."""
        site, prefix = self.cluster.site, self.wish.prefix
        names = {f"{space}/{pod}": f"{prefix}{space}/{pod}" for space in SPACES for pod in NAMES}
        ports = {short: site.intent.ports[name] for short, name in names.items()}
        networks = {
            space: tuple(gateway.prefix for gateway in site.intent.switches[ports[f"{space}/a"].vni].gateways)
            for space in SPACES
        }
        hosts = tuple(address for name in self.hosts() for address in site.endpoints[name].addresses)
        return Ground({short: port.addresses for short, port in ports.items()}, networks, hosts, prefix)

    def hosts(self) -> list[str]:
        """A node and the host outside, as far as they are within reach."""
        site = self.cluster.site
        nodes = [name for name in sorted(site.endpoints) if name.startswith(NODE) and site.endpoints[name].netns]
        return [*nodes[:1], *([EXTERNAL] if EXTERNAL in site.endpoints else [])]

    def table(self, site: Site, *, hosts: bool) -> list[Probe]:
        """The whole truth table; with a node and the host outside as sources and destinations, if wished."""
        pods = [f"{self.wish.prefix}{space}/{pod}" for space in SPACES for pod in NAMES]
        return matrix(site, [*pods, *(self.hosts() if hosts else ())], self.wish.families, PROBED, PORTS)

    def unserved(self, case: Case) -> str:
        """The kinds of a case's policies that this cluster does not serve; empty: it serves all."""
        if self._served is None:
            self._served = frozenset(kind for kind, each in RESOURCES.items() if self.cluster.serves(each))
        return ", ".join(sorted(case.kinds - self._served))

    # -- steps ------------------------------------------------------------------------------------------------------

    def take(self, change: Change, also: Callable[[], None] = lambda: None) -> Site:
        """Make a change (and what ``also`` does) and wait until it is in force.

        Raises:
            ApiError, NotRealised, AppctlError: it cannot be made, or does not come into force.
        """
        also()
        applied: list[Json] = []
        match change:
            case Apply(policies):
                applied = [self.cluster.apply(each) for each in policies]
                self.policies |= {key_of(each): each for each in applied}
            case Delete(keys):
                self._delete(keys)
            case Relabel():
                self._relabel(change)
            case Recreate(pod):
                self._recreate(pod)
        site = self.cluster.look()
        for each in applied:
            self.cluster.await_policy(each, site)
        moved = isinstance(change, Recreate)  # its address and port are known only after a while
        return self.cluster.await_flows(None if moved else site)

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.cluster.remove(*parse_key(key))
            self.policies.pop(key, None)

    def _relabel(self, change: Relabel) -> None:
        held = self.cluster.kube.get(change.resource, change.name, change.namespace)["metadata"].get("labels") or {}
        own = {key: value for key, value in held.items() if not key.startswith("kubernetes.io/")}
        self.relabelled.append(Relabel(change.resource, change.namespace, change.name, own))
        self.cluster.relabel(change.resource, change.namespace, change.name, change.labels)

    def _recreate(self, pod: str) -> None:
        space, name = pod.split("/")
        where = f"{self.wish.prefix}{space}"
        uid = self.cluster.kube.get(PODS, name, where)["metadata"]["uid"]
        self.cluster.remove(PODS, where, name)
        self.cluster.await_gone(PODS, where, name, uid)
        bare = Ground({}, {}, prefix=self.wish.prefix)
        self.cluster.create(PODS, pod_object(bare, pod, self.cluster.site.agents))
        self.cluster.await_pods([f"{where}/{name}"])

    def restore(self) -> None:
        """Take back what cases have done; does not wait."""
        self._delete(list(self.policies))
        while self.relabelled:
            was = self.relabelled.pop()
            self.cluster.relabel(was.resource, was.namespace, was.name, was.labels)

    def strike(self) -> None:
        """Remove everything."""
        self.restore()
        namespaces_gone(self.cluster, (f"{self.wish.prefix}{space}" for space in SPACES))

    def ask(self, case: Case, step: Step, site: Site, started: float) -> Asked:
        """The whole table, after a step."""
        probes = self.table(site, hosts=case.asks_hosts)
        wrong = tuple(each for each in run.ask(site, probes, quiet=True, trace=self.wish.trace) if not each.agrees)
        saved = save(site, wrong, self.wish.directory, f"{case.name}-{step.name}-".replace("+", "-")) if wrong else []
        forget(site, self.wish.prefix)
        return Asked(case.name, step.name, len(probes), wrong, tuple(saved), time.monotonic() - started)


def play(stage: Stage, wanted: Iterable[str]) -> Iterator[Asked]:
    """Run cases by name, one after the other; what each step came to. A step that fails ends its case."""
    for name in wanted:
        case = next(each for each in cases(stage.ground()) if each.name == name)
        if missing := stage.unserved(case):
            yield Asked(case.name, "", 0, (), (), 0.0, skipped=f"{missing} is not served by this cluster")
        else:
            yield from _play(stage, case)


def _play(stage: Stage, case: Case) -> Iterator[Asked]:
    for number, step in enumerate(case.steps):
        started = time.monotonic()
        try:
            site = stage.take(step.change, stage.restore if not number else lambda: None)
            asked = stage.ask(case, step, site, started)
        except (ApiError, NotRealised, AppctlError) as error:
            yield Asked(case.name, step.name, 0, (), (), time.monotonic() - started, str(error))
            return
        yield asked

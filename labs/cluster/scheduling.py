"""Which node takes a pod: pure functions, and the ledger of what each node has given away already.

The filters are those of a cluster that lab workloads can meet: readiness, unschedulable nodes and taints, node
selectors and required node affinity, requests against allocatable, host ports, required affinity and anti-affinity
between pods, hard topology spread. Among the nodes left over the one with the fewest pods wins.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from labs.cluster.pods import Json, condition, is_active
from labs.cluster.selectors import equal_labels, matches, node_terms_hold, tolerates

_HOSTNAME = "kubernetes.io/hostname"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_QUANTITY = re.compile(r"^([+-]?[\d.]+(?:[eE][+-]?\d+)?)([numkKMGTPE]?i?)$")
_SCALE = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "K": 1e3}
_SCALE |= {letter: 1000.0**power for power, letter in enumerate("MGTPE", 2)}
_SCALE |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)}


def quantity(text: str | int | float) -> float:
    """A Kubernetes quantity (``250m``, ``1Gi``) as a number. Raises :class:`ValueError` when it is none."""
    if isinstance(text, int | float):
        return float(text)
    found = _QUANTITY.match(text)
    if found is None or found[2] not in _SCALE:
        raise ValueError(f"{text!r} is not a quantity such as 250m, 2 or 1Gi")
    return float(found[1]) * _SCALE[found[2]]


def requests(pod: Json) -> Counter[str]:
    """What a pod asks of its node: the sum over its containers, or its largest init container; and one place."""
    total: Counter[str] = Counter()
    for container in pod["spec"].get("containers") or ():
        for name, amount in ((container.get("resources") or {}).get("requests") or {}).items():
            total[name] += quantity(amount)  # type: ignore[assignment]
    for container in pod["spec"].get("initContainers") or ():
        for name, amount in ((container.get("resources") or {}).get("requests") or {}).items():
            total[name] = max(total[name], quantity(amount))  # type: ignore[assignment]
    total["pods"] += 1
    return total


def host_ports(pod: Json) -> frozenset[tuple[str, int]]:
    """Ports a pod takes from its node itself."""
    own = pod["spec"].get("hostNetwork", False)
    return frozenset(
        (port.get("protocol") or "TCP", port["containerPort"] if own else port["hostPort"])
        for container in pod["spec"].get("containers") or ()
        for port in container.get("ports") or ()
        if own or port.get("hostPort")
    )


class Placed(NamedTuple):
    """What the ledger knows of a pod that is on a node."""

    namespace: str
    labels: dict[str, str]
    node: str
    asks: Counter[str]
    ports: frozenset[tuple[str, int]]
    avoids: tuple[Json, ...]  # its required anti-affinity terms


class Ledger:
    """Pods by node, kept up to date one pod at a time. Not safe for use from several threads at once."""

    def __init__(self) -> None:
        self.pods: dict[str, Placed] = {}
        self._by_node: dict[str, set[str]] = defaultdict(set)
        self._asks: dict[str, Counter[str]] = defaultdict(Counter)
        self.avoiding: set[str] = set()  # uids of pods with anti-affinity

    def put(self, pod: Json, node: str = "") -> None:
        """Take note of a pod as it is now, or as bound to ``node`` before the server says so."""
        uid = pod["metadata"]["uid"]
        self.drop(uid)
        node = node or pod["spec"].get("nodeName") or ""
        if not node or (not is_active(pod) and pod.get("status", {}).get("phase") in ("Succeeded", "Failed")):
            return
        placed = Placed(
            pod["metadata"]["namespace"],
            pod["metadata"].get("labels") or {},
            node,
            requests(pod),
            host_ports(pod),
            tuple(_terms(pod, "podAntiAffinity")),
        )
        self.pods[uid] = placed
        self._by_node[node].add(uid)
        self._asks[node].update(placed.asks)
        if placed.avoids:
            self.avoiding.add(uid)

    def drop(self, uid: str) -> None:
        """Forget a pod; an unknown one is fine."""
        placed = self.pods.pop(uid, None)
        if placed is not None:
            self._by_node[placed.node].discard(uid)
            self._asks[placed.node].subtract(placed.asks)
            self.avoiding.discard(uid)

    def on(self, node: str) -> Iterable[Placed]:
        """The pods on a node."""
        return (self.pods[uid] for uid in self._by_node[node])

    def count(self, node: str) -> int:
        """How many pods are on a node."""
        return len(self._by_node[node])

    def asked(self, node: str) -> Counter[str]:
        """What the pods of a node ask for together."""
        return self._asks[node]


class Choice(NamedTuple):
    """The node chosen, or an empty name and why not one of them will do."""

    node: str
    message: str


_Filter = Callable[[Json], str]


def choose(pod: Json, nodes: Sequence[Json], ledger: Ledger, namespaces: Mapping[str, Json] | None = None) -> Choice:
    """The node for a pod that has none. ``namespaces`` by name serve namespace selectors of affinity terms."""
    filters = [*_node_filters(pod, ledger), *_pod_filters(pod, nodes, ledger, namespaces or {})]
    reasons: Counter[str] = Counter()
    fitting = []
    for node in nodes:
        reason = next((why for each in filters if (why := each(node))), "")
        if reason:
            reasons[reason] += 1
        else:
            fitting.append(node["metadata"]["name"])
    if fitting:
        return Choice(min(fitting, key=lambda name: (ledger.count(name), name)), "")
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return Choice("", f"0/{len(nodes)} nodes are available: {told or 'there are none'}.")


def _node_filters(pod: Json, ledger: Ledger) -> list[_Filter]:
    spec = pod["spec"]
    tolerations = list(spec.get("tolerations") or ())
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    asks, ports = requests(pod), host_ports(pod)

    def taken(node: Json) -> str:
        taints = list(node["spec"].get("taints") or ())
        if node["spec"].get("unschedulable"):
            taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
        if condition(node, "Ready").get("status") != "True":
            taints.append({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})
        for taint in taints:
            if taint.get("effect") in ("NoSchedule", "NoExecute") and not tolerates(tolerations, taint):
                return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
        return ""

    def selected(node: Json) -> str:
        labels = node["metadata"].get("labels")
        if spec.get("nodeSelector") and not equal_labels(spec["nodeSelector"], labels):
            return "node(s) didn't match Pod's node affinity/selector"
        return "" if node_terms_hold(required, node) else "node(s) didn't match Pod's node affinity/selector"

    def roomy(node: Json) -> str:
        offered = node.get("status", {}).get("allocatable") or {}
        asked = ledger.asked(node["metadata"]["name"])
        for name, amount in asks.items():
            if amount and (name in offered or name != "pods") and asked[name] + amount > quantity(offered.get(name, 0)):
                return "Too many pods" if name == "pods" else f"Insufficient {name}"
        return ""

    def free(node: Json) -> str:
        if ports and any(ports & other.ports for other in ledger.on(node["metadata"]["name"])):
            return "node(s) didn't have free ports for the requested pod ports"
        return ""

    return [taken, selected, roomy, free]


def _terms(pod: Json, kind: str) -> list[Json]:
    return list(((pod["spec"].get("affinity") or {}).get(kind) or {}).get(_REQUIRED) or ())


def _pod_filters(pod: Json, nodes: Sequence[Json], ledger: Ledger, namespaces: Mapping[str, Json]) -> list[_Filter]:
    """Filters that look at other pods; none of them costs anything where nobody asks for them."""
    domains = {node["metadata"]["name"]: _domains(node) for node in nodes}
    own = (pod["metadata"]["namespace"], pod["metadata"].get("labels") or {})
    filters: list[_Filter] = []

    def meets(term: Json, home: str, other: tuple[str, dict[str, str]]) -> bool:
        return _in_scope(term, home, other[0], namespaces) and matches(term.get("labelSelector"), other[1])

    for term in _terms(pod, "podAffinity"):
        key = term["topologyKey"]
        found = [each for each in ledger.pods.values() if meets(term, own[0], each[:2])]
        near = {domains[each.node].get(key) for each in found if each.node in domains} - {None}
        if not found and meets(term, own[0], own):
            continue  # the first of a group that wants to be together may go anywhere
        filters.append(_near(key, near, domains, True, "node(s) didn't match pod affinity rules"))
    for term in _terms(pod, "podAntiAffinity"):
        key = term["topologyKey"]
        found = [each for each in ledger.pods.values() if meets(term, own[0], each[:2])]
        near = {domains[each.node].get(key) for each in found if each.node in domains} - {None}
        filters.append(_near(key, near, domains, False, "node(s) didn't match pod anti-affinity rules"))
    for uid in ledger.avoiding:
        other = ledger.pods[uid]
        for term in other.avoids:
            if meets(term, other.namespace, own) and other.node in domains:
                key = term["topologyKey"]
                text = "node(s) didn't satisfy existing pods anti-affinity rules"
                filters.append(_near(key, {domains[other.node].get(key)} - {None}, domains, False, text))
    for spread in pod["spec"].get("topologySpreadConstraints") or ():
        if spread.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule":
            filters.append(_spread(spread, own, domains, ledger))
    return filters


def _domains(node: Json) -> dict[str, str]:
    return {_HOSTNAME: node["metadata"]["name"], **(node["metadata"].get("labels") or {})}


def _in_scope(term: Json, home: str, namespace: str, namespaces: Mapping[str, Json]) -> bool:
    named, selector = term.get("namespaces") or [], term.get("namespaceSelector")
    if not named and selector is None:
        return namespace == home
    labels = (namespaces.get(namespace) or {"metadata": {}})["metadata"].get("labels")
    return namespace in named or matches(selector, labels)


def _near(
    key: str, values: set[str | None], domains: Mapping[str, Mapping[str, str]], wanted: bool, text: str
) -> _Filter:
    def check(node: Json) -> str:
        value = domains[node["metadata"]["name"]].get(key)
        return "" if (value is not None and value in values) is wanted else text

    return check


def _spread(
    constraint: Json, own: tuple[str, dict[str, str]], domains: Mapping[str, Mapping[str, str]], ledger: Ledger
) -> _Filter:
    key, skew = constraint["topologyKey"], constraint["maxSkew"]
    counts: Counter[str] = Counter({each[key]: 0 for each in domains.values() if key in each})
    for placed in ledger.pods.values():
        value = domains.get(placed.node, {}).get(key)
        if value is not None and placed.namespace == own[0] and matches(constraint.get("labelSelector"), placed.labels):
            counts[value] += 1
    least = min(counts.values(), default=0)
    itself = int(matches(constraint.get("labelSelector"), own[1]))

    def check(node: Json) -> str:
        value = domains[node["metadata"]["name"]].get(key)
        if value is None or counts[value] + itself - least > skew:
            return "node(s) didn't match pod topology spread constraints"
        return ""

    return check

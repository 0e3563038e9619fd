from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from labs.cluster.scheduling import Ledger, choose, quantity, requests
from labs.cluster.selectors import expression_holds, matches, tolerates

Json = dict[str, Any]


def node(name: str, *, ready: bool = True, labels: Json | None = None, **spec: Any) -> Json:
    allocatable = {"cpu": "4", "memory": "8Gi", "pods": "10"}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
    return {"metadata": metadata, "spec": spec, "status": {"allocatable": allocatable, "conditions": conditions}}


def pod(name: str, *, labels: Json | None = None, cpu: str = "", ports: list[Json] | None = None, **spec: Any) -> Json:
    container: Json = {"name": "c", "ports": ports or []}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    metadata = {"name": name, "namespace": "n", "uid": name, "labels": labels or {}}
    return {"metadata": metadata, "spec": {"containers": [container], **spec}}


def required(kind: str, term: Json) -> Json:
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def by_host(labels: Json) -> Json:
    return {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}


THREE = [node("n1"), node("n2"), node("n3")]


@pytest.mark.parametrize(
    ("text", "number"),
    [("250m", 0.25), ("2", 2), (3, 3), ("1Gi", 2**30), ("1.5k", 1500), ("1e3", 1000), ("1M", 10**6), ("128Mi", 2**27)],
)
def test_quantities(text: str | int, number: float) -> None:
    assert quantity(text) == pytest.approx(number)


def test_a_quantity_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="'lots'"):
        quantity("lots")


def test_init_containers_count_by_their_largest() -> None:
    init = [{"name": "i", "resources": {"requests": {"cpu": each}}} for each in ("3", "1")]
    assert requests(pod("p", cpu="500m", initContainers=init)) == Counter(cpu=3.0, pods=1)


def test_pods_spread_over_nodes() -> None:
    ledger = Ledger()
    for number in range(9):
        each = pod(f"p{number}")
        ledger.put(each, choose(each, THREE, ledger).node)
    assert [ledger.count(name) for name in ("n1", "n2", "n3")] == [3, 3, 3]


def test_requests_are_held_against_what_is_left_and_given_back() -> None:
    ledger = Ledger()
    ledger.put(pod("big", cpu="3"), "n1")
    asks = pod("more", cpu="1500m")
    assert choose(asks, THREE[:1], ledger) == ("", "0/1 nodes are available: 1 Insufficient cpu.")
    ledger.drop("big")
    assert choose(asks, THREE[:1], ledger).node == "n1"
    done = pod("big", cpu="3", nodeName="n1") | {"status": {"phase": "Succeeded"}}
    ledger.put(done)
    assert choose(asks, THREE[:1], ledger).node == "n1"


def test_a_node_holds_no_more_pods_than_it_says() -> None:
    ledger = Ledger()
    for number in range(10):
        ledger.put(pod(f"p{number}"), "n1")
    assert "Too many pods" in choose(pod("one-more"), THREE[:1], ledger).message


@pytest.mark.parametrize(
    ("target", "spec", "fits"),
    [
        (node("a", ready=False), {}, False),
        (node("a", unschedulable=True), {}, False),
        (node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]), {}, False),
        (node("a", taints=[{"key": "k", "value": "v", "effect": "PreferNoSchedule"}]), {}, True),
        (
            node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]),
            {"tolerations": [{"key": "k", "value": "v"}]},
            True,
        ),
        (node("a", unschedulable=True), {"tolerations": [{"operator": "Exists"}]}, True),
        (node("a", labels={"disk": "ssd"}), {"nodeSelector": {"disk": "ssd"}}, True),
        (node("a"), {"nodeSelector": {"disk": "ssd"}}, False),
    ],
)
def test_nodes_that_take_a_pod(target: Json, spec: Json, fits: bool) -> None:
    assert bool(choose(pod("p", **spec), [target], Ledger()).node) is fits


def test_required_node_affinity_by_label_and_by_name() -> None:
    def wanting(*terms: Json) -> Json:
        selector = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
        return pod("p", affinity={"nodeAffinity": selector})

    nodes = [node("a", labels={"zone": "x"}), node("b", labels={"zone": "y"})]
    by_label = wanting({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["y"]}]})
    assert choose(by_label, nodes, Ledger()).node == "b"
    by_name = wanting({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]})
    assert choose(by_name, nodes, Ledger()).node == "b"
    assert choose(wanting({}), nodes, Ledger()).node == ""


def test_host_ports_are_taken_once_a_node() -> None:
    ledger = Ledger()
    port = [{"containerPort": 80, "hostPort": 8080}]
    ledger.put(pod("a", ports=port), "n1")
    assert choose(pod("b", ports=port), THREE[:2], ledger).node == "n2"
    assert choose(pod("c", ports=[{"containerPort": 8080}], hostNetwork=True), THREE[:1], ledger).node == ""
    assert choose(pod("d", ports=[{"containerPort": 8080}]), THREE[:1], ledger).node == "n1"


def test_anti_affinity_holds_both_ways() -> None:
    ledger = Ledger()
    apart = {"affinity": required("podAntiAffinity", by_host({"app": "db"}))}
    ledger.put(pod("db-0", labels={"app": "db"}, **apart), "n1")
    assert choose(pod("db-1", labels={"app": "db"}, **apart), THREE[:2], ledger).node == "n2"
    assert choose(pod("plain", labels={"app": "db"}), THREE[:1], ledger).node == ""
    assert choose(pod("other", labels={"app": "web"}), THREE[:1], ledger).node == "n1"


def test_affinity_follows_and_the_first_of_a_group_may_go_anywhere() -> None:
    ledger = Ledger()
    near = {"affinity": required("podAffinity", by_host({"app": "web"}))}
    assert choose(pod("lonely", **near), THREE, ledger).node == ""
    assert choose(pod("web-0", labels={"app": "web"}, **near), THREE, ledger).node
    ledger.put(pod("web-0", labels={"app": "web"}), "n3")
    assert choose(pod("lonely", **near), THREE, ledger).node == "n3"


def test_hard_topology_spread() -> None:
    ledger = Ledger()
    ledger.put(pod("a", labels={"app": "web"}), "n1")
    ledger.put(pod("x"), "n2")
    ledger.put(pod("y"), "n2")
    rule = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}
    assert choose(pod("b", labels={"app": "web"}, topologySpreadConstraints=[rule]), THREE[:2], ledger).node == "n2"


def test_the_reasons_are_counted() -> None:
    nodes = [node("a", unschedulable=True), node("b", unschedulable=True), node("c", ready=False)]
    message = choose(pod("p"), nodes, Ledger()).message
    assert message.startswith("0/3 nodes are available: ")
    assert "2 node(s) had untolerated taint {node.kubernetes.io/unschedulable: }" in message
    assert "1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }" in message


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ({"key": "a", "operator": "In", "values": ["1", "2"]}, True),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, False),
        ({"key": "b", "operator": "NotIn", "values": ["1"]}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "b", "operator": "DoesNotExist"}, True),
        ({"key": "a", "operator": "Gt", "values": ["0"]}, True),
        ({"key": "a", "operator": "Lt", "values": ["0"]}, False),
    ],
)
def test_expressions(expression: Json, holds: bool) -> None:
    assert expression_holds(expression, {"a": "1"}) is holds


def test_an_unknown_operator_is_an_error_and_no_selector_selects_nothing() -> None:
    with pytest.raises(ValueError, match="'Near'"):
        expression_holds({"key": "a", "operator": "Near"}, {})
    assert not matches(None, {"a": "1"})
    assert matches({}, {"a": "1"})


def test_a_toleration_of_one_effect_does_not_cover_another() -> None:
    taint = {"key": "k", "value": "v", "effect": "NoExecute"}
    assert not tolerates([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}], taint)
    assert tolerates([{"key": "k", "operator": "Exists"}], taint)

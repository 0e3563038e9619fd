"""What is said of translations is what their flows counted; and who lost packets for want of a port is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from immutables import Map
from prometheus_client import CollectorRegistry

from ncp.node.metrics import NodeMetrics
from ncp.node.natstats import exhaustion, grown, translations, without_port
from sdn.model import Intent, Origin
from sdn.openflow.match import pack_match
from sdn.openflow.values import InstalledFlow
from sdn.pipeline.flow import Ct, Flow
from sdn.pipeline.tables import T
from sdn.program import Program, build
from sdn.services import Endpoint, Slice
from tests.sdn.test_balancing import NUMBERS, server
from tests.sdn.test_nat import BOUND, OF_SERVICE, RED, binding, of, translated
from tests.sdn.worlds import switch

RED_PREFIX = str(next(each.prefix for each in switch("red").gateways if each.prefix.family == 4))


def intent_of_all() -> Intent:
    """A translated namespace, a service and a binding of some of its pods; another namespace that has no address yet."""
    intent = translated(bindings=Map({"red/x": binding("red/a")}))
    member = Endpoint(of(intent, "red/b", 4), "node1")
    return intent.replace(
        services=Map({"red/s": server("red/s", translated=OF_SERVICE)}),
        slices=Map({"red/s": Map({"s": Slice(NUMBERS, (member,))})}),
    )


def installed(program: Program, count: Callable[[Flow], int]) -> Iterator[InstalledFlow]:
    for entry in program.entries():
        flow = entry.flow
        yield InstalledFlow(flow.table, flow.priority, pack_match(flow.match), entry.cookie, count(flow), 0, b"")


def rows(count: Callable[[Flow], int], node: str = "node1") -> dict[tuple[str, str, str, str | None], dict[str, Any]]:
    intent = intent_of_all()
    program = build(intent, node, 1, {})
    found = translations(program, intent, installed(program, count))
    by = {(each["kind"], each["origin"]["kind"], each["inside"], each["outside"]): each for each in found}
    assert len(by) == len(found), "one row for a translation"
    return by


def test_every_translation_of_the_node_that_lets_out_is_a_row():
    intent = intent_of_all()
    a, b = (str(of(intent, name, 4)) for name in ("red/a", "red/b"))
    found = {key for key in rows(lambda flow: 0) if ":" not in key[2]}
    assert found == {
        ("SNAT", "Namespace", RED_PREFIX, str(RED[0])),
        ("SNAT", "Service", b, str(OF_SERVICE[0])),
        ("SNAT", "AddressBinding", a, str(BOUND[0])),
        ("DNAT", "AddressBinding", a, str(BOUND[0])),
        *((kind, who, inside, None) for kind, who, inside, outside in found if outside is None),
    }
    waiting = {inside: who for _, who, inside, outside in found if outside is None}
    green = str(next(each.prefix for each in switch("green").gateways if each.prefix.family == 4))
    assert waiting == {green: "Namespace", "10.4.0.0/16": "Fabric"}, "who is of a namespace, and who is of none"
    assert {key[0] for key in rows(lambda flow: 0, "node3")} == {"DNAT"}, "other nodes translate nobody's sender"


def test_hits_are_new_connections_and_drops_stand_apart():
    def count(flow: Flow) -> int:
        if flow.table == T["snat"]:
            tracked = any(isinstance(each, Ct) for each in flow.actions)
            return 10 if tracked else 7 if flow.actions else 5 if ("ct_state", 0x30, 0x30) not in flow.match else 1000
        return {T["snat_done"]: 3, T["services"]: 2}.get(flow.table, 100)

    found = rows(count)
    counted = {
        key[:2]: tuple(row[name] for name in ("hits", "sctp", "no_port", "no_address"))
        for key, row in found.items()
        if ":" not in key[2] and key[3]
    }
    assert counted == {
        ("SNAT", "Namespace"): (10, 7, 3, 0),
        ("SNAT", "Service"): (10, 7, 3, 0),
        ("SNAT", "AddressBinding"): (10, 7, 3, 0),
        ("DNAT", "AddressBinding"): (
            10,
            0,
            0,
            0,
        ),  # five flows: from nodes and from pods, SCTP beside each, and from the pod itself
    }
    assert {row["no_address"] for row in found.values() if row["outside"] is None} == {5}


def test_who_found_no_port_is_known_by_the_object_whose_address_it_was():
    program = build(intent_of_all(), "node1", 1, {})
    found = without_port(program, installed(program, lambda flow: 4 if flow.table == T["snat_done"] else 9))
    by_name = {f"{each.kind} {each.name}": packets for each, packets in found.items()}
    assert by_name == {"Namespace red": 8, "Service s": 4, "AddressBinding x": 4}, "both families together"


ONE, TWO = Origin("Namespace", "", "red"), Origin("Service", "red", "s")


@pytest.mark.parametrize(
    ("before", "now", "more"),
    [
        ({}, {ONE: 0}, {}),
        ({}, {ONE: 4}, {ONE: 4}),
        ({ONE: 4, TWO: 2}, {ONE: 9, TWO: 2}, {ONE: 5}),
        ({ONE: 9}, {ONE: 3}, {ONE: 3}),
        ({ONE: 9}, {}, {}),
    ],
    ids=["nothing", "the first", "one of two", "begun anew", "gone"],
)
def test_growth_since_the_last_look(before: dict[Origin, int], now: dict[Origin, int], more: dict[Origin, int]):
    assert grown(before, now) == more


def test_what_is_said_names_the_object_how_many_and_what_helps():
    first, second = exhaustion({TWO: 2, ONE: 17})
    assert (first.origin, second.origin, first.reason) == (ONE, TWO, "SNAT_PORTS_EXHAUSTED")
    assert first.message.startswith("Namespace red: 17 packets ")
    assert all(text in first.message for text in ("ncp/snat_pool", "snat_ports", "fewer connections"))


def test_the_metric_adds_up_by_whose_address_it_was():
    registry = CollectorRegistry()
    metrics = NodeMetrics("node1", registry)
    for dropped in ({ONE: 3}, {ONE: 4, TWO: 1}):
        metrics.snat_exhausted(dropped)
    name = "ncp_node_snat_exhausted_packets_total"
    assert registry.get_sample_value(name, {"kind": "Namespace", "namespace": "red", "name": "red"}) == 7
    assert registry.get_sample_value(name, {"kind": "Service", "namespace": "red", "name": "s"}) == 1

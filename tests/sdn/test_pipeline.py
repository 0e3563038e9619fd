from __future__ import annotations

import pytest

from sdn.model import Origin
from sdn.pipeline.flow import CopyField, Flow, Goto, SetField
from sdn.pipeline.registers import SEGMENT, SOURCE
from sdn.pipeline.render import markdown
from sdn.pipeline.spec import Miss, Pipeline, PipelineError, RegField, Table
from sdn.pipeline.tables import PIPELINE, T

ORIGIN = Origin("Pod", "red", "a")


def table(name: str, **changes: object) -> Table:
    fields = {
        "doc": "d",
        "matches": frozenset({"in_port"}),
        "goes_to": (),
        "miss": Miss(reason="lost"),
        "observes": "o",
    }
    return Table(name, **{**fields, **changes})  # type: ignore[arg-type]


def pipeline(*tables: Table, fields: tuple[RegField, ...] = ()) -> Pipeline:
    return Pipeline(fields, (("lost", "nowhere to go"),), tables)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pipeline(fields=(RegField("op", 0, 25, 32, "d"),)), "bits 25..32 leave a 32-bit register"),
        (lambda: pipeline(fields=(RegField("a", 0, 0, 3, "d"), RegField("b", 0, 3, 5, "d"))), "share bit 3 of reg0"),
        (lambda: pipeline(fields=(RegField("a", 0, 0, 3, ""),)), "field a is not documented"),
        (lambda: pipeline(table("x"), table("x")), "table x is declared twice"),
        (lambda: pipeline(table("x", doc="")), "table x is not documented"),
        (lambda: pipeline(table("x"), table("y", goes_to=("x",))), "y goes to x, which is not a later table"),
        (lambda: pipeline(table("x", miss=Miss())), "must declare a miss"),
        (lambda: pipeline(table("x", miss=Miss(reason="gone"))), "drop reason gone is not declared"),
        (lambda: pipeline(table("x", matches=frozenset({"reg4"}))), "registers are spoken of by field"),
    ],
)
def test_a_wrong_definition_is_refused_by_name(make, said):
    with pytest.raises(PipelineError, match=said):
        make()


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (Flow(T["gateway"], 1, (("tcp_dst", 80, None),), (), ORIGIN), "may not match tcp_dst"),
        (Flow(T["gateway"], 1, (SEGMENT.match(5),), (), ORIGIN), "may not match segment"),
        (Flow(T["classify"], 1, (("reg9", 1 << 30, 1 << 30),), (), ORIGIN), "may not match reg9"),
        (Flow(T["deliver"], 1, (), (SetField("eth_src", 1),), ORIGIN), "may not write eth_src"),
        (Flow(T["deliver"], 1, (), (CopyField("eth_src", "reg2", 8),), ORIGIN), "may not write segment"),
        (Flow(T["classify"], 1, (), (Goto(T["deliver"]),), ORIGIN), "may not go to deliver"),
        (Flow(99, 1, (), (), ORIGIN), "table 99 does not exist"),
    ],
)
def test_a_flow_outside_its_tables_declaration_is_refused(flow, said):
    with pytest.raises(PipelineError, match=said):
        PIPELINE.check(flow)


def test_a_register_field_matches_and_writes_its_own_bits_only():
    assert SEGMENT.match(5001) == ("reg2", 5001, 0xFFFFFF)
    assert SOURCE.set(2) == SetField("reg0", 2, 0x3)
    with pytest.raises(PipelineError, match="16777216 does not fit 24 bits"):
        SEGMENT.match(1 << 24)


@pytest.mark.parametrize("each", PIPELINE.tables, ids=lambda t: t.name)
def test_every_table_can_be_reached_and_is_in_the_document(each):
    text = markdown(PIPELINE)
    assert f"`{each.name}`" in text
    targets = {t for other in PIPELINE.tables for t in (*other.goes_to, other.miss.table)}
    assert each.name in targets or each is PIPELINE.tables[0]

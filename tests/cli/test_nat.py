"""``ncp get nat``: who is whom outside by which node, and what came of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncp.node.api import NodeApi
from tests.cli.conftest import origin

RED, BOUND, NOBODY = (
    origin("Namespace", "", "red"),
    origin("AddressBinding", "red", "db"),
    origin("Namespace", "", "blue"),
)


def row(kind: str, about: dict, inside: str, outside: str | None, **counted: int) -> dict:
    said = {"kind": kind, "origin": about, "inside": inside, "outside": outside}
    return said | dict.fromkeys(("hits", "sctp", "no_port", "no_address"), 0) | counted


SNAT = row("SNAT", RED, "10.4.0.0/24", "172.31.0.1", hits=12, no_port=3, sctp=40)
DNAT = row("DNAT", BOUND, "10.4.0.9", "172.31.0.9", hits=2)
ANSWERS = {
    "n1": {"active": False, "lets_out": True, "translations": [SNAT | {"hits": 0, "no_port": 0, "sctp": 0}]},
    "n2": {
        "active": True,
        "lets_out": True,
        "translations": [SNAT, DNAT, row("SNAT", NOBODY, "10.5.0.0/24", None, no_address=6)],
    },
    "n3": {
        "active": False,
        "lets_out": False,
        "translations": [DNAT | {"hits": 1}, DNAT | {"outside": "fd31::9", "hits": 0}],
    },
}


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """Agents of a standby, of the active edge, and of a node that is no edge."""
    directory = Path(tempfile.mkdtemp(prefix="ncp-cli-"))
    agents = [
        NodeApi(
            directory / "nodes" / node / "node.sock", {"/v1/nat": lambda node=node: {"node": node, **ANSWERS[node]}}
        )
        for node in ANSWERS
    ]
    for each in agents:
        each.start()
    try:
        yield directory
    finally:
        for each in agents:
            each.stop()
        shutil.rmtree(directory)


def test_each_translation_is_a_row_of_each_edge_and_elsewhere_where_it_was_used(ncp, state):
    rows = ncp("get", "nat", "--state", state, "-o", "json").json
    assert [(each["node"], each["active"], each["kind"], each["outside"]) for each in rows] == [
        ("n2", True, "SNAT", "172.31.0.1"),
        ("n2", True, "DNAT", "172.31.0.9"),
        ("n2", True, "SNAT", None),
        ("n1", False, "SNAT", "172.31.0.1"),
        ("n3", False, "DNAT", "172.31.0.9"),
    ]
    assert rows[0] == {"node": "n2", "active": True, "namespace": "red", **SNAT}


def test_a_table_says_who_is_whom_and_wide_counts_sctp(ncp, state):
    head, first, _, lost, *_ = ncp("get", "snat", "--state", state).out.splitlines()
    assert head.split() == [
        "NODE",
        "ACTIVE",
        "KIND",
        "WHOM",
        "INSIDE",
        "OUTSIDE",
        "HITS",
        "NO",
        "PORT",
        "NO",
        "ADDRESS",
    ]
    assert first.split() == ["n2", "yes", "SNAT", "Namespace", "red", "10.4.0.0/24", "172.31.0.1", "12", "3", "0"]
    assert lost.split() == ["n2", "yes", "SNAT", "Namespace", "blue", "10.5.0.0/24", "-", "0", "0", "6"]
    assert " 40 " in ncp("get", "nat", "--state", state, "-o", "wide").out


def test_of_one_node_or_one_namespace(ncp, state):
    assert {each["node"] for each in ncp("get", "nat", "--state", state, "--node", "n1", "-o", "json").json} == {"n1"}
    blue = ncp("get", "nat", "--state", state, "-n", "blue", "-o", "json").json
    assert [each["no_address"] for each in blue] == [6]
    red = ncp("get", "nat", "--state", state, "-n", "red", "-o", "json").json
    assert {each["origin"]["kind"] for each in red} == {"Namespace", "AddressBinding"}, (
        "what is its services' and bindings', too"
    )
    told = ncp("get", "nat", "--state", state, "-n", "none")
    assert (told.code, told.out) == (0, "")
    assert told.err == "no translations: nobody here is somebody else outside\n"

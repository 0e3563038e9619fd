from __future__ import annotations

from dataclasses import replace

import pytest

from sdn.ovsdb.rows import (
    CLUSTER,
    ActualRows,
    AddPort,
    BridgeRow,
    CreateBridge,
    InterfaceRow,
    NameTables,
    NodeRows,
    NoPortNumber,
    OwnershipError,
    PortRow,
    SetBridge,
    SetInterface,
    lowest_free,
    node_changes,
    node_rows,
    port_of,
)

WANTED = node_rows("blue", node_mac="02:4D:00:00:00:01", mtu=1442, tables={0: "classify"})


def actual(rows: NodeRows, **interfaces: InterfaceRow) -> ActualRows:
    """What the database holds after everything wanted was made, but for the given interfaces."""
    have = {row.name: row for row in rows.interfaces} | {row.name: row for row in interfaces.values()}
    return ActualRows({rows.bridge.name: rows.bridge}, have, dict.fromkeys(have, rows.bridge.name))


def test_an_empty_database_gets_bridge_tunnel_and_node_port() -> None:
    changes = node_changes(WANTED, ActualRows({}, {}, {}), "blue")
    assert [type(change) for change in changes] == [CreateBridge, AddPort, AddPort]
    bridge, tunnel, node = changes
    assert isinstance(bridge, CreateBridge)
    assert bridge.row.fail_mode == "secure"
    assert bridge.row.datapath_type == "netdev"
    assert "OpenFlow15" in bridge.row.protocols
    assert isinstance(tunnel, AddPort)
    assert (tunnel.row.type, tunnel.row.ofport_request) == ("geneve", 1)
    assert tunnel.row.options == {"remote_ip": "flow", "key": "flow"}
    assert isinstance(node, AddPort)
    assert (node.row.type, node.row.ofport_request, node.row.mac, node.row.mtu_request) == (
        *("internal", 2, "02:4d:00:00:00:01", 1442),
    )


def test_what_is_as_wanted_is_left_alone() -> None:
    assert node_changes(WANTED, actual(WANTED), "blue") == ()


def test_only_the_column_that_drifted_is_set() -> None:
    drifted = replace(WANTED, bridge=replace(WANTED.bridge, fail_mode="standalone"))
    assert node_changes(WANTED, actual(drifted), "blue") == (SetBridge("br-int", {"fail_mode": "secure"}),)
    tunnel = replace(WANTED.interfaces[0], options={"remote_ip": "192.0.2.1"})
    changes = node_changes(WANTED, actual(WANTED, tunnel=tunnel), "blue")
    assert changes == (SetInterface("gnv0", {"options": {"remote_ip": "flow", "key": "flow"}}),)


def test_table_names_follow_the_pipeline() -> None:
    renamed = replace(WANTED, bridge=replace(WANTED.bridge, tables={0: "old", 7: "gone"}))
    assert node_changes(WANTED, actual(renamed), "blue") == (NameTables("br-int", {0: "classify"}),)


def test_foreign_columns_and_ids_are_not_ours_to_correct() -> None:
    mine = {CLUSTER: "blue", "somebody": "else"}
    bridge = replace(WANTED.bridge, external_ids=mine)
    node = replace(WANTED.interfaces[1], external_ids=mine)
    assert node_changes(WANTED, actual(replace(WANTED, bridge=bridge), node=node), "blue") == ()


@pytest.mark.parametrize(("ids", "says"), [({CLUSTER: "red"}, "cluster 'red'"), ({}, "no cluster")])
def test_a_bridge_of_somebody_else_is_refused_by_name(ids: dict[str, str], says: str) -> None:
    bridge = BridgeRow("br-int", fail_mode="standalone", external_ids=ids)
    with pytest.raises(OwnershipError, match=f"bridge br-int belongs to {says}"):
        node_changes(WANTED, ActualRows({"br-int": bridge}, {}, {}), "blue")


def test_a_port_of_somebody_else_is_refused_by_name() -> None:
    theirs = replace(WANTED.interfaces[0], external_ids={CLUSTER: "red"}, options={})
    with pytest.raises(OwnershipError, match="interface gnv0 belongs to cluster 'red'"):
        node_changes(WANTED, actual(WANTED, tunnel=theirs), "blue")


def test_our_port_on_another_bridge_is_refused() -> None:
    found = actual(WANTED)
    moved = ActualRows(found.bridges, found.interfaces, {**found.bridge_of, "gnv0": "br-other"})
    with pytest.raises(OwnershipError, match="gnv0 is on bridge br-other"):
        node_changes(WANTED, moved, "blue")


def test_port_numbers_fill_gaps_from_sixteen() -> None:
    assert lowest_free([]) == 16
    assert lowest_free([1, 2, 16, 17, 19, -1, 65534]) == 18


def test_running_out_of_port_numbers_is_said() -> None:
    with pytest.raises(NoPortNumber, match="from 16 to 18"):
        lowest_free([16, 17, 18], last=18)


def test_external_ids_hold_a_whole_attachment() -> None:
    row = PortRow("veth1", "shop/web-0", "uid-1", "c0ffee", "/run/netns/x", "02:4e:0a:04:00:02", "net1")
    found = port_of("veth1", row.external_ids("blue"), 16, "", "blue")
    assert found is not None
    assert found.row == row
    assert port_of("veth1", row.external_ids("red"), 16, "", "blue") is None

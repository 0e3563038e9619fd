from __future__ import annotations

from pathlib import Path

import pytest

from sdn.ovsdb.appctl import Appctl, AppctlError
from sdn.ovsdb.client import Ovsdb
from sdn.ovsdb.rows import NodeRows
from tests.support.ovs import PrivateOvs

pytestmark = pytest.mark.switch


def test_commands_answer_as_the_tool_does(switch: PrivateOvs) -> None:
    assert Appctl(switch.rundir).call("version") == switch.appctl("version")
    assert f"(Open vSwitch) {Appctl(switch.rundir).version()}" in switch.appctl("version")


def test_a_trace_shows_what_the_flows_do(switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows) -> None:
    ovsdb.ensure_node(wanted)
    switch.ofctl("add-flow", "br-int", "table=0,in_port=2 actions=drop")
    assert "Datapath actions: drop" in Appctl(switch.rundir).trace("br-int", "in_port=2,tcp", "--names")


def test_tunnel_neighbours_are_set_and_read_back(switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows) -> None:
    ovsdb.ensure_node(wanted)
    appctl = Appctl(switch.rundir)
    appctl.set_neighbour("br-int", "192.0.2.7", "02:00:00:00:00:07")
    appctl.set_neighbour("br-int", "2001:db8::7", "02:00:00:00:00:08")
    assert appctl.neighbours()["192.0.2.7"] == ("02:00:00:00:00:07", "br-int")
    assert appctl.neighbours()["2001:db8::7"] == ("02:00:00:00:00:08", "br-int")


def test_a_refused_command_says_why(switch: PrivateOvs) -> None:
    with pytest.raises(AppctlError, match="not a valid command"):
        Appctl(switch.rundir).call("no/such")


def test_without_a_daemon_the_pid_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AppctlError, match=r"ovs-vswitchd\.pid"):
        Appctl(tmp_path).call("version")


def test_an_open_connection_answers_many_commands_in_their_order(
    switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows
) -> None:
    ovsdb.ensure_node(wanted)
    switch.ofctl("add-flow", "br-int", "table=0,tcp actions=drop")
    with Appctl(switch.rundir).connect() as session:
        flows = [f"in_port=2,tcp,tcp_dst={port}" for port in range(1, 200)]
        texts = session.calls("ofproto/trace", [("br-int", flow) for flow in flows])
        assert [f"tp_dst={port}," in text.splitlines()[0] + "," for port, text in enumerate(texts, 1)] == [True] * 199
        assert session.calls("version", []) == []
        assert session.call("version") == switch.appctl("version")


def test_after_a_refusal_a_connection_is_as_good_as_before(switch: PrivateOvs) -> None:
    with Appctl(switch.rundir).connect() as session:
        with pytest.raises(AppctlError, match="not a valid command"):
            session.calls("no/such", [(), ()])
        assert session.call("version") == switch.appctl("version")


def test_a_connection_whose_daemon_went_says_so(tmp_path: Path) -> None:
    with PrivateOvs(tmp_path) as own, Appctl(own.rundir).connect() as session:
        assert session.call("exit") == ""
        with pytest.raises(AppctlError, match="ovs-vswitchd"):
            session.call("version")

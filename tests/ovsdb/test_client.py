from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sdn.ovsdb.client import AttachError, Ovsdb, OvsdbUnavailable
from sdn.ovsdb.commands import NoBridge
from sdn.ovsdb.rows import Attachment, NodeRows, OwnershipError, PortRow
from tests.ovsdb.conftest import CLUSTER
from tests.support.netns import ip
from tests.support.ovs import PrivateOvs

pytestmark = pytest.mark.switch


def port(number: int, *, pod: str = "", sandbox: str = "") -> PortRow:
    name = pod or f"shop/web-{number}"
    return PortRow(f"v{number}", name, f"uid-{name}", sandbox or f"box{number}", f"pod{number}", "02:4e:0a:04:00:02")


def cable(netns: str, *numbers: int) -> None:
    for number in numbers:
        ip("link", "add", f"v{number}", "type", "veth", "peer", "name", f"vp{number}", netns=netns)


class Changes:
    """Collects what the client reports, and waits for it."""

    def __init__(self) -> None:
        self._seen: queue.SimpleQueue[tuple[str, Attachment | None, Attachment | None]] = queue.SimpleQueue()

    def __call__(self, name: str, old: Attachment | None, new: Attachment | None) -> None:
        self._seen.put((name, old, new))

    def until_gone(self, name: str) -> Attachment | None:
        while True:
            seen, old, new = self._seen.get(timeout=10)
            if seen == name and new is None:
                return old


def test_a_node_gets_its_bridge_and_ports_once(switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows, netns: str) -> None:
    assert ovsdb.ensure_node(wanted)
    assert ovsdb.ensure_node(wanted) == ()
    assert switch.vsctl("get", "interface", "gnv0", "ofport").strip() == "1"
    assert switch.vsctl("get", "interface", "ncp-node0", "ofport").strip() == "2"
    assert switch.vsctl("get-fail-mode", "br-int").strip() == "secure"
    switch.ofctl("add-flow", "br-int", "table=spoof_guard,actions=drop")
    assert "spoof_guard" in switch.ofctl("--names", "dump-flows", "br-int")
    link = ip("link", "show", "ncp-node0", netns=netns)
    assert "02:4d:00:00:00:01" in link
    assert "mtu 1442" in link


def test_drift_is_reported_and_corrected(switch: PrivateOvs, wanted: NodeRows) -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    with Ovsdb(switch.rundir / "db.sock", CLUSTER, on_bridge=told.put) as client:
        client.ensure_node(wanted)
        assert told.get(timeout=10) == "br-int"
        switch.vsctl("set-fail-mode", "br-int", "standalone")
        assert told.get(timeout=10) == "br-int"
        assert len(client.ensure_node(wanted)) == 1
    assert switch.vsctl("get-fail-mode", "br-int").strip() == "secure"


def test_a_foreign_bridge_is_not_touched(switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows, netns: str) -> None:
    switch.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev")
    with pytest.raises(OwnershipError, match="bridge br-int belongs to no cluster"):
        ovsdb.ensure_node(wanted)
    switch.vsctl("set", "bridge", "br-int", "external_ids:ncp/cluster=other")
    cable(netns, 1)
    with pytest.raises(OwnershipError, match="belongs to cluster 'other'"):
        ovsdb.attach(port(1))
    assert switch.vsctl("list-ports", "br-int").split() == []
    assert switch.vsctl("get-fail-mode", "br-int").strip() == ""


def test_a_foreign_port_is_neither_replaced_nor_removed(
    switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows, netns: str
) -> None:
    ovsdb.ensure_node(wanted)
    cable(netns, 1)
    switch.vsctl("add-port", "br-int", "v1", "--", "set", "interface", "v1", "external_ids:iface-id=shop/web-1")
    with pytest.raises(OwnershipError, match="interface v1 belongs to no cluster"):
        ovsdb.attach(port(1))
    assert ovsdb.detach("v1") == ()
    assert ovsdb.detach("shop/web-1") == ()
    assert "v1" in switch.vsctl("list-ports", "br-int").split()


def test_attach_returns_the_number_the_switch_uses(
    switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows, netns: str
) -> None:
    ovsdb.ensure_node(wanted)
    cable(netns, 1, 2)
    assert ovsdb.attach(port(1)) == 16
    assert ovsdb.attach(port(2)) == 17
    assert ovsdb.attach(port(1)) == 16
    assert switch.vsctl("get", "interface", "v2", "ofport").strip() == "17"
    assert ovsdb.detach("v1") == ("v1",)
    assert ovsdb.detach("v1") == ()
    assert list(ovsdb.attachments()) == ["shop/web-2"]
    assert ovsdb.attachments()["shop/web-2"].row == port(2)
    assert ovsdb.attach(port(1)) == 16


def test_numbers_survive_a_crash_of_the_switch(switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows, netns: str) -> None:
    ovsdb.ensure_node(wanted)
    cable(netns, 1, 2, 3)
    before = {number: ovsdb.attach(port(number)) for number in (1, 2, 3)}
    ovsdb.detach("v2")
    switch.restart_vswitchd()
    assert {n: int(switch.vsctl("get", "interface", f"v{n}", "ofport")) for n in (1, 3)} == {1: before[1], 3: before[3]}


def test_many_attach_and_detach_at_once(switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows, netns: str) -> None:
    ovsdb.ensure_node(wanted)
    numbers = range(40)
    cable(netns, *numbers)
    with ThreadPoolExecutor(len(numbers)) as pool:
        ofports = list(pool.map(lambda number: ovsdb.attach(port(number)), numbers))
    assert sorted(ofports) == list(range(16, 56))
    assert len(ovsdb.attachments()) == 40
    with ThreadPoolExecutor(len(numbers)) as pool:
        assert all(pool.map(lambda number: ovsdb.detach(f"v{number}"), numbers))
    assert ovsdb.attachments() == {}


def test_the_same_port_at_once_from_many_threads_is_one_port(ovsdb: Ovsdb, wanted: NodeRows, netns: str) -> None:
    ovsdb.ensure_node(wanted)
    cable(netns, 1)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda _: ovsdb.attach(port(1)), range(16))) == [16] * 16
    assert len(ovsdb.attachments()) == 1


def test_of_sandboxes_that_compete_for_a_pod_one_stays(ovsdb: Ovsdb, wanted: NodeRows, netns: str) -> None:
    ovsdb.ensure_node(wanted)
    cable(netns, *range(12))
    rows = [port(number, pod="shop/db") for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        outcomes = [pool.submit(ovsdb.attach, row) for row in rows]
    losers = {type(outcome.exception()) for outcome in outcomes} - {type(None)}
    assert losers <= {AttachError}
    assert len([name for name in ovsdb.ports() if name.startswith("v")]) == 1


def test_a_new_sandbox_replaces_the_old_and_a_late_goodbye_leaves_it(
    ovsdb: Ovsdb, wanted: NodeRows, netns: str
) -> None:
    ovsdb.ensure_node(wanted)
    cable(netns, 1, 2)
    ovsdb.attach(port(1, pod="shop/db", sandbox="old"))
    ovsdb.attach(port(2, pod="shop/db", sandbox="new"))
    assert [row.sandbox for row in ovsdb.attachments().values()] == ["new"]
    assert ovsdb.detach("shop/db", sandbox="old") == ()
    assert ovsdb.detach("shop/db", sandbox="new") == ("v2",)


def test_a_device_that_is_not_there_is_named_and_leaves_nothing(
    switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows
) -> None:
    ovsdb.ensure_node(wanted)
    with pytest.raises(AttachError, match=r"v9.*No such device"):
        ovsdb.attach(port(9))
    assert "v9" not in switch.vsctl("list-ports", "br-int")
    assert ovsdb.attachments() == {}


def test_a_port_whose_device_went_works_again_when_both_are_made_again(
    switch: PrivateOvs, wanted: NodeRows, netns: str
) -> None:
    failed = threading.Event()

    def note(name: str, old: Attachment | None, new: Attachment | None) -> None:
        if name == "v1" and new is not None and new.error == "its device is gone":
            failed.set()

    with Ovsdb(switch.rundir / "db.sock", CLUSTER, on_change=note) as client:
        client.ensure_node(wanted)
        cable(netns, 1, 2)
        client.attach(port(2))
        assert client.attach(port(1)) == 17
        ip("link", "del", "v1", netns=netns)
        assert failed.wait(10)
        client.detach("v1")
        client.settle()
        cable(netns, 1)
        assert client.attach(port(1)) == 17
        assert client.attachments()["shop/web-1"].error == ""


def test_one_refusal_does_not_fail_its_neighbours(
    switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows, netns: str
) -> None:
    ovsdb.ensure_node(wanted)
    cable(netns, *range(8))
    switch.vsctl("add-port", "br-int", "v3")
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(ovsdb.attach, port(number)) for number in range(8)]
    assert [type(call.exception()) for call in calls if call.exception()] == [OwnershipError]
    assert len(ovsdb.attachments()) == 7


def test_without_the_bridge_attach_says_so(ovsdb: Ovsdb, netns: str) -> None:
    cable(netns, 1)
    with pytest.raises(NoBridge, match="br-int does not exist"):
        ovsdb.attach(port(1))


def test_a_port_deleted_by_hand_is_reported_and_can_be_made_again(
    switch: PrivateOvs, wanted: NodeRows, netns: str
) -> None:
    changes = Changes()
    with Ovsdb(switch.rundir / "db.sock", CLUSTER, on_change=changes) as client:
        client.ensure_node(wanted)
        cable(netns, 1)
        client.attach(port(1))
        switch.vsctl("del-port", "v1")
        old = changes.until_gone("v1")
        assert old is not None
        assert old.iface_id == "shop/web-1"
        assert client.attachments() == {}
        assert client.attach(old.row) == 16
        switch.vsctl("del-br", "br-int")
        assert changes.until_gone("gnv0") is not None


def test_attachments_are_read_back_after_a_restart_of_the_client(
    switch: PrivateOvs, ovsdb: Ovsdb, wanted: NodeRows, netns: str
) -> None:
    ovsdb.ensure_node(wanted)
    cable(netns, 1)
    ovsdb.attach(port(1))
    with Ovsdb(switch.rundir / "db.sock", CLUSTER) as again, Ovsdb(switch.rundir / "db.sock", "other") as other:
        again.wait_connected()
        other.wait_connected()
        assert again.attachments() == ovsdb.attachments()
        assert other.ports() == {}


def test_a_server_that_comes_later_is_found_and_one_that_restarts_is_found_again(
    tmp_path: Path, own_netns: str, wanted: NodeRows
) -> None:
    came, went = threading.Semaphore(0), threading.Semaphore(0)
    path = tmp_path / "ovs" / "db.sock"
    with Ovsdb(path, CLUSTER, on_connected=came.release, on_disconnected=went.release) as client:
        with pytest.raises(OvsdbUnavailable, match="is it running"):
            client.attach(port(1), timeout=0.05)
        with PrivateOvs(tmp_path, own_netns):
            assert came.acquire(timeout=10)
            client.ensure_node(wanted)
        assert went.acquire(timeout=10)
        assert not client.connected
        with PrivateOvs(tmp_path, own_netns):
            assert came.acquire(timeout=10)
            assert client.ensure_node(wanted) == ()


def test_settle_waits_for_the_switch_and_says_when_it_is_away(tmp_path: Path, own_netns: str, wanted: NodeRows) -> None:
    with PrivateOvs(tmp_path, own_netns) as switch, Ovsdb(tmp_path / "ovs" / "db.sock", CLUSTER) as client:
        client.ensure_node(wanted)
        client.settle()
        switch.stop_vswitchd()
        with pytest.raises(OvsdbUnavailable, match="ovs-vswitchd did not apply"):
            client.settle(timeout=0.2)
        start = time.monotonic()
        cable(own_netns, 1)
        with pytest.raises(OvsdbUnavailable, match="v1 no number in time"):
            client.attach(port(1), timeout=0.2)
        assert time.monotonic() - start < 5

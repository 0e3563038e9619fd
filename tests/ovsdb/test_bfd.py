"""The ways between nodes, watched by BFD in tunnels: two switches with real packets between them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from sdn.ovsdb.client import Ovsdb
from sdn.ovsdb.rows import FIRST_PEER_OFPORT, node_rows
from tests.ovsdb.conftest import CLUSTER
from tests.support.netns import ip, namespace
from tests.support.ovs import PrivateOvs

pytestmark = pytest.mark.switch
SECONDS = 10.0
TEPS = {"a": "192.0.2.1", "b": "192.0.2.2"}


class Side(NamedTuple):
    name: str
    netns: str
    switch: PrivateOvs
    ovsdb: Ovsdb
    news: threading.Condition

    def near(self) -> bool | None:
        return next((each.near for each in self.ovsdb.ports().values() if each.peer), None)

    def watch(self, *peers: str) -> None:
        rows = node_rows(
            CLUSTER, node_mac="02:4d:00:00:00:01", mtu=1442, tables={}, peers={each: TEPS[each] for each in peers}
        )
        self.ovsdb.ensure_node(rows)

    def settled(self) -> None:
        deadline = time.monotonic() + SECONDS
        while "RX Interval: Approx 200ms" not in (said := self.switch.appctl("bfd/show")):
            assert time.monotonic() < deadline, said

    def until(self, condition: Callable[[], bool], seconds: float = SECONDS) -> float:
        """Wait; how long it took."""
        began = time.monotonic()
        with self.news:
            assert self.news.wait_for(condition, seconds), f"{self.name}: {self.ovsdb.ports()}"
        return time.monotonic() - began


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[dict[str, Side]]:
    with ExitStack() as stack:
        netns = {name: stack.enter_context(namespace()) for name in TEPS}
        ip("link", "add", "ul0", "netns", netns["a"], "type", "veth", "peer", "name", "ul0", "netns", netns["b"])
        found = {name: _side(stack, tmp_path / name, name, netns[name]) for name in TEPS}
        for name, side in found.items():
            other = found["b" if name == "a" else "a"]
            mac = other.switch.vsctl("get", "interface", "br-ul", "mac_in_use").strip().strip('"')
            side.switch.appctl("tnl/neigh/set", "br-ul", TEPS[other.name], mac)
        yield found


def _side(stack: ExitStack, directory: Path, name: str, netns: str) -> Side:
    switch = stack.enter_context(PrivateOvs(directory, netns))
    switch.vsctl("add-br", "br-ul", "--", "set", "bridge", "br-ul", "datapath_type=netdev", "fail_mode=standalone")
    switch.vsctl("add-port", "br-ul", "ul0")
    ip("link", "set", "ul0", "up", netns=netns)
    ip("addr", "add", f"{TEPS[name]}/24", "dev", "br-ul", netns=netns)
    ip("link", "set", "br-ul", "up", netns=netns)
    news = threading.Condition()

    def told(*_: object) -> None:
        with news:
            news.notify_all()

    ovsdb = Ovsdb(switch.rundir / "db.sock", CLUSTER, on_change=told, on_carrier=told)
    ovsdb.start()
    stack.callback(ovsdb.stop)
    ovsdb.wait_connected()
    return Side(name, netns, switch, ovsdb, news)


def both_up(sides: dict[str, Side]) -> tuple[Side, Side]:
    a, b = sides["a"], sides["b"]
    a.watch("b")
    b.watch("a")
    for side in (a, b):
        side.until(lambda side=side: side.near() is True)
    for side in (
        a,
        b,
    ):  # until it is up a session is slow (RFC 5880 6.8.3), and the other end has to be told that it no longer is
        side.settled()
    return a, b


def test_a_killed_switch_is_noticed_within_a_second_and_so_is_its_return(sides):
    a, b = both_up(sides)
    b.switch.stop_vswitchd(signal.SIGKILL)
    assert a.until(lambda: a.near() is False) < 1.0
    b.switch.start_vswitchd()
    ip("addr", "replace", f"{TEPS['b']}/24", "dev", "br-ul", netns=b.netns)
    ip("link", "set", "br-ul", "up", netns=b.netns)
    a.until(lambda: a.near() is True)


def test_a_cut_link_is_noticed_at_both_ends_as_a_lost_carrier_and_by_bfd(sides):
    a, b = both_up(sides)
    assert a.ovsdb.carriers()["br-ul"]
    ip("link", "set", "ul0", "down", netns=a.netns)
    for side in (a, b):
        assert side.until(lambda side=side: side.near() is False) < 1.0
        side.until(lambda side=side: not side.ovsdb.carriers()["br-ul"])


def test_what_carries_another_vni_still_comes_in_by_the_one_tunnel_port(sides):
    """A port with a fixed remote end would take everything from there, were it not for its VNI."""
    a, b = both_up(sides)
    b.switch.ofctl("add-flow", "br-int", "table=0,in_port=1,tun_id=5001,actions=drop")
    output = "set_field:192.0.2.2->tun_dst,set_field:5001->tun_id,output:1"
    frame = "ffffffffffff020000000001" + "88b5" + "00" * 50
    a.switch.ofctl("packet-out", "br-int", f"in_port=CONTROLLER,packet={frame},actions={output}")

    def counted() -> bool:
        b.switch.appctl("revalidator/purge")
        return "n_packets=1" in b.switch.ofctl("dump-flows", "br-int")

    deadline = time.monotonic() + SECONDS
    while not counted():
        assert time.monotonic() < deadline, b.switch.ofctl("dump-flows", "br-int")


def test_a_way_that_is_not_to_be_watched_any_more_has_no_port(sides):
    a, _ = both_up(sides)
    number = int(
        a.switch.vsctl("get", "interface", next(p.interface for p in a.ovsdb.ports().values() if p.peer), "ofport")
    )
    assert number == FIRST_PEER_OFPORT
    a.watch("b")
    a.watch()
    assert not any(port.peer for port in a.ovsdb.ports().values())
    assert "bfd" not in a.switch.vsctl("list-ports", "br-int")

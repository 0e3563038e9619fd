"""A session with a switch: all or nothing, packets both ways, and back again whatever happens to the switch."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack
from types import SimpleNamespace

import pytest

from sdn.openflow.pack import Encoded, cookie_of, encode, pack_match
from sdn.openflow.session import Switch
from sdn.openflow.values import BundleRefused, SwitchGone, SwitchTimeout
from sdn.openflow.wire import connect
from sdn.pipeline import flow as f
from tests.openflow.conftest import OWNER, SECONDS, Watched
from tests.openflow.strategies import ORIGIN
from tests.openflow.test_on_switch import changes, key
from tests.support.ovs import PrivateOvs

pytestmark = pytest.mark.switch

FRAME = bytes.fromhex("0200000000020200000000010800") + bytes(50)


def simple(number: int, actions: tuple[f.Action, ...] = ()) -> f.Flow:
    return f.Flow(0, 100, (("reg0", number, None),), actions, ORIGIN)


GOOD = [encode(simple(number), OWNER) for number in range(50)]
UNREADABLE = f.Flow(0, 7, (("tcp_dst", 80, None),), (), ORIGIN)  # refused when it is put into the bundle
UNAPPLICABLE = f.Flow(0, 7, (), (f.Group(404),), ORIGIN)  # refused when the bundle is committed


@pytest.fixture
def own_ovs(tmp_path: Path) -> Iterator[PrivateOvs]:
    """A switch that a test may kill."""
    with PrivateOvs(tmp_path) as ovs:
        ovs.add_bridge()
        yield ovs


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(UNREADABLE, "bad match: bad prereq"), (UNAPPLICABLE, "bad action: bad out group")],
    ids=["unreadable", "unapplicable"],
)
def test_one_bad_flow_and_nothing_is_applied(switch: Switch, bad: f.Flow, reason: str) -> None:
    installed = encode(simple(1000), OWNER)
    switch.apply(changes([installed]))
    with pytest.raises(BundleRefused, match=reason) as refused:
        switch.apply(changes([*GOOD[:25], encode(bad, OWNER), *GOOD[25:]], [key(one) for one in switch.flows()]))
    assert [error.subject for error in refused.value.errors] == [bad]
    assert [flow.cookie for flow in switch.flows()] == [installed.cookie]
    switch.apply(changes(GOOD))
    assert len(switch.flows()) == 51


def test_what_cannot_be_encoded_is_refused_before_the_switch_sees_it(switch: Switch) -> None:
    bad = f.Flow(0, 7, (("reg0", 1 << 40, None),), (), ORIGIN)
    with pytest.raises(BundleRefused, match="reg0: 0x10000000000 does not fit into 32 bits") as refused:
        switch.apply(changes([*GOOD, (bad, 5)]))
    assert refused.value.errors[0].subject == bad
    assert switch.flows() == []


def test_flows_are_taken_from_an_iterator_as_they_are_sent(switch: Switch) -> None:
    switch.apply(SimpleNamespace(add=(encode(simple(number), OWNER) for number in range(2000)), delete=iter(())))
    assert len(switch.flows()) == 2000


def test_an_iterator_that_fails_on_the_way_leaves_nothing_behind(switch: Switch) -> None:
    def failing() -> Iterator[Encoded]:
        yield from (encode(simple(number), OWNER) for number in range(2000))
        raise LookupError("no more flows")

    with pytest.raises(LookupError, match="no more flows"):
        switch.apply(SimpleNamespace(add=failing(), delete=()))
    assert switch.flows() == []
    switch.apply(changes(GOOD))
    assert len(switch.flows()) == len(GOOD)


def test_packets_go_out_between_the_members_of_a_bundle(switch: Switch) -> None:
    sender = threading.Thread(target=lambda: [switch.packet_out(FRAME, (f.Output(f.LOCAL),)) for _ in range(500)])
    sender.start()
    switch.apply(SimpleNamespace(add=(encode(simple(number), OWNER) for number in range(5000)), delete=()))
    sender.join()
    switch.barrier()
    assert len(switch.flows()) == 5000


def test_what_two_threads_send_does_not_mix(tmp_path: Path) -> None:
    block, blocks = 1 << 20, 8
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "s.mgmt"))
        listener.listen()
        with connect(tmp_path / "s.mgmt", SECONDS) as stream, listener.accept()[0] as peer:
            marks = (b"a", b"b")
            senders = [threading.Thread(target=_send_all, args=(stream, mark * block, blocks)) for mark in marks]
            for sender in senders:
                sender.start()
            peer.settimeout(SECONDS)
            with peer.makefile("rb") as received:
                assert {received.read(block) for _ in range(2 * blocks)} == {mark * block for mark in marks}
            for sender in senders:
                sender.join()


def _send_all(stream: socket.socket, packed: bytes, times: int) -> None:
    for _ in range(times):
        stream.sendall(packed)


def test_many_bad_flows_do_not_jam_the_session(switch: Switch) -> None:
    bad = [encode(UNREADABLE._replace(priority=number), OWNER) for number in range(3000)]
    with pytest.raises(BundleRefused) as refused:
        switch.apply(changes(bad))
    assert len(refused.value.errors) == 3000
    switch.barrier()


def test_adding_over_a_flow_keeps_its_counters_and_takes_the_new_cookie(
    switch: Switch, shared_ovs: PrivateOvs, bridge: str
) -> None:
    shared_ovs.add_dummy_port(f"{bridge}p", 16, bridge)
    before = f.Flow(0, 5, (), (f.SetField("reg1", 1),), ORIGIN)
    after = before._replace(actions=(f.SetField("reg1", 2),), origin=ORIGIN.about("other"))
    switch.apply(changes([(before, cookie_of(before, OWNER))]))
    shared_ovs.inject(f"{bridge}p", FRAME)
    shared_ovs.appctl("revalidator/wait")
    _until(lambda: switch.flows()[0].packets == 1)
    switch.apply(changes([(after, cookie_of(after, OWNER))]))
    (flow,) = switch.flows()
    assert (flow.cookie, flow.packets, flow.octets) == (cookie_of(after, OWNER), 1, len(FRAME))


def test_reading_only_the_flows_of_an_owner_or_a_table(switch: Switch) -> None:
    switch.apply(changes([encode(simple(1), OWNER), encode(simple(2)._replace(table=3), OWNER + 1)]))
    assert len(switch.flows(cookie=OWNER << 48, cookie_mask=0xFFFF << 48)) == 1
    assert [flow.match for flow in switch.flows(table=3)] == [pack_match((("reg0", 2, None),))]


def test_deleting_takes_exactly_the_named_flow(switch: Switch) -> None:
    wide = encode(f.Flow(0, 100, (), (), ORIGIN), OWNER)
    switch.apply(changes([wide, *GOOD]))
    switch.apply(changes(delete=[(0, 100, b""), (0, 100, pack_match((("reg0", 7777, None),)))]))
    assert len(switch.flows()) == len(GOOD)


def test_a_packet_comes_with_what_the_pipeline_knew(watched: Watched, shared_ovs: PrivateOvs, bridge: str) -> None:
    shared_ovs.add_dummy_port(f"{bridge}p", 16, bridge)
    wrote = (f.SetField("reg3", 77), f.SetField("metadata", 5), f.SetField("tunnel_id", 5001))
    asking = encode(f.Flow(0, 5, (), (*wrote, f.Controller(b"\x07why")), ORIGIN), OWNER)
    watched.switch.apply(changes([asking]))
    shared_ovs.inject(f"{bridge}p", FRAME)
    packet = watched.packets.get(timeout=SECONDS)
    assert (packet.userdata, packet.table, packet.cookie) == (b"\x07why", 0, asking.cookie)
    assert (packet.data, packet.total_len) == (FRAME, len(FRAME))
    known = {name: packet.metadata[name] for name in ("in_port", "reg3", "metadata", "tunnel_id")}
    assert known == {"in_port": 16, "reg3": 77, "metadata": 5, "tunnel_id": 5001}


def test_a_packet_sent_out_runs_through_its_actions(switch: Switch, shared_ovs: PrivateOvs, bridge: str) -> None:
    capture = shared_ovs.add_dummy_port(f"{bridge}p", 16, bridge)
    switch.apply(changes([encode(f.Flow(9, 1, (("reg2", 4, None),), (f.Output(16),), ORIGIN), OWNER)]))
    switch.packet_out(FRAME, (f.SetField("eth_src", 0x020000000099), f.SetField("reg2", 4), f.Resubmit(9)))
    changed = FRAME[:6] + bytes.fromhex("020000000099") + FRAME[12:]
    _until(lambda: changed in capture.read_bytes())


def test_packets_to_us_are_limited(watched: Watched, shared_ovs: PrivateOvs, bridge: str) -> None:
    watched.switch.set_controller_rate(20)
    watched.switch.barrier()
    said = shared_ovs.ofctl("dump-meters", bridge)
    assert "meter=controller pktps" in said
    assert "rate=20" in said


def test_the_session_is_back_after_a_crash_of_the_switch(own_ovs: PrivateOvs, watch: Callable[..., Watched]) -> None:
    session = watch(own_ovs.rundir)
    switch = session.up.get(timeout=SECONDS)
    switch.set_controller_rate(50)
    switch.apply(changes(GOOD))
    own_ovs.stop_vswitchd(signal.SIGKILL)
    assert session.down.get(timeout=SECONDS) == "the switch closed the connection"
    with pytest.raises(SwitchGone):
        switch.apply(changes(GOOD))
    own_ovs.start_vswitchd()
    session.up.get(timeout=SECONDS)
    assert switch.flows() == []
    switch.apply(changes(GOOD))
    assert len(switch.flows()) == 50
    assert "rate=50" in own_ovs.ofctl("dump-meters", "br-int")


def test_a_switch_that_hangs_is_noticed(own_ovs: PrivateOvs, watch: Callable[..., Watched]) -> None:
    session = watch(own_ovs.rundir)
    switch = session.up.get(timeout=SECONDS)
    os.kill(own_ovs.vswitchd_pid, signal.SIGSTOP)
    try:
        since = time.monotonic()
        assert "no answer to echo requests" in session.down.get(timeout=SECONDS)
        assert time.monotonic() - since < 6
        assert not switch.connected
    finally:
        os.kill(own_ovs.vswitchd_pid, signal.SIGCONT)
    session.up.get(timeout=SECONDS)


def test_a_change_that_is_not_answered_ends_the_session(own_ovs: PrivateOvs, watch: Callable[..., Watched]) -> None:
    session = watch(own_ovs.rundir)
    switch = session.up.get(timeout=SECONDS)
    os.kill(own_ovs.vswitchd_pid, signal.SIGSTOP)
    try:
        with pytest.raises(SwitchTimeout):
            switch.apply(changes(GOOD), timeout=0.2)
        assert session.down.get(timeout=SECONDS) == "the switch did not answer in time"
    finally:
        os.kill(own_ovs.vswitchd_pid, signal.SIGCONT)
    session.up.get(timeout=SECONDS)
    assert switch.flows() == []


def test_a_switch_that_comes_later_is_found(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    session = watch(tmp_path / "ovs")
    assert "cannot connect to" in session.down.get(timeout=SECONDS)
    with PrivateOvs(tmp_path) as ovs:
        ovs.add_bridge()
        session.up.get(timeout=SECONDS)
    assert session.down.get(timeout=SECONDS)


def test_a_bridge_without_openflow_15_is_named_as_the_reason(
    shared_ovs: PrivateOvs, bridge: str, watch: Callable[..., Watched]
) -> None:
    shared_ovs.vsctl("set", "bridge", bridge, "protocols=OpenFlow13")
    reason = watch(shared_ovs.rundir, bridge).down.get(timeout=SECONDS)
    assert "the switch refuses OpenFlow 1.5" in reason


def test_an_old_switch_is_refused(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    place = tmp_path / "old.mgmt"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        thread = threading.Thread(target=_speak_as_an_old_switch, args=(listening,), daemon=True)
        thread.start()
        reason = watch(place).down.get(timeout=SECONDS)
    assert reason == "the switch says it is Open vSwitch 2.15.0: Open vSwitch 3.1 or later is needed"


def test_a_switch_that_talks_nonsense_is_tried_again(tmp_path: Path, watch: Callable[..., Watched]) -> None:
    place = tmp_path / "odd.mgmt"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        session = watch(place)
        for version in (99, 98):
            stream, _ = listening.accept()
            with stream:
                stream.sendall(pack("!BBHI", version, 0, 8, 1))
                assert "the session failed" in session.down.get(timeout=SECONDS)


def _speak_as_an_old_switch(listening: socket.socket) -> None:
    """Answer one session's handshake, description and barrier."""
    stream, _ = listening.accept()
    description = b"Nicira".ljust(256, b"\0") + b"Open vSwitch".ljust(256, b"\0") + b"2.15.0".ljust(256, b"\0")
    answers = {
        5: lambda kind: (6, pack("!QIBB2xII", 1, 0, 254, 0, 0, 0)),
        18: lambda kind: (19, pack("!HH4x", kind, 0) + (description + bytes(288) if kind == 0 else b"")),
        20: lambda kind: (21, b""),
    }
    with stream:
        stream.sendall(pack("!BBHI", 6, 0, 8, 1))
        while head := stream.recv(8, socket.MSG_WAITALL):
            length = int.from_bytes(head[2:4], "big")
            body = stream.recv(length - 8, socket.MSG_WAITALL) if length > 8 else b""
            if head[1] in answers:
                kind, said = answers[head[1]](int.from_bytes(body[:2], "big"))
                stream.sendall(pack("!BBH", 6, kind, 8 + len(said)) + head[4:8] + said)


def test_callbacks_may_use_the_session_and_their_faults_do_not_end_it(shared_ovs: PrivateOvs, bridge: str) -> None:
    applied: queue.Queue[int] = queue.Queue()

    def connected(switch: Switch) -> None:
        switch.apply(changes(GOOD))
        applied.put(len(switch.flows()))
        raise RuntimeError("a fault in a callback")

    switch = Switch(
        shared_ovs.rundir,
        bridge,
        owner=OWNER,
        on_connected=connected,
        on_disconnected=lambda *_: None,
        on_packet_in=lambda *_: None,
    )
    switch.start()
    try:
        assert applied.get(timeout=SECONDS) == 50
        switch.barrier()
    finally:
        switch.stop()


def test_stopping_leaves_no_thread(shared_ovs: PrivateOvs, bridge: str) -> None:
    with Watched(shared_ovs.rundir, bridge) as session:
        session.up.get(timeout=SECONDS)
    assert not [thread for thread in threading.enumerate() if f"{bridge}.mgmt" in thread.name]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)

"""The node loop against a real switch: in step after every change, quiet after a restart, and repairing what drifts."""

from __future__ import annotations

import time

import pytest

from ipam.address import parse_interface
from ncp.node import caches
from ncp.node.loop import Loop
from ncp.node.seats import Seat
from ncp.translate.intent import KINDS, Fabric
from sdn.openflow.pack import owner_of
from sdn.openflow.session import Switch
from sdn.ovsdb.appctl import Appctl
from sdn.pipeline.tables import T
from tests.support.ovs import PrivateOvs
from tests.translate.test_intent import namespace, node, pod

pytestmark = pytest.mark.switch
FABRIC = Fabric("lab", 5000, (parse_interface("100.64.0.1/16"), parse_interface("fd98::1/64")), 1500, False, "node1")
OWNER = owner_of("lab")


@pytest.fixture(scope="module")
def ovs(tmp_path_factory):
    with PrivateOvs(tmp_path_factory.mktemp("ovs")) as private:
        private.vsctl(
            "add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=dummy", "fail_mode=secure",
            "protocols=OpenFlow13,OpenFlow15",
        )  # fmt: skip
        yield private


class Agent:
    """A loop with its switch and what it told."""

    def __init__(self, ovs, *, audit_interval=3600.0):
        self.outcomes = []
        self.problems = []
        self.switch = Switch(
            ovs.rundir,
            owner=OWNER,
            on_connected=lambda switch: self.loop.connected(),
            on_disconnected=lambda switch, why: None,
            on_packet_in=lambda switch, packet: None,
        )
        self.loop = Loop(
            "node1",
            OWNER,
            FABRIC,
            self.switch,
            appctl=Appctl(ovs.rundir),
            audit_interval=audit_interval,
            on_outcome=self.outcomes.append,
            on_problems=self.problems.append,
        )

    def __enter__(self):
        self.loop.start()
        self.switch.start()
        return self

    def __exit__(self, *error):
        self.loop.stop()
        self.switch.stop()

    def cluster(self, attached=None):
        """Give the loop a small cluster, as reflectors and OVSDB would."""
        for name, address in (("node1", "192.168.50.11"), ("node2", "192.168.50.12")):
            self.loop.changed("Node", ("", name), node(name, address))
        self.loop.changed("Namespace", ("", "red"), namespace("red"))
        self.loop.changed("Pod", ("red", "a"), pod("a"))
        for kind in KINDS:
            self.loop.synced(kind)
        self.loop.attached({"red/a": Seat(16, "one")} if attached is None else attached)
        self.idle()
        return self

    def idle(self):
        assert self.loop.wait_idle(soon())


def soon():
    return time.monotonic() + 10


def until(condition):
    deadline = soon()
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def dump(ovs):
    """What the switch holds, less what changes by itself."""
    text = ovs.ofctl("-O", "OpenFlow15", "--no-stats", "dump-flows", "br-int")
    lines = (line.strip() for line in text.splitlines() if "priority" in line or "table=" in line)
    return sorted(line for line in lines if f"cookie={caches.COOKIE:#x}," not in line)


def test_nothing_is_sent_until_everything_is_known(ovs):
    with Agent(ovs) as agent:
        before = dump(ovs)
        agent.loop.changed("Node", ("", "node1"), node("node1", "192.168.50.11"))
        for kind in KINDS - {"Pod"}:
            agent.loop.synced(kind)
        agent.loop.attached({})
        assert not agent.loop.wait_idle(time.monotonic() + 0.3)
        assert dump(ovs) == before
        agent.loop.synced("Pod")
        agent.idle()
        assert dump(ovs) != before


def test_a_restarted_agent_changes_nothing(ovs):
    with Agent(ovs) as agent:
        agent.cluster()
    before = dump(ovs)
    with Agent(ovs) as again:
        again.cluster()
        assert again.outcomes == []
    assert dump(ovs) == before


def test_a_pod_comes_goes_and_comes_back_by_its_own_flows_only(ovs):
    with Agent(ovs) as agent:
        agent.cluster()
        whole = dump(ovs)
        agent.outcomes.clear()
        agent.loop.changed("Pod", ("red", "a"), None)
        agent.idle()
        (gone,) = agent.outcomes
        assert gone.added == 0
        assert 0 < gone.deleted < 10
        agent.loop.changed("Pod", ("red", "a"), pod("a"))
        agent.idle()
        assert dump(ovs) == whole


def test_a_port_is_realised_once_the_switch_has_acknowledged_it(ovs):
    with Agent(ovs) as agent:
        agent.cluster(attached={})
        assert not agent.loop.realised("red/a", 16)
        agent.loop.attached({"red/a": Seat(16, "one")})
        assert agent.loop.wait_realised("red/a", 16, soon())
        assert any("in_port=16" in line for line in dump(ovs))
        assert agent.loop.withdraw("red/a", "one", soon())
        assert not any("in_port=16" in line for line in dump(ovs))
        agent.loop.attached({"red/a": Seat(17, "two")})
        assert agent.loop.wait_realised("red/a", 17, soon())


def test_the_next_sandbox_of_a_pod_is_realised_also_if_it_gets_the_number_of_the_one_before(ovs):
    with Agent(ovs) as agent:
        agent.cluster()
        assert agent.loop.withdraw("red/a", "one", soon())
        agent.loop.attached({"red/a": Seat(16, "one")})
        agent.idle()
        assert not any("in_port=16" in line for line in dump(ovs)), "it is still attached, but withdrawn"
        agent.loop.attached({"red/a": Seat(16, "two")})
        assert agent.loop.wait_realised("red/a", 16, soon())
        assert any("in_port=16" in line for line in dump(ovs))


def test_flows_changed_by_hand_are_repaired_and_reported(ovs):
    with Agent(ovs) as agent:
        agent.cluster()
        whole = dump(ovs)
        ovs.ofctl("-O", "OpenFlow15", "del-flows", "br-int", "table=0,in_port=16")
        ovs.ofctl("-O", "OpenFlow15", "add-flow", "br-int", f"table={T['l2_forward']},priority=7,udp,actions=drop")
        assert dump(ovs) != whole
        agent.loop.audit()
        until(lambda: dump(ovs) == whole)
        until(lambda: len(agent.loop.drift) == 2)
        assert sorted((drift.kind, drift.table) for drift in agent.loop.drift) == [
            ("foreign", "l2_forward"),
            ("missing", "classify"),
        ]
        missing = next(drift for drift in agent.loop.drift if drift.kind == "missing")
        assert "Pod red/a" in missing.origin


def test_the_audit_comes_by_itself(ovs):
    with Agent(ovs, audit_interval=0.2) as agent:
        agent.cluster()
        whole = dump(ovs)
        ovs.ofctl("-O", "OpenFlow15", "del-flows", "br-int", "table=0")
        until(lambda: dump(ovs) == whole)


def test_a_restarted_switch_is_programmed_again(ovs):
    with Agent(ovs) as agent:
        agent.cluster()
        whole = dump(ovs)
        ovs.restart_vswitchd()
        until(lambda: dump(ovs) == whole)
        agent.loop.changed("Pod", ("red", "a"), None)
        agent.idle()
        assert dump(ovs) != whole


def test_a_malformed_decision_is_told_and_the_rest_goes_out(ovs):
    with Agent(ovs) as agent:
        agent.cluster()
        agent.loop.changed("Pod", ("red", "b"), pod("b", **{"ncp/port": "{"}))
        agent.idle()
        until(lambda: agent.problems and [p.reason for p in agent.problems[-1]] == ["MALFORMED_ANNOTATION"])
        agent.loop.changed("Pod", ("red", "b"), None)
        until(lambda: agent.problems[-1] == [])


def test_a_fault_of_our_own_is_told_and_does_not_end_the_loop(ovs, monkeypatch):
    """Planted: compiling raises once. The loop says so, builds anew, and loses nothing it was given."""
    import ncp.node.loop as module

    real, failures = module.update, iter([RuntimeError("planted")])

    def update(*arguments):
        for failure in failures:
            raise failure
        return real(*arguments)

    with Agent(ovs) as agent:
        agent.cluster()
        monkeypatch.setattr(module, "update", update)
        agent.loop.changed("Pod", ("red", "a"), None)
        until(lambda: "planted" in agent.loop.fault)
        until(lambda: not any("in_port=16" in line for line in dump(ovs)))
        until(lambda: agent.loop.fault == "")


def test_a_fault_over_nothing_that_was_given_is_made_good_too(ovs, monkeypatch):
    """Planted: the audit raises once. Nothing else will wake the loop, and what drifted must not wait for the next audit."""
    import ncp.node.loop as module

    real, failures = module.compare, iter([RuntimeError("planted")])

    def compare(*arguments):
        for failure in failures:
            raise failure
        return real(*arguments)

    monkeypatch.setattr(module, "RETRY", 0.05)
    with Agent(ovs) as agent:
        agent.cluster()
        whole = dump(ovs)
        monkeypatch.setattr(module, "compare", compare)
        ovs.ofctl("-O", "OpenFlow15", "del-flows", "br-int", "table=0")
        agent.loop.audit()
        until(lambda: dump(ovs) == whole)
        until(lambda: agent.loop.fault == "")

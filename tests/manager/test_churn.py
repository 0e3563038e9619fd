"""Pods and namespaces come and go while the manager is killed at random: nothing leaks, nothing is held twice."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ipam.address import parse_interface
from tests.manager.world import World, layout

REST = 60.0


def check(w: World) -> None:
    """What must hold whenever nothing is left to write."""
    addresses = w.all_addresses()
    assert len(addresses) == len(set(addresses)), "an address is held twice"
    live = {key for key, pod in w.pods.items() if pod["status"]["phase"] == "Pending"}
    assert live == w.books.ports.keys() | w.books.failures.keys()
    shown = [parse_interface(g).prefix for name in w.namespaces if "ncp/segments" in w.annotations(name)
             for s in w.segments(name) for g in s["gateways"]]  # fmt: skip
    assert sorted(shown) == list(w.books.supply.blocks.given()), "subnets given are not those shown"
    numbers = [s["vni"] for name in w.namespaces if "ncp/segments" in w.annotations(name) for s in w.segments(name)]
    assert sorted(numbers) == list(w.books.supply.vnis), "numbers given are not those shown"
    for tenant in w.books.tenants.values():
        for ledger in tenant.chain.ledgers():
            assert ledger.held + ledger.resting + ledger.free == ledger.usable
    held = [str(a) for t in w.books.tenants.values() for ledger in t.chain.ledgers() for a in ledger.holders()]
    assert sorted(held) == sorted(address.partition("/")[0] for address in addresses)


def check_all_comes_back(w: World) -> None:
    """When everything is gone and the rests are over, everything is free."""
    for key in list(w.pods):
        w.delete_pod(*key)
    w.settle()
    w.settle(REST)
    check(w)
    for name in w.namespaces:
        assert "ncp/resting" not in w.annotations(name)
    assert all(ledger.held == ledger.resting == 0 for t in w.books.tenants.values() for ledger in t.chain.ledgers())
    for name in list(w.namespaces):
        w.delete_namespace(name)
    w.settle()
    assert w.books.supply.blocks.given() == ()
    assert len(w.books.supply.vnis) == 0


def crash(w: World, written: int) -> None:
    """The manager is killed when it has written only so many of its decisions."""
    for decision in w.books.decisions(w.now)[:written]:
        w.write(decision)
    w.restart()


@pytest.mark.parametrize("seed", range(2))
def test_500_pods_churned_under_kills_leave_no_leak_and_no_duplicate(seed):
    chance = random.Random(seed)
    w = World(layout("10.4.0.0/20", "fd00:10:4::/48", lengths=((4, 26), (6, 64))))
    made = 0
    given: dict[str, tuple[str, str, str]] = {}  # address -> who had it last
    ended: dict[str, float] = {}
    for name in "abcde":
        w.namespace(name)
    while made < 500 or len(w.pods) > 20:
        what = chance.random()
        if what < 0.55 and made < 500:
            w.pod(chance.choice("abcde"), f"p{chance.randrange(300)}-{made}")
            made += 1
        elif what < 0.9 and w.pods:
            key = chance.choice(sorted(w.pods))
            chance.choice([w.delete_pod, w.finish])(*key) if w.pods[key]["status"]["phase"] == "Pending" else (
                w.delete_pod(*key)
            )
        elif what < 0.97:
            w.settle(chance.choice([0.1, 1.0, 7.0]))
            check(w)
        else:
            crash(w, chance.randrange(12))
        now_live = {}
        for key in w.pods:
            if w.pods[key]["status"]["phase"] == "Pending" and "ncp/port" in w.annotations(*key):
                now_live |= dict.fromkeys(w.addresses(*key), (*key, w.pods[key]["metadata"]["uid"]))
        for address, who in now_live.items():
            assert given.get(address, who) == who or address in ended, f"{address} changed hands without an end"
        given, ended = now_live, ended | dict.fromkeys(given.keys() - now_live.keys(), w.now)
    w.settle()
    check(w)
    check_all_comes_back(w)


def test_no_address_is_reused_inside_the_rest_time_while_a_manager_runs():
    chance = random.Random(7)
    w = World(layout("10.4.0.0/22", lengths=((4, 27), (6, 64))))
    w.namespace("a")
    w.settle()
    ended: dict[str, float] = {}
    for n in range(600):
        w.pod("a", f"p{n}")
        w.settle(chance.random() * 4)
        address = w.addresses("a", f"p{n}")[0]
        assert w.now >= ended.get(address, -REST) + REST
        if len(w.pods) > 12:
            key = chance.choice(sorted(w.pods))
            ended[w.addresses(*key)[0]] = w.now
            w.delete_pod(*key)
            w.settle()
            if chance.random() < 0.1:
                w.restart()  # what was written before the kill is known after it
    assert len(w.segments("a")) < 8


class Cluster(RuleBasedStateMachine):
    """Any sequence of what users do, what the manager writes or does not, and kills. Small, so that it fills up."""

    @initialize(v6=st.booleans(), stateful=st.booleans())
    def start(self, v6, stateful):
        blocks = ("10.4.0.0/27", "fd00:10:4::/48") if v6 else ("10.4.0.0/27",)
        self.w = World(layout(*blocks, lengths=((4, 29), (6, 64)), statefulset_ranges=stateful, namespace_subnets=True))
        self.names = 0

    @rule(name=st.sampled_from("abc"), subnets=st.sampled_from([None, None, "10.4.0.8/29", "10.9.0.0/30", "x"]))
    def make_namespace(self, name, subnets):
        if name not in self.w.namespaces:
            self.w.namespace(name, **({"ncp__subnets": subnets} if subnets else {}))

    @rule(name=st.sampled_from("abc"), number=st.integers(0, 7), kind=st.sampled_from(["plain", "host", "set"]))
    def make_pod(self, name, number, kind):
        if name not in self.w.namespaces or (name, f"p-{number}") in self.w.pods:
            return
        fixed = {"ncp__ip_range": "10.4.0.2-10.4.0.4"} if kind == "set" else {}
        self.w.pod(name, f"p-{number}", host=kind == "host", stateful=kind == "set", **fixed)
        if kind == "host":
            self.w.delete_pod(name, f"p-{number}")

    @precondition(lambda self: self.w.pods)
    @rule(pick=st.integers(0, 50), finish=st.booleans())
    def end_pod(self, pick, finish):
        key = sorted(self.w.pods)[pick % len(self.w.pods)]
        if finish:
            self.w.finish(*key)
        else:
            self.w.delete_pod(*key)

    @rule(name=st.sampled_from("abc"))
    def end_namespace(self, name):
        if name in self.w.namespaces:
            self.w.delete_namespace(name)

    @precondition(lambda self: self.w.pods)
    @rule(pick=st.integers(0, 50), other=st.integers(0, 50), text=st.sampled_from([None, "{", "copy"]))
    def edit(self, pick, other, text):
        """Somebody edits a pod's decision."""
        keys = sorted(self.w.pods)
        obj = self.w.pods[keys[pick % len(keys)]]
        if obj["status"]["phase"] != "Pending":
            return
        if text == "copy":
            text = self.w.annotations(*keys[other % len(keys)]).get("ncp/port")
        self.w.annotate(obj, ncp__port=text)

    @rule(written=st.integers(0, 6))
    def kill(self, written):
        crash(self.w, written)

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 61.0]))
    def settle(self, seconds):
        self.w.settle(seconds)
        check(self.w)
        before = {key: self.w.annotations(*key).get("ncp/port") for key in self.w.books.ports}
        self.w.restart(random.Random(1))
        assert [d for d in self.w.settle() if d.kind == "Pod" and "ncp/port" in d.annotations] == []
        assert before == {key: self.w.annotations(*key).get("ncp/port") for key in self.w.books.ports}

    def teardown(self):
        if hasattr(self, "w"):
            self.w.settle()
            check(self.w)
            check_all_comes_back(self.w)


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

"""Pods and namespaces come and go while the manager is killed at random: nothing leaks, nothing is held twice."""

from __future__ import annotations

import random

import pytest

from ipam.address import parse_interface
from tests.manager.world import World, layout

REST = 60.0


def check(w: World) -> None:
    """What must hold whenever nothing is left to write."""
    addresses = w.all_addresses()
    assert len(addresses) == len(set(addresses)), "an address is held twice"
    live = {
        key for key, pod in w.pods.items() if pod["status"]["phase"] == "Pending" and not pod["spec"]["hostNetwork"]
    }
    assert live == w.books.ports.keys() | w.books.failures.keys()
    shown = [parse_interface(g).prefix for name in w.namespaces if "ncp/segments" in w.annotations(name)
             for s in w.segments(name) for g in s["gateways"]]  # fmt: skip
    assert sorted(shown) == list(w.books.accounts.supply.blocks.given()), "subnets given are not those shown"
    numbers = [s["vni"] for name in w.namespaces if "ncp/segments" in w.annotations(name) for s in w.segments(name)]
    assert sorted(numbers) == list(w.books.accounts.supply.vnis), "numbers given are not those shown"
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
    assert w.books.accounts.supply.blocks.given() == ()
    assert len(w.books.accounts.supply.vnis) == 0


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


class Cluster:
    """What users, clocks and crashes do to a cluster so small that it is full most of the time."""

    def __init__(self, chance: random.Random):
        self.chance = chance
        blocks = ["10.4.0.0/28", "fd00:10:4::/48"][: chance.choice([1, 2])]
        options = {"statefulset_ranges": chance.random() < 0.5, "namespace_subnets": True}
        self.w = World(layout(*blocks, lengths=((4, 29), (6, 64)), **options))

    def make_namespace(self):
        name, subnets = self.chance.choice("abc"), self.chance.choice([None, None, "10.4.0.8/29", "10.9.0.0/30", "x"])
        if name not in self.w.namespaces:
            self.w.namespace(name, **({"ncp__subnets": subnets} if subnets else {}))

    def make_pods(self):
        name, kind = self.chance.choice("abc"), self.chance.choice(["plain", "plain", "host", "set"])
        for number in self.chance.sample(range(14), 7):
            if name in self.w.namespaces and (name, f"p-{number}") not in self.w.pods:
                fixed = {"ncp__ip_range": "10.4.0.2-10.4.0.4"} if kind == "set" else {}
                self.w.pod(name, f"p-{number}", host=kind == "host", stateful=kind == "set", **fixed)

    def end_pod(self):
        if self.w.pods:
            self.chance.choice([self.w.finish, self.w.delete_pod])(*self.chance.choice(sorted(self.w.pods)))

    def end_namespace(self):
        if self.w.namespaces:
            self.w.delete_namespace(self.chance.choice(sorted(self.w.namespaces)))

    def edit(self):
        """Somebody edits a pod's decision."""
        live = sorted(self.w.books.ports.keys() & self.w.pods.keys())
        if live:
            text = self.chance.choice([None, "{", self.w.annotations(*self.chance.choice(live)).get("ncp/port")])
            self.w.annotate(self.w.pods[self.chance.choice(live)], ncp__port=text)

    def kill(self):
        crash(self.w, self.chance.randrange(6))

    def settle(self):
        self.w.settle(self.chance.choice([0.0, 1.0, 30.0]))
        check(self.w)

    def wait(self):
        self.w.settle()
        self.w.settle(REST)
        check(self.w)

    def restart(self):
        """A rebuild finds nothing to decide: neither is something lost, nor does anybody wait in vain."""
        self.w.settle()
        before = {key: self.w.annotations(*key).get("ncp/port") for key in self.w.books.ports}
        self.w.restart(self.chance)
        self.w.settle()
        after = {key: self.w.annotations(*key).get("ncp/port") for key in self.w.books.ports}
        assert before.items() <= after.items()
        # Whose rest it is does not outlive a restart: a pod of a set may then get the address its ordinal counts to.
        assert before == after or self.w.settings.statefulset_ranges


@pytest.mark.parametrize("seed", range(40))
def test_a_full_cluster_stays_right_whatever_happens(seed):
    chance = random.Random(seed)
    cluster = Cluster(chance)
    steps = [cluster.make_namespace, cluster.make_pods, cluster.make_pods, cluster.end_pod, cluster.end_pod, cluster.edit,
             cluster.kill, cluster.settle, cluster.settle, cluster.wait, cluster.restart]  # fmt: skip
    for step in range(60):
        chance.choice([*steps, cluster.end_namespace] if step % 4 == 0 else steps)()
    cluster.w.settle()
    check(cluster.w)
    check_all_comes_back(cluster.w)

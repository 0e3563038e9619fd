"""Virtual addresses as decided: demands in, verdicts out, each applied to the object as the API server would."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncp.manager.balancers import Balancers, Verdict
from ncp.manager.demand import LoadBalancing
from ncp.settings import parse

POOLS = "lab=10.0.0.1-10.0.0.3, lab=fd00::1-fd00::2, far=10.1.0.0/31"
SMALL = "lab=10.0.0.1-10.0.0.2, lab=fd00::1, far=10.1.0.0/32"
Key = tuple[str, str]


def settings(pools: str = POOLS, *, native: bool = True, rest: float = 60.0) -> LoadBalancing:
    found = parse(f"[nsx_v3]\nexternal_ip_pools_lb = {pools}").nsx_v3
    return LoadBalancing("k8scluster", found.external_ip_pools_lb, native, rest)


class World:
    """Services, and the books of the manager that runs now."""

    def __init__(self, pools: str = POOLS, **options: Any) -> None:
        self.options = settings(pools, **options)
        self.now = 1000.0
        self.services: dict[Key, dict[str, Any]] = {}
        self.events: list[tuple[str, str]] = []
        self._numbers = itertools.count(1)
        self.books = Balancers(self.options)

    def service(
        self, name: str, asked: str = "", *, families: str = "4", shown: Iterable[str] = (), **spec: Any
    ) -> None:
        number = next(self._numbers)
        meta = {"namespace": "a", "name": name, "uid": f"u{number:06d}", "annotations": {}}
        meta["creationTimestamp"] = f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
        spec = {"type": "LoadBalancer", "ipFamilies": [f"IPv{f}" for f in families], "loadBalancerIP": asked} | spec
        status = {"loadBalancer": {"ingress": [{"ip": each} for each in shown]}}
        self.services["a", name] = {"metadata": meta, "spec": spec, "status": status}
        self.see(name)

    def see(self, name: str) -> None:
        self.books.see(("Service", ("a", name)), self.services.get(("a", name)))

    def change(self, name: str, **spec: Any) -> None:
        self.services["a", name]["spec"] |= spec
        self.see(name)

    def annotate(self, name: str, **annotations: str) -> None:
        self.services["a", name]["metadata"]["annotations"] |= {k.replace("__", "/"): v for k, v in annotations.items()}
        self.see(name)

    def show(self, name: str, *shown: str) -> None:
        """Somebody else writes the status."""
        self.services["a", name]["status"] = {"loadBalancer": {"ingress": [{"ip": each} for each in shown]}}
        self.see(name)

    def delete(self, name: str) -> None:
        del self.services["a", name]
        self.see(name)

    def settle(self, seconds: float = 0.0) -> list[Verdict]:
        self.now += seconds
        made: list[Verdict] = []
        for _ in range(20):
            batch = self.books.decisions(self.now)
            if not batch:
                return made
            for verdict in batch:
                self.write(verdict)
            made += batch
        raise AssertionError(f"decisions do not come to rest: {batch}")

    def write(self, verdict: Verdict) -> None:
        obj = self.services[verdict.key]
        merged = obj["metadata"]["annotations"] | verdict.annotations
        obj["metadata"]["annotations"] = {name: text for name, text in merged.items() if text is not None}
        if verdict.event:
            self.events.append((verdict.key[1], verdict.event.reason))
        if verdict.ingress is None:
            self.see(verdict.key[1])
        else:
            self.show(verdict.key[1], *map(str, verdict.ingress))

    def restart(self, order: Iterable[Key] | None = None, options: LoadBalancing | None = None) -> None:
        self.options = options or self.options
        self.books = Balancers(self.options)
        for _, name in order or self.services:
            self.see(name)

    def shown(self, name: str) -> list[str]:
        return [each["ip"] for each in self.services["a", name]["status"]["loadBalancer"]["ingress"]]

    def error(self, name: str) -> str:
        return self.services["a", name]["metadata"]["annotations"].get("ncp/error.loadbalancer", "").partition(":")[0]

    def all_shown(self) -> list[str]:
        return [each for _, name in self.services for each in self.shown(name)]


def test_a_service_gets_an_address_of_each_family_in_the_order_it_names_them():
    world = World()
    world.service("one", families="64")
    world.service("two")
    world.settle()
    assert (world.shown("one"), world.shown("two")) == (["fd00::1", "10.0.0.1"], ["10.0.0.2"])
    assert world.services["a", "one"]["metadata"]["annotations"] == {"ncp/cluster": "k8scluster"}
    assert world.events == [("one", "IP_ASSIGNED"), ("two", "IP_ASSIGNED")]
    assert world.settle() == []


def test_a_family_that_no_pool_has_is_not_missed():
    world = World("10.0.0.1")
    world.service("one", families="46")
    world.service("six", families="6")
    world.settle()
    assert (world.shown("one"), world.error("one")) == (["10.0.0.1"], "")
    assert (world.shown("six"), world.error("six")) == ([], "IP_POOL_NOT_FOUND")


@pytest.mark.parametrize(
    ("asked", "families", "shown", "error"),
    [
        ("10.0.0.3", "4", ["10.0.0.3"], ""),
        ("far", "4", ["10.1.0.0"], ""),
        ("lab", "46", ["10.0.0.2", "fd00::1"], ""),
        ("fd00:0::2", "46", ["10.0.0.2", "fd00::2"], ""),
        ("10.1.0.1", "46", ["10.1.0.1"], ""),
        ("nowhere", "4", [], "IP_POOL_NOT_FOUND"),
        ("10.0.0.300", "4", [], "IP_POOL_NOT_FOUND"),
        ("far", "6", [], "IP_POOL_NOT_FOUND"),
        ("10.9.9.9", "4", [], "IP_NOT_IN_POOL"),
        ("fd00::1", "4", [], "IP_INVALID"),
        ("10.0.0.1", "4", [], "IP_ALREADY_ALLOCATED"),
    ],
)
def test_what_is_asked_for_is_given_or_refused_with_a_code(asked: str, families: str, shown: list[str], error: str):
    world = World()
    world.service("first", "10.0.0.1")
    world.service("s", asked, families=families)
    world.settle()
    assert (world.shown("s"), world.error("s")) == (shown, error)
    assert ("s", error or "IP_ASSIGNED") in world.events
    world.delete("first")
    world.change("s", loadBalancerIP="10.0.0.2" if "4" in families else "fd00::2")
    world.settle()
    assert world.shown("s")[0] in ("10.0.0.2", "fd00::2")
    assert world.error("s") == ""


def test_of_two_that_ask_for_one_address_the_older_has_it_whatever_is_seen_first():
    world = World()
    world.service("old", "10.0.0.2")
    world.service("new", "10.0.0.2")
    world.restart([("a", "new"), ("a", "old")])
    world.settle()
    assert (world.shown("old"), world.shown("new"), world.error("new")) == (["10.0.0.2"], [], "IP_ALREADY_ALLOCATED")
    world.delete("old")
    world.settle()
    assert (world.shown("new"), world.error("new")) == (["10.0.0.2"], "")


def test_a_holder_is_not_robbed_by_an_older_service():
    world = World()
    world.service("old")
    world.service("new", "10.0.0.3")
    world.settle()
    world.change("old", loadBalancerIP="10.0.0.3")
    world.settle()
    assert (world.shown("old"), world.error("old"), world.shown("new")) == ([], "IP_ALREADY_ALLOCATED", ["10.0.0.3"])


def test_an_address_that_a_service_took_by_itself_is_given_to_nobody_else():
    world = World()
    world.service("plain", type="ClusterIP", externalIPs=["10.0.0.1", "10.200.0.1"])
    world.service("any")
    world.service("that", "10.0.0.1")
    world.settle()
    assert "10.0.0.1" not in world.all_shown()
    assert (len(world.shown("any")), world.error("that")) == (1, "IP_ALREADY_ALLOCATED")
    world.change("plain", externalIPs=[])
    world.settle()
    assert (world.shown("that"), world.error("that")) == (["10.0.0.1"], "")
    world.service("own", "10.0.0.1", externalIPs=["10.0.0.1"])
    world.settle()
    assert world.error("own") == "IP_ALREADY_ALLOCATED"


def test_of_those_that_wait_the_oldest_gets_what_is_freed_and_its_error_goes():
    world = World("10.0.0.1-10.0.0.2")
    for name in ("one", "two", "three", "four"):
        world.service(name)
    world.settle()
    assert [world.error(name) for name in ("three", "four")] == ["IP_POOL_EXHAUSTED"] * 2
    assert len(world.books.failures) == 2
    world.delete("two")
    world.settle()
    assert (world.shown("three"), world.error("three")) == (["10.0.0.2"], "")
    assert (world.shown("four"), world.error("four")) == ([], "IP_POOL_EXHAUSTED")


def test_half_of_what_is_wanted_is_given_and_the_rest_waited_for():
    world = World("10.0.0.0/30, six=fd00::1")
    world.service("one", families="6")
    world.service("two", families="46")
    world.settle()
    assert (world.shown("two"), world.error("two")) == (["10.0.0.0"], "IP_POOL_EXHAUSTED")
    world.delete("one")
    world.settle()
    assert (world.shown("two"), world.error("two")) == (["10.0.0.0", "fd00::1"], "")


def test_a_released_address_rests_while_there_are_others_and_no_longer_than_that():
    world = World("10.0.0.1-10.0.0.3")
    world.service("one")
    world.settle()
    world.delete("one")
    for name in ("two", "three", "four"):
        world.service(name)
        world.settle()
    assert [world.shown(name) for name in ("two", "three", "four")] == [["10.0.0.2"], ["10.0.0.3"], ["10.0.0.1"]]
    world.delete("three")
    world.delete("two")
    world.settle()
    world.service("five")
    world.settle(61)
    assert world.shown("five") == ["10.0.0.2"], "rests ended, so the lowest"


@pytest.mark.parametrize(
    "change",
    [{"type": "ClusterIP"}, {"loadBalancerClass": "theirs"}, {"loadBalancerIP": "nowhere"}],
)
def test_what_a_service_gives_up_is_not_given_before_its_status_says_so(change: dict[str, str]):
    world = World("10.0.0.1")
    world.service("one")
    world.settle()
    world.change("one", **change)
    world.service("two")
    for verdict in (first := world.books.decisions(world.now)):
        assert not verdict.ingress
        world.write(verdict)
    world.settle()
    assert {"one", "two"} <= {verdict.key[1] for verdict in first}
    assert (world.shown("one"), world.shown("two")) == ([], ["10.0.0.1"])
    assert "ncp/cluster" not in world.services["a", "one"]["metadata"]["annotations"]


def test_services_of_others_are_left_alone():
    world = World()
    world.service("classed", loadBalancerClass="theirs", shown=["10.0.0.1"])
    world.service("clustered")
    world.annotate("clustered", ncp__cluster="other")
    world.service("foreign", shown=["192.0.2.1"])
    world.service("named", shown=["?"])
    world.service("plain", type="ClusterIP")
    assert world.settle() == []
    world.service("ours", loadBalancerClass="ncp/native")
    world.settle()
    assert world.shown("ours") == ["10.0.0.2"], "the one that somebody shows is not given"


def test_what_another_class_wrote_where_we_had_been_stays_and_our_mark_goes():
    world = World()
    world.service("one", loadBalancerClass="theirs", shown=["192.0.2.1"])
    world.annotate("one", ncp__cluster="k8scluster")
    world.annotate("one", **{"ncp/error.loadbalancer": "IP_POOL_EXHAUSTED: once"})
    world.settle()
    assert world.shown("one") == ["192.0.2.1"]
    assert not {"ncp/cluster", "ncp/error.loadbalancer"} & world.services["a", "one"]["metadata"]["annotations"].keys()


def test_where_another_implementation_is_the_default_only_our_class_is_served():
    world = World(native=False)
    world.service("theirs")
    world.service("ours", loadBalancerClass="ncp/native")
    world.settle()
    assert (world.shown("theirs"), world.shown("ours")) == ([], ["10.0.0.1"])


def test_what_we_gave_goes_when_the_settings_take_it_back():
    world = World()
    world.service("one")
    world.settle()
    world.restart(options=settings(native=False))
    world.settle()
    assert world.shown("one") == []
    assert world.services["a", "one"]["metadata"]["annotations"] == {}


def test_a_pool_that_is_taken_away_is_replaced_by_another():
    world = World("a=10.0.0.1, b=10.1.0.1")
    world.service("one")
    world.settle()
    world.restart(options=settings("b=10.1.0.1"))
    world.settle()
    assert world.shown("one") == ["10.1.0.1"]
    world.restart(options=settings(""))
    world.settle()
    assert (world.shown("one"), world.error("one")) == ([], "IP_POOL_NOT_FOUND")


def test_of_two_that_show_one_address_the_older_keeps_it_after_a_restart():
    world = World()
    world.service("old")
    world.service("new")
    world.settle()
    world.show("new", "10.0.0.1")
    world.restart([("a", "new"), ("a", "old")])
    world.settle()
    assert (world.shown("old"), world.shown("new")) == (["10.0.0.1"], ["10.0.0.2"])


def test_a_status_changed_by_hand_is_set_right_and_a_name_used_again_is_another_service():
    world = World()
    world.service("one")
    world.settle()
    world.show("one", "10.0.0.3")
    world.settle()
    assert world.shown("one") == ["10.0.0.1"]
    world.service("one", "10.0.0.2")
    world.settle()
    assert world.shown("one") == ["10.0.0.2"]


def test_a_service_that_is_being_deleted_keeps_what_it_has_and_gets_nothing_new():
    world = World("10.0.0.1-10.0.0.2")
    world.service("one")
    world.settle()
    world.services["a", "one"]["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    world.change("one", loadBalancerIP="10.0.0.2")
    world.service("two")
    world.settle()
    assert (world.shown("one"), world.shown("two")) == ([], ["10.0.0.2"])


def limit(world: World, text: str | None) -> None:
    annotations = {} if text is None else {"ncp/max_virtual_addresses": text}
    world.books.see(("Namespace", ("", "a")), {"metadata": {"name": "a", "annotations": annotations}})


def test_a_namespace_gets_no_more_than_it_may_and_what_waits_goes_on_when_it_may():
    world = World()
    limit(world, "3")
    world.service("one", families="46")
    world.service("two", families="46")
    world.service("three")
    world.settle()
    assert (world.shown("one"), world.shown("two"), world.shown("three")) == (["10.0.0.1", "fd00::1"], ["10.0.0.2"], [])
    told = world.services["a", "three"]["metadata"]["annotations"]["ncp/error.loadbalancer"]
    assert told.startswith("QUOTA_EXCEEDED: the namespace has 3 of the 3 addresses of load balancers")
    limit(world, "4")
    world.settle()
    assert (world.shown("two"), world.error("two")) == (["10.0.0.2", "fd00::2"], "")
    assert world.error("three") == "QUOTA_EXCEEDED"
    world.delete("one")
    world.settle()
    assert (len(world.shown("three")), world.error("three")) == (1, "")
    limit(world, "0")
    world.settle()
    assert len(world.all_shown()) == 3, "what is held stays"
    world.service("four")
    world.settle()
    assert world.error("four") == "QUOTA_EXCEEDED"
    limit(world, "many")
    world.settle()
    assert world.error("four") == "QUOTA_INVALID"
    limit(world, None)
    world.settle()
    assert world.error("four") == ""


NAMES = [f"s{n}" for n in range(4)]
ASKED = ["", "", "lab", "far", "10.0.0.1", "10.0.0.2", "fd00::1", "nowhere"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), st.sampled_from(NAMES), st.sampled_from(ASKED), st.sampled_from(["4", "6", "46"])),
        st.tuples(st.just("ask"), st.sampled_from(NAMES), st.sampled_from(ASKED)),
        st.tuples(st.just("type"), st.sampled_from(NAMES), st.sampled_from(["LoadBalancer", "ClusterIP"])),
        st.tuples(st.just("delete"), st.sampled_from(NAMES)),
        st.tuples(st.just("write"), st.lists(st.booleans(), min_size=4, max_size=4)),
        st.tuples(st.just("wait"), st.integers(0, 90)),
        st.tuples(st.just("restart"), st.permutations(NAMES)),
    ),
    max_size=30,
)


@given(STEPS)
def test_no_address_is_held_or_shown_twice_and_none_is_lost_whatever_is_written_when(steps: list[tuple[Any, ...]]):
    world = World(SMALL)
    for step, *what in steps:
        take(world, step, what)
        shown = world.all_shown()
        assert len(shown) == len(set(shown)), f"shown twice after {step} {what}"
        held = [address for _, addresses in world.books.holdings.given.values() for address in addresses.values()]
        assert len(held) == len(set(held))
    world.settle()
    usage = world.books.usage()
    assert [(name, family, sum(counts)) for name, family, counts in usage] == [
        ("far", 4, 1),
        ("lab", 4, 2),
        ("lab", 6, 1),
    ]
    assert sum(counts.held for _, _, counts in usage) == len(world.all_shown())
    for failing in world.books.failures:
        assert world.error(failing[1])
    before = world.books.holdings.given
    world.restart(sorted(world.services, reverse=True))
    assert world.settle() == [], "what was rebuilt from the services is what was decided"
    assert world.books.holdings.given == before


def take(world: World, step: str, what: list[Any]) -> None:
    exists = isinstance(what[0], str) and ("a", what[0]) in world.services
    if step == "make" and not exists:
        world.service(what[0], what[1], families=what[2])
    elif step == "ask" and exists:
        world.change(what[0], loadBalancerIP=what[1])
    elif step == "type" and exists:
        world.change(what[0], type=what[1])
    elif step == "delete" and exists:
        world.delete(what[0])
    elif step == "write":  # only some arrive: the others fail and are decided again
        for verdict in world.books.decisions(world.now):
            if what[0][NAMES.index(verdict.key[1])]:
                world.write(verdict)
            else:
                world.books.look_again(verdict.ref)
    elif step == "wait":
        world.now += what[0]
    elif step == "restart":
        world.restart([("a", name) for name in what[0] if ("a", name) in world.services])

"""Addresses outside as decided: objects in, verdicts out, each applied to the object as the API server would."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncp.manager.outbox import Ref
from ncp.manager.outside import Outside, Verdict
from ncp.manager.wishes import READY, outward
from ncp.settings import parse

POOLS = "out=172.20.0.1-172.20.0.4, out=fd00::1-fd00::4, web=172.21.0.0/30, web=fd00:1::/126"
SMALL = "out=172.20.0.1-172.20.0.3, out=fd00::1-fd00::2, web=172.21.0.0/31"
Obj = dict[str, Any]


class World:
    """Objects, and the books of the manager that runs now."""

    def __init__(self, pools: str = POOLS, ini: str = "") -> None:
        self.settings = outward(parse(f"[nsx_v3]\nexternal_ip_pools = {pools}\n{ini}"))
        self.now = 1000.0
        self.objects: dict[Ref, Obj] = {}
        self.events: list[tuple[Ref, str]] = []
        self._numbers = itertools.count(1)
        self.books = Outside(self.settings)

    def _add(self, kind: str, namespace: str, name: str, annotations: dict[str, str], **more: Any) -> None:
        number = next(self._numbers)
        meta: Obj = {"name": name, "uid": f"u{number:06d}", "generation": 1}
        meta["annotations"] = {key.replace("__", "/"): text for key, text in annotations.items()}
        meta["creationTimestamp"] = f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
        if namespace:
            meta["namespace"] = namespace
        ref = (kind, (namespace, name))
        self.objects[ref] = {"metadata": meta, **more}
        self.see(ref)

    def namespace(self, name: str, families: str = "46", *, snat: bool = True, **annotations: str) -> None:
        gateways = [{"4": "10.4.0.1/24", "6": "fd04::1/64"}[each] for each in families]
        segments = json.dumps([{"vni": 5001, "router": 5001, "gateways": gateways, "snat": snat}])
        self._add("Namespace", "", name, {"ncp/cluster": "k8scluster", "ncp/segments": segments} | annotations)

    def service(self, namespace: str, name: str, pool: str | None = None, *, selector: str = "", **spec: Any) -> None:
        spec |= {"selector": {"app": selector} if selector else None}
        self._add("Service", namespace, name, {} if pool is None else {"ncp/snat_pool": pool}, spec=spec)

    def pod(self, namespace: str, name: str, app: str = "", families: str = "46", **labels: str) -> None:
        addresses = [{"4": "10.4.0.9/24", "6": "fd04::9/64"}[each] for each in families]
        port = {"vni": 5001, "mac": "02:4e:0a:04:00:02", "addresses": addresses, "gateways": []}
        annotations = {"ncp/port": json.dumps(port)} if families else {}
        self._add("Pod", namespace, name, annotations, spec={}, status={})
        self.change(("Pod", (namespace, name)), "metadata", labels={"app": app} | labels)

    def binding(self, namespace: str, name: str, pod: str, **spec: str) -> None:
        self._add("AddressBinding", namespace, name, {}, spec={"podName": pod} | spec)

    def see(self, ref: Ref) -> None:
        self.books.see(ref, self.objects.get(ref))

    def change(self, ref: Ref, part: str, **values: Any) -> None:
        self.objects[ref] = self.objects[ref] | {part: self.objects[ref].get(part, {}) | values}
        self.see(ref)

    def annotate(self, ref: Ref, **annotations: str | None) -> None:
        named = {name.replace("__", "/"): text for name, text in annotations.items()}
        merged = self.objects[ref]["metadata"]["annotations"] | named
        self.change(ref, "metadata", annotations={name: text for name, text in merged.items() if text is not None})

    def delete(self, ref: Ref) -> None:
        del self.objects[ref]
        self.see(ref)

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
        assert self.objects[verdict.ref]["metadata"]["uid"] == verdict.uid
        if verdict.event:
            self.events.append((verdict.ref, verdict.event.reason))
        if verdict.status:
            status = {"ipAddresses": verdict.status["ipAddresses"], "conditions": [verdict.status[READY]]}
            self.change(verdict.ref, "status", **status)
        else:
            self.annotate(verdict.ref, **verdict.annotations)

    def restart(self, order: Iterable[Ref] | None = None) -> None:
        self.books = Outside(self.settings)
        for ref in order or self.objects:
            self.see(ref)

    # -- what is to be seen -------------------------------------------------------------------------------------------

    def shown(self, ref: Ref) -> list[str]:
        obj = self.objects[ref]
        if ref[0] == "AddressBinding":
            return obj.get("status", {}).get("ipAddresses", [])
        text = obj["metadata"]["annotations"].get("ncp/snat_ip", "")
        return text.split(",") if text else []

    def said(self, ref: Ref) -> str:
        """The code that an object shows."""
        obj = self.objects[ref]
        if ref[0] == "AddressBinding":
            return obj["status"]["conditions"][0]["reason"]
        name = {"Namespace": "ncp/snat_ip_status", "Service": "ncp/error.snat"}[ref[0]]
        return obj["metadata"]["annotations"].get(name, "").partition(":")[0]

    def all_shown(self) -> list[str]:
        return [each for ref in self.objects if ref[0] != "Pod" for each in self.shown(ref)]


def ns(name: str) -> Ref:
    return "Namespace", ("", name)


def svc(name: str, namespace: str = "a") -> Ref:
    return "Service", (namespace, name)


def bound(name: str, namespace: str = "a") -> Ref:
    return "AddressBinding", (namespace, name)


def test_a_namespace_gets_an_address_of_each_family_and_another_gets_others():
    world = World()
    world.namespace("a")
    world.namespace("b", "4")
    world.namespace("plain", snat=False)
    world.settle()
    assert (world.shown(ns("a")), world.shown(ns("b"))) == (["172.20.0.1", "fd00::1"], ["172.20.0.2"])
    assert world.shown(ns("plain")) == []
    assert world.said(ns("a")) == "", "what is given without a wish needs no status"
    assert world.events == [(ns("a"), "IP_ASSIGNED"), (ns("b"), "IP_ASSIGNED")]
    assert world.settle() == []


def test_in_a_routing_domain_nobody_is_anybody_outside():
    world = World()
    world.namespace("a", snat=False)
    ref = ns("a")
    (segment,) = json.loads(world.objects[ref]["metadata"]["annotations"]["ncp/segments"])
    world.annotate(ref, ncp__segments=json.dumps([segment | {"domain": 7}]), ncp__static_snat_ip="172.20.0.2")
    world.pod("a", "p")
    world.binding("a", "b", "p")
    world.settle()
    assert world.all_shown() == []
    assert (world.said(ref), world.said(("AddressBinding", ("a", "b")))) == ("IP_NOT_REALIZED", "IP_NOT_REALIZED")


@pytest.mark.parametrize("ini", ["[coe]\nenable_snat = False", ""])
def test_without_snat_or_pools_nothing_is_given_and_who_asks_is_told(ini: str):
    world = World(POOLS if ini else "", ini)
    world.namespace("a")
    world.namespace("b", ncp__static_snat_ip="172.20.0.2")
    world.objects[ns("b")]["metadata"]["annotations"]["ncp/static_snat_ip"] = "172.20.0.2"
    world.see(ns("b"))
    world.settle()
    assert world.all_shown() == []
    assert (world.said(ns("a")), world.said(ns("b"))) == ("", "IP_NOT_REALIZED")


def test_only_namespaces_with_segments_of_ours_get_one():
    world = World()
    world.namespace("bare")
    world.annotate(ns("bare"), ncp__segments=None)
    world.namespace("foreign")
    world.annotate(ns("foreign"), ncp__cluster="other")
    world._add("Namespace", "", "new", {})
    assert world.settle() == []
    world.namespace("a")
    world.annotate(ns("foreign"), ncp__snat_ip="172.20.0.1")
    world.settle()
    assert world.shown(ns("a")) == ["172.20.0.2", "fd00::1"], "what another cluster shows is not given"


@pytest.mark.parametrize(
    ("asked", "shown", "code"),
    [
        ("172.20.0.3", ["172.20.0.3", "fd00::1"], "IP_ALLOCATED_SUCCESSFULLY"),
        ("fd00::3, 172.21.0.1", ["172.21.0.1", "fd00::3"], "IP_ALLOCATED_SUCCESSFULLY"),
        ("172.20.0.1", ["fd00::1"], "IP_ALREADY_ALLOCATED"),
        ("172.20.9.9", ["fd00::1"], "IP_NOT_IN_POOL"),
        ("172.20.0.300", [], "SNAT_PROCESS_FAILED"),
        ("172.20.0.2,172.20.0.3", [], "SNAT_PROCESS_FAILED"),
        ("172.22.0.1", ["fd00::1"], "POOL_ACCESS_DENIED"),
    ],
)
def test_a_static_address_is_given_or_refused_and_nothing_stands_in_for_it(asked: str, shown: list[str], code: str):
    world = World(POOLS + ", vip=172.22.0.0/30", "[ncp]\nsnat_pool_namespaces = vip=z")
    world.namespace("first", "4")
    world.namespace("a", **{"ncp/static_snat_ip": asked})
    world.settle()
    assert (world.shown(ns("a")), world.said(ns("a"))) == (shown, code)
    world.annotate(ns("a"), ncp__static_snat_ip="172.20.0.4")
    world.settle()
    assert (world.shown(ns("a"))[0], world.said(ns("a"))) == ("172.20.0.4", "IP_ALLOCATED_SUCCESSFULLY")


def test_a_static_address_of_a_family_that_the_namespace_has_not_is_not_realised():
    world = World()
    world.namespace("a", "4", **{"ncp/static_snat_ip": "fd00::2"})
    world.settle()
    assert (world.shown(ns("a")), world.said(ns("a"))) == (["172.20.0.1"], "IP_NOT_REALIZED")


def test_a_namespace_that_changes_its_static_address_moves_and_keeps_the_old_one_until_it_can():
    world = World("out=172.20.0.1-172.20.0.4")
    world.namespace("a", **{"ncp/static_snat_ip": "172.20.0.2"})
    world.namespace("b", **{"ncp/static_snat_ip": "172.20.0.3"})
    world.settle()
    world.annotate(ns("a"), ncp__static_snat_ip="172.20.0.3")
    world.settle()
    assert (world.shown(ns("a")), world.said(ns("a"))) == (["172.20.0.2"], "IP_ALREADY_ALLOCATED")
    world.annotate(ns("b"), ncp__static_snat_ip=None)
    world.settle()
    assert (world.shown(ns("b")), world.said(ns("b"))) == (["172.20.0.1"], "")
    assert (world.shown(ns("a")), world.said(ns("a"))) == (["172.20.0.3"], "IP_ALLOCATED_SUCCESSFULLY")
    world.namespace("c")
    world.settle()
    assert world.shown(ns("c")) == ["172.20.0.4"], "172.20.0.2 rests, and there is another"
    world.annotate(ns("a"), ncp__static_snat_ip="172.20.9.9")
    world.settle()
    assert (world.shown(ns("a")), world.said(ns("a"))) == (["172.20.0.3"], "IP_NOT_IN_POOL")


def test_of_two_that_swap_addresses_none_shows_what_the_other_still_shows():
    world = World("out=172.20.0.1-172.20.0.2")
    world.namespace("a", **{"ncp/static_snat_ip": "172.20.0.1"})
    world.namespace("b", **{"ncp/static_snat_ip": "172.20.0.2"})
    world.settle()
    world.annotate(ns("a"), ncp__static_snat_ip="172.20.0.2")
    world.annotate(ns("b"), ncp__static_snat_ip=None)
    world.settle()
    assert sorted(world.all_shown()) == ["172.20.0.1", "172.20.0.2"]
    assert world.shown(ns("a")) == ["172.20.0.1"], "there is no third address to move over"


@pytest.mark.parametrize("pool", ["web", None])
def test_what_an_object_gives_up_is_not_given_before_it_says_so(pool: str | None):
    world = World("out=172.20.0.1-172.20.0.2, web=172.21.0.1")
    world.namespace("a", "4")
    world.service("a", "s", "out")
    world.settle()
    assert world.shown(svc("s")) == ["172.20.0.2"]
    world.annotate(svc("s"), ncp__snat_pool=pool)
    world.service("a", "next", "out")
    given = {verdict.ref: verdict for verdict in world.books.decisions(world.now)}
    assert given[svc("next")].annotations["ncp/error.snat"].startswith("IP_POOL_EXHAUSTED")
    for ref in (svc("next"), svc("s")):
        world.write(given[ref])
    world.settle()
    assert world.shown(svc("next")) == ["172.20.0.2"]


def test_an_exhausted_pool_is_said_and_the_oldest_that_waits_gets_what_comes_back():
    world = World("out=172.20.0.1")
    for name in "abc":
        world.namespace(name)
    world.settle()
    assert [world.said(ns(name)) for name in "abc"] == ["", "IP_POOL_EXHAUSTED", "IP_POOL_EXHAUSTED"]
    assert (ns("b"), "IP_POOL_EXHAUSTED") in world.events
    world.delete(ns("a"))
    world.settle()
    assert (world.shown(ns("b")), world.said(ns("b"))) == (["172.20.0.1"], "")
    assert world.said(ns("c")) == "IP_POOL_EXHAUSTED"


def test_a_released_address_rests_while_there_are_others():
    world = World("out=172.20.0.1-172.20.0.2")
    world.namespace("a")
    world.settle()
    world.delete(ns("a"))
    world.namespace("b")
    world.settle()
    assert world.shown(ns("b")) == ["172.20.0.2"]
    world.delete(ns("b"))
    world.settle(61)
    world.namespace("c")
    world.settle()
    assert world.shown(ns("c")) == ["172.20.0.1"], "its rest has ended"


def test_a_decision_taken_away_or_changed_by_hand_is_restored():
    world = World()
    world.namespace("a")
    world.settle()
    for text in (None, "172.20.0.4", "?"):
        world.annotate(ns("a"), ncp__snat_ip=text)
        world.settle()
        assert world.shown(ns("a")) == ["172.20.0.1", "fd00::1"]


def test_who_takes_a_restricted_pool_is_asked():
    world = World("out=172.20.0.1, vip=172.22.0.1-172.22.0.2", "[ncp]\nsnat_pool_namespaces = vip=b")
    world.namespace("a")
    world.namespace("c")
    world.namespace("b")
    world.service("c", "s", "vip")
    world.settle()
    assert (world.shown(ns("a")), world.shown(ns("b"))) == (["172.20.0.1"], ["172.22.0.1"])
    assert (world.said(ns("c")), world.said(svc("s", "c"))) == ("IP_POOL_EXHAUSTED", "POOL_ACCESS_DENIED")
    only = World("vip=172.22.0.1", "[ncp]\nsnat_pool_namespaces = vip=b")
    only.namespace("a")
    only.settle()
    assert only.said(ns("a")) == "POOL_ACCESS_DENIED"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("nowhere", "IP_POOL_NOT_FOUND"),
        ("web, out", "IP_POOL_NOT_UNIQUE"),
        ("web out", "IP_POOL_NOT_UNIQUE"),
        ("172.21.0.1", "IP_POOL_NOT_UNIQUE"),
    ],
)
def test_a_service_gets_an_address_of_its_pool_and_is_told_what_is_wrong(asked: str, code: str):
    world = World()
    world.namespace("a")
    world.service("a", "s", "web")
    world.settle()
    assert (world.shown(svc("s")), world.said(svc("s"))) == (["172.21.0.0", "fd00:1::"], "")
    world.annotate(svc("s"), ncp__snat_pool=asked)
    world.settle()
    assert (world.shown(svc("s")), world.said(svc("s"))) == ([], code)
    world.annotate(svc("s"), ncp__snat_pool=None)
    world.settle()
    assert world.objects[svc("s")]["metadata"]["annotations"] == {}


def test_services_of_one_pool_do_not_share_an_address_and_wait_for_one():
    world = World("out=172.20.0.1-172.20.0.9, web=172.21.0.1")
    world.namespace("a", "4")
    world.service("a", "one", "web")
    world.service("a", "two", "web")
    world.service("elsewhere", "three", "web")
    world.settle()
    assert (world.shown(svc("one")), world.said(svc("two"))) == (["172.21.0.1"], "IP_POOL_EXHAUSTED")
    assert world.objects[svc("three", "elsewhere")]["metadata"]["annotations"] == {"ncp/snat_pool": "web"}
    world.delete(svc("one"))
    world.settle()
    assert (world.shown(svc("two")), world.said(svc("two"))) == (["172.21.0.1"], "")


def test_a_pod_leaves_with_the_addresses_of_one_service_the_oldest():
    world = World()
    world.namespace("a")
    world.service("a", "old", "web", selector="x")
    world.service("a", "new", "web", selector="y")
    world.service("a", "plain", selector="y")
    world.pod("a", "p", "x")
    world.settle()
    assert [world.said(svc(name)) for name in ("old", "new", "plain")] == ["", "", ""]
    world.change(svc("new"), "spec", selector={"tier": "web"})
    world.pod("a", "q", "x", tier="web")
    world.settle()
    assert (world.shown(svc("new")), world.said(svc("new"))) == ([], "SNAT_RULE_OVERLAPPED")
    assert len(world.shown(svc("old"))) == 2
    world.restart(reversed(world.objects))
    assert world.settle() == []
    world.change(("Pod", ("a", "q")), "metadata", labels={"app": "x"})
    world.settle()
    assert (len(world.shown(svc("new"))), world.said(svc("new"))) == (2, "")


def test_an_address_that_a_service_took_by_itself_is_given_to_nobody():
    world = World("out=172.20.0.1-172.20.0.2")
    world.service("b", "took", externalIPs=["172.20.0.1"])
    world.namespace("a", **{"ncp/static_snat_ip": "172.20.0.1"})
    world.namespace("b")
    world.settle()
    assert (world.said(ns("a")), world.shown(ns("b"))) == ("IP_ALREADY_ALLOCATED", ["172.20.0.2"])
    world.delete(svc("took", "b"))
    world.settle()
    assert (world.shown(ns("a")), world.said(ns("a"))) == (["172.20.0.1"], "IP_ALLOCATED_SUCCESSFULLY")


def test_a_binding_gets_addresses_of_the_families_of_its_pod():
    world = World()
    world.namespace("a")
    world.pod("a", "p")
    world.pod("a", "four", families="4")
    world.binding("a", "one", "p")
    world.binding("a", "two", "four", pool="web")
    world.settle()
    assert (world.shown(bound("one")), world.shown(bound("two"))) == (["172.20.0.2", "fd00::2"], ["172.21.0.0"])
    assert world.objects[bound("one")]["status"]["conditions"][0]["status"] == "True"
    assert (bound("one"), "IP_ASSIGNED") in world.events
    world.delete(("Pod", ("a", "p")))
    world.settle()
    assert (world.shown(bound("one")), world.said(bound("one"))) == (["172.20.0.2", "fd00::2"], "POD_UNKNOWN")
    world.restart()
    assert world.settle() == [], "a pod that is made anew finds its address"
    world.pod("a", "p")
    world.settle()
    assert world.said(bound("one")) == "IP_ALLOCATED_SUCCESSFULLY"
    world.delete(bound("one"))
    world.settle()
    assert "172.20.0.2" not in world.all_shown()


@pytest.mark.parametrize(
    ("spec", "shown", "code"),
    [
        ({"ipAddress": "172.21.0.3"}, ["172.21.0.3"], "IP_ALLOCATED_SUCCESSFULLY"),
        ({"ipAddress": "172.21.0.3", "pool": "out"}, [], "IP_NOT_IN_POOL"),
        ({"ipAddress": "172.20.0.1"}, [], "IP_ALREADY_ALLOCATED"),
        ({"ipAddress": "192.0.2.1"}, [], "IP_NOT_IN_POOL"),
        ({"ipAddress": "?"}, [], "IP_NOT_IN_POOL"),
        ({"ipAddress": "fd00::4"}, [], "IP_NOT_REALIZED"),
        ({"ipAddress": "172.22.0.1"}, [], "POOL_ACCESS_DENIED"),
        ({"pool": "vip"}, [], "POOL_ACCESS_DENIED"),
        ({"pool": "nowhere"}, [], "IP_POOL_NOT_FOUND"),
        ({"pool": "six"}, [], "IP_NOT_REALIZED"),
        ({"podName": "nobody"}, [], "POD_UNKNOWN"),
        ({"podName": "fresh"}, [], "POD_UNKNOWN"),
    ],
)
def test_what_a_binding_asks_for_is_given_or_refused(spec: dict[str, str], shown: list[str], code: str):
    world = World(POOLS + ", vip=172.22.0.0/30, six=fd00:6::1", "[ncp]\nsnat_pool_namespaces = vip=z")
    world.namespace("a", "4")
    world.pod("a", "p", families="4")
    world.pod("a", "fresh", families="")
    world.binding("a", "b", "p")
    world.change(bound("b"), "spec", **spec)
    world.settle()
    assert (world.shown(bound("b")), world.said(bound("b"))) == (shown, code)
    if not shown:
        assert (bound("b"), code) in world.events


def test_of_two_bindings_of_a_pod_the_older_has_it():
    world = World()
    world.namespace("a")
    world.pod("a", "p")
    world.pod("a", "q")
    world.binding("a", "old", "q")
    world.binding("a", "new", "p")
    world.settle()
    world.change(bound("old"), "spec", podName="p")
    world.settle()
    assert (world.said(bound("old")), world.said(bound("new"))) == ("IP_ALLOCATED_SUCCESSFULLY", "POD_ALREADY_BOUND")
    assert world.shown(bound("new")) == []
    world.delete(bound("old"))
    world.settle()
    assert world.said(bound("new")) == "IP_ALLOCATED_SUCCESSFULLY"


def test_a_namespace_has_no_more_addresses_than_it_may():
    world = World()
    world.namespace("a", "4", **{"ncp/max_snat_addresses": "2"})
    world.namespace("none", "4", **{"ncp/max_snat_addresses": "0"})
    world.pod("a", "p", families="4")
    world.service("a", "s", "web")
    world.binding("a", "b", "p")
    world.settle()
    assert (world.said(bound("b")), world.said(ns("none"))) == ("QUOTA_EXCEEDED", "QUOTA_EXCEEDED")
    assert "has 2 of the 2 addresses outside" in world.objects[bound("b")]["status"]["conditions"][0]["message"]
    world.delete(svc("s"))
    world.settle()
    assert len(world.shown(bound("b"))) == 1
    world.service("a", "s", "web")
    world.settle()
    assert world.said(svc("s")) == "QUOTA_EXCEEDED"
    world.annotate(ns("a"), ncp__max_snat_addresses="lots")
    world.settle()
    assert world.said(svc("s")) == "QUOTA_INVALID"
    world.annotate(ns("a"), ncp__max_snat_addresses="3")
    world.settle()
    assert (len(world.shown(svc("s"))), world.said(svc("s"))) == (1, "")
    world.annotate(ns("a"), ncp__max_snat_addresses="0")
    world.settle()
    assert len(world.shown(svc("s"))) == len(world.shown(ns("a"))) == 1, "what is held stays"


def test_of_two_that_show_one_address_the_older_keeps_it_after_a_restart():
    world = World()
    world.namespace("a", "4")
    world.namespace("b", "4")
    world.settle()
    world.objects[ns("b")]["metadata"]["annotations"]["ncp/snat_ip"] = "172.20.0.1"
    world.restart([ns("b"), ns("a")])
    world.settle()
    assert (world.shown(ns("a")), world.shown(ns("b"))) == (["172.20.0.1"], ["172.20.0.2"])


def test_a_name_used_again_is_another_namespace():
    world = World()
    world.namespace("a", "4", **{"ncp/static_snat_ip": "172.20.0.2"})
    world.settle()
    world.namespace("a", "4")
    world.settle()
    assert (world.shown(ns("a")), world.said(ns("a"))) == (["172.20.0.1"], "")


SPACES, THINGS = ["a", "b", "c"], ["s", "t"]
STATIC = st.sampled_from([None, None, "172.20.0.1", "172.20.0.2", "fd00::1,172.20.0.3", "172.20.9.9", "?"])
POOL = st.sampled_from([None, "web", "out", "nowhere"])
LIMIT = st.sampled_from([None, None, "0", "1", "3"])
APP = st.sampled_from(["x", "y"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("namespace"), st.sampled_from(SPACES), st.sampled_from(["4", "46"]), STATIC, LIMIT),
        st.tuples(st.just("static"), st.sampled_from(SPACES), STATIC),
        st.tuples(st.just("limit"), st.sampled_from(SPACES), LIMIT),
        st.tuples(st.just("service"), st.sampled_from(SPACES), st.sampled_from(THINGS), POOL, APP),
        st.tuples(st.just("pod"), st.sampled_from(SPACES), st.sampled_from(THINGS), APP),
        st.tuples(st.just("binding"), st.sampled_from(SPACES), st.sampled_from(THINGS), st.sampled_from(THINGS), POOL),
        st.tuples(st.just("delete"), st.integers(0, 20)),
        st.tuples(st.just("write"), st.integers(0, 2**20)),
        st.tuples(st.just("wait"), st.integers(0, 90)),
        st.tuples(st.just("restart"), st.booleans()),
    ),
    max_size=40,
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
    sizes = [("out", 4, 3), ("out", 6, 2), ("web", 4, 2)]
    assert [(name, family, sum(counts)) for name, family, counts in usage] == sizes
    assert sum(counts.held for _, _, counts in usage) == len(world.all_shown())
    assert all(world.said(ref) for ref in world.books.failures)
    before = world.books.holdings.given
    world.restart(sorted(world.objects, reverse=True))
    assert world.settle() == [], "what was rebuilt from the objects is what was decided"
    assert world.books.holdings.given == before


def take(world: World, step: str, what: list[Any]) -> None:
    name = what[0]
    if step == "namespace" and ns(name) not in world.objects:
        asked = {"ncp/static_snat_ip": what[2], "ncp/max_snat_addresses": what[3]}
        world.namespace(name, what[1], **{key: text for key, text in asked.items() if text is not None})
    elif step == "static" and ns(name) in world.objects:
        world.annotate(ns(name), ncp__static_snat_ip=what[1])
    elif step == "limit" and ns(name) in world.objects:
        world.annotate(ns(name), ncp__max_snat_addresses=what[1])
    elif step == "service":
        world.service(name, what[1], what[2], selector=what[3])
    elif step == "pod":
        world.pod(name, what[1], what[2])
    elif step == "binding":
        world.binding(name, what[1], what[2], **({"pool": what[3]} if what[3] else {}))
    elif step == "delete" and world.objects:
        ref = sorted(world.objects)[name % len(world.objects)]
        for inside in [each for each in world.objects if ref[0] == "Namespace" and each[1][0] == ref[1][1]]:
            world.delete(inside)  # the API server deletes what is in a namespace before it
        world.delete(ref)
    elif step == "write":  # only some arrive: the others fail and are decided again
        for number, verdict in enumerate(world.books.decisions(world.now)):
            if name >> number % 20 & 1:
                world.write(verdict)
            else:
                world.books.look_again(verdict.ref)
    elif step == "wait":
        world.now += name
    elif step == "restart":
        world.restart(sorted(world.objects, reverse=name))

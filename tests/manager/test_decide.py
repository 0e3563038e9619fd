import json
import random

import pytest

from ipam.address import parse_prefix
from ipam.block import BlockError
from tests.manager.world import World, layout

DUAL = ("10.4.0.0/16", "fd00:10:4::/48")


def world(*blocks: str, now: float = 1000.0, **options) -> World:
    return World(layout(*(blocks or DUAL), **options), now)


# -- namespaces -------------------------------------------------------------------------------------------------------


def test_a_namespace_gets_a_segment_with_a_subnet_of_each_family_before_any_pod():
    w = world()
    w.namespace("a")
    w.settle()
    assert w.segments("a") == [
        {"vni": 5001, "router": 5001, "gateways": ["10.4.0.1/24", "fd00:10:4::1/64"], "snat": True}
    ]
    assert w.annotations("a")["ncp/cluster"] == "k8scluster"


def test_namespaces_get_disjoint_subnets_and_their_own_vni():
    w = world()
    for n in range(20):
        w.namespace(f"n{n}")
    w.settle()
    subnets = [parse_prefix(g.replace(".1/", ".0/").replace("::1/", "::/")) for n in range(20)
               for s in w.segments(f"n{n}") for g in s["gateways"]]  # fmt: skip
    assert not any(a.overlaps(b) for i, a in enumerate(subnets) for b in subnets[i + 1 :])
    assert sorted(w.segments(f"n{n}")[0]["vni"] for n in range(20)) == list(range(5001, 5021))


def test_single_tier_hangs_all_segments_off_one_router():
    w = world(single_tier=True)
    w.namespace("a")
    w.namespace("b")
    w.settle()
    assert [w.segments(n)[0]["router"] for n in "ab"] == [1, 1]


def test_a_full_subnet_is_followed_by_a_further_one_on_the_same_router():
    w = world("10.4.0.0/24", lengths=((4, 29), (6, 64)))
    w.namespace("a")
    for n in range(6):
        w.pod("a", f"p{n}")
    w.settle()
    assert [(s["vni"], s["router"], s["gateways"]) for s in w.segments("a")] == [
        (5001, 5001, ["10.4.0.1/29"]),
        (5002, 5001, ["10.4.0.9/29"]),
    ]
    assert w.addresses("a", "p5") == ["10.4.0.10/29"]
    port = json.loads(w.annotations("a", "p5")["ncp/port"])
    assert (port["vni"], port["gateways"], port["mac"]) == (5002, ["10.4.0.9"], "02:4e:0a:04:00:0a")


def test_a_removed_namespace_gives_back_its_numbers_and_subnets():
    w = world()
    for name in "abc":
        w.namespace(name)
    w.settle()
    before = w.segments("b")
    w.delete_namespace("b")
    w.settle()
    w.namespace("d")
    w.settle()
    assert w.segments("d") == before


def test_addresses_of_a_removed_namespace_rest_in_the_one_that_gets_its_subnet():
    w = world()
    w.namespace("a")
    w.pod("a", "p")
    w.settle()
    w.delete_namespace("a")
    w.settle()
    w.namespace("b")
    w.pod("b", "q")
    w.settle(1)
    assert w.segments("b")[0]["vni"] == 5001
    assert w.addresses("b", "q") == ["10.4.0.3/24", "fd00:10:4::3/64"]
    assert w.resting("b") == {"10.4.0.2": 1060.0, "fd00:10:4::2": 1060.0}


def test_a_namespace_made_again_under_its_name_starts_anew_with_the_pods_seen_before_it():
    w = world()
    w.namespace("a")
    w.namespace("b")
    w.settle()
    old = w.namespaces.pop("a")["metadata"]["uid"]
    w._patch(w.namespaces["b"], {})
    w.pods.clear()
    w.namespaces["a"] = {"metadata": w._meta("a", "", {})}
    w.pod("a", "early")  # the pod's event overtakes the namespace's
    w.settle()
    w.seen_namespace("a")
    w.settle()
    assert w.namespaces["a"]["metadata"]["uid"] != old
    vni = json.loads(w.annotations("a", "early")["ncp/port"])["vni"]
    assert vni == w.segments("a")[0]["vni"]


def test_a_no_snat_namespace_has_its_own_blocks():
    w = world("10.4.0.0/16", no_snat_blocks=["10.8.0.0/16"])
    w.namespace("a")
    w.namespace("b", ncp__no_snat="true")
    w.settle()
    assert [(w.segments(n)[0]["gateways"], w.segments(n)[0]["snat"]) for n in "ab"] == [
        (["10.4.0.1/24"], True),
        (["10.8.0.1/24"], False),
    ]
    for n in range(254):
        w.pod("b", f"p{n}")
    w.settle()
    assert [(s["gateways"], s["snat"]) for s in w.segments("b")][1] == (["10.8.1.1/24"], False)


def test_no_snat_on_an_existing_namespace_is_an_error_on_it_and_changes_nothing():
    w = world("10.4.0.0/16", no_snat_blocks=["10.8.0.0/16"])
    w.namespace("a")
    w.settle()
    before = w.segments("a")
    w.annotate(w.namespaces["a"], ncp__no_snat="true")
    w.settle()
    assert w.segments("a") == before
    assert w.annotations("a")["ncp/error.no_snat"].startswith("NO_SNAT_ON_EXISTING_NAMESPACE_NOT_SUPPORTED: ")
    w.annotate(w.namespaces["a"], ncp__no_snat=None)
    w.settle()
    assert "ncp/error.no_snat" not in w.annotations("a")


# -- custom subnets ---------------------------------------------------------------------------------------------------


def test_custom_subnets_are_honoured_at_creation():
    w = world(namespace_subnets=True)
    w.namespace("a", ncp__subnets="10.9.0.0/28, fd09::/64, 10.9.1.0/28,fd09:1::/64")
    w.pod("a", "p")
    w.settle()
    assert [s["gateways"] for s in w.segments("a")] == [
        ["10.9.0.1/28", "fd09::1/64"],
        ["10.9.1.1/28", "fd09:1::1/64"],
    ]
    assert w.addresses("a", "p") == ["10.9.0.2/28", "fd09::2/64"]
    w.restart()
    assert w.settle() == []


@pytest.mark.parametrize(
    "asked",
    ["10.9.0.0", "10.9.0.1/24", "", "10.9.0.0/31", "10.9.0.0/24,10.9.0.0/25", "10.4.0.0/24", "100.64.3.0/24",
     "10.9.0.0/24,10.9.1.0/24,fd09::/64"],
)  # fmt: skip
def test_custom_subnets_that_cannot_be_are_an_error_until_they_are_corrected(asked):
    w = world(namespace_subnets=True, transit=(parse_prefix("100.64.0.0/16"),))
    w.namespace("first")  # has 10.4.0.0/24
    w.settle()
    w.namespace("a", ncp__subnets=asked)
    w.pod("a", "p")
    w.settle()
    assert w.annotations("a")["ncp/error.subnets"].startswith("INVALID_SUBNETS: ")
    assert "ncp/segments" not in w.annotations("a")
    assert w.annotations("a", "p")["ncp/error.network"].startswith("INVALID_SUBNETS: ")
    assert ("Pod", ("a", "p"), "INVALID_SUBNETS") in w.events
    w.annotate(w.namespaces["a"], ncp__subnets="10.9.0.0/24")
    w.settle()
    assert "ncp/error.subnets" not in w.annotations("a")
    assert "ncp/error.network" not in w.annotations("a", "p")
    assert w.addresses("a", "p") == ["10.9.0.2/24"]


def test_custom_subnets_that_somebody_else_has_are_given_when_they_come_back():
    w = world(namespace_subnets=True)
    w.namespace("first")
    w.settle()
    w.namespace("a", ncp__subnets="10.4.0.0/24")
    w.settle()
    assert "10.4.0.0/24 overlaps 10.4.0.0/24" in w.annotations("a")["ncp/error.subnets"]
    w.delete_namespace("first")
    w.settle()
    assert [s["gateways"] for s in w.segments("a")] == [["10.4.0.1/24"]]
    assert "ncp/error.subnets" not in w.annotations("a")


def test_custom_subnets_on_an_existing_namespace_are_an_error_and_nothing_changes():
    w = world(namespace_subnets=True)
    w.namespace("a")
    w.settle()
    before = w.segments("a")
    w.annotate(w.namespaces["a"], ncp__subnets="10.9.0.0/24")
    w.settle()
    assert w.annotations("a")["ncp/error.subnets"].startswith("SUBNETS_ON_EXISTING_NAMESPACE_NOT_SUPPORTED: ")
    assert w.segments("a") == before
    w.annotate(w.namespaces["a"], ncp__subnets=None)
    w.settle()
    assert "ncp/error.subnets" not in w.annotations("a")


def test_custom_subnets_are_not_followed_when_switched_off():
    w = world("10.4.0.0/16")
    w.namespace("a", ncp__subnets="10.9.0.0/24")
    w.settle()
    assert w.segments("a")[0]["gateways"] == ["10.4.0.1/24"]
    assert ("Namespace", ("", "a"), "SUBNETS_IGNORED") in w.events


def test_full_custom_subnets_are_not_extended_and_pods_wait_with_a_reason():
    w = world(namespace_subnets=True)
    w.namespace("a", ncp__subnets="10.9.0.0/30")
    w.pod("a", "p")
    w.pod("a", "q")
    w.settle()
    assert w.annotations("a")["ncp/error.subnets"].startswith("NAMESPACE_SUBNETS_EXHAUSTED: ")
    assert w.annotations("a", "q")["ncp/error.network"].startswith("NAMESPACE_SUBNETS_EXHAUSTED: ")
    assert len(w.segments("a")) == 1
    w.delete_pod("a", "p")
    w.settle(1)
    assert "ncp/port" not in w.annotations("a", "q")
    w.settle(60)
    assert w.addresses("a", "q") == ["10.9.0.2/30"]
    assert "ncp/error.subnets" not in w.annotations("a")
    assert "ncp/error.network" not in w.annotations("a", "q")


# -- pods -------------------------------------------------------------------------------------------------------------


def test_a_pod_gets_a_port_with_an_address_of_each_family():
    w = world()
    w.namespace("a")
    w.pod("a", "p")
    w.settle()
    assert json.loads(w.annotations("a", "p")["ncp/port"]) == {
        "vni": 5001,
        "mac": "02:4e:0a:04:00:02",
        "addresses": ["10.4.0.2/24", "fd00:10:4::2/64"],
        "gateways": ["10.4.0.1", "fd00:10:4::1"],
    }
    assert w.settle() == []


def test_without_ipv4_the_mac_comes_from_the_ipv6_address_and_is_unique_in_the_segment():
    w = world("fd00:10:4::/48", statefulset_ranges=True)
    w.namespace("a")
    w.pod("a", "s-0", stateful=True, ncp__ip_range="fd00:10:4::1:0:7, fd00:10:4::2:0:7")
    w.pod("a", "s-1", stateful=True, ncp__ip_range="fd00:10:4::1:0:7, fd00:10:4::2:0:7")
    w.settle()
    macs = [json.loads(w.annotations("a", f"s-{n}")["ncp/port"])["mac"] for n in (0, 1)]
    assert macs == ["02:4f:00:00:00:07", "02:4f:00:00:00:08"]


def test_pods_of_the_host_network_and_finished_pods_get_no_port():
    w = world()
    w.namespace("a")
    w.pod("a", "host", host=True)
    w.pod("a", "done")
    w.pods["a", "done"]["status"]["phase"] = "Failed"
    w.seen_all()
    w.settle()
    assert w.annotations("a", "host") == w.annotations("a", "done") == {}


def test_a_pod_seen_before_its_namespace_waits_for_it():
    w = world()
    w.pod("a", "p")
    assert w.settle() == []
    w.namespace("a")
    made = w.settle()
    assert [d.kind for d in made] == ["Namespace", "Pod"]
    assert made[1].after == "a"  # nobody sees a port in a segment that is not written yet


def test_an_address_rests_after_its_pod_and_is_reused_after_that():
    w = world("10.4.0.0/16", lengths=((4, 30), (6, 64)))
    w.namespace("a")
    w.pod("a", "p")
    w.settle()
    w.delete_pod("a", "p")
    w.settle()
    assert w.resting("a") == {"10.4.0.2": 1060.0}
    w.pod("a", "q")
    w.settle(59)
    assert w.addresses("a", "q") == ["10.4.0.6/30"]
    w.settle(1)
    assert "ncp/resting" not in w.annotations("a")
    w.pod("a", "r")
    w.settle()
    assert w.addresses("a", "r") == ["10.4.0.2/30"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_gives_its_address_back_though_it_still_exists(phase):
    w = world("10.4.0.0/30", lengths=((4, 30), (6, 64)))
    w.namespace("a")
    w.pod("a", "job")
    w.pod("a", "next")
    w.settle()
    w.finish("a", "job", phase)
    w.settle(1)
    assert w.resting("a") == {"10.4.0.2": 1061.0}
    w.settle(60)
    assert w.addresses("a", "next") == ["10.4.0.2/30"]
    w.restart()
    assert w.settle() == []


def test_a_rest_outlives_the_manager():
    w = world("10.4.0.0/28", lengths=((4, 28), (6, 64)))
    w.namespace("a")
    for n in range(13):
        w.pod("a", f"p{n}")
    w.settle()
    w.delete_pod("a", "p5")
    w.settle()
    w.restart()
    w.pod("a", "late")
    w.settle(30)
    assert w.annotations("a", "late")["ncp/error.network"].startswith("IP_BLOCK_EXHAUSTED: ")
    w.settle(30)
    assert w.addresses("a", "late") == ["10.4.0.7/28"]


def test_no_rest_at_all_makes_addresses_free_at_once():
    w = world("10.4.0.0/30", lengths=((4, 30), (6, 64)), rest=0.0)
    w.namespace("a")
    w.pod("a", "p")
    w.pod("a", "q")
    w.settle()
    w.delete_pod("a", "p")
    w.settle()
    assert w.addresses("a", "q") == ["10.4.0.2/30"]
    assert "ncp/resting" not in w.annotations("a")


def test_an_exhausted_block_keeps_pods_waiting_with_a_reason_until_a_namespace_goes():
    w = world("10.4.0.0/29", lengths=((4, 30), (6, 64)))
    w.namespace("a")
    w.namespace("b")
    w.settle()
    w.namespace("c")
    w.pod("c", "p")
    w.settle()
    assert w.annotations("c")["ncp/error.network"].startswith("IP_BLOCK_EXHAUSTED: ")
    assert w.annotations("c", "p")["ncp/error.network"].startswith("IP_BLOCK_EXHAUSTED: ")
    assert ("Pod", ("c", "p"), "IP_BLOCK_EXHAUSTED") in w.events
    assert w.settle(300) == []  # nothing is written over and over
    w.delete_namespace("a")
    w.settle()
    assert w.addresses("c", "p") == ["10.4.0.2/30"]
    assert not [name for name in w.annotations("c") if "error" in name]
    assert not [name for name in w.annotations("c", "p") if "error" in name]


def test_no_block_at_all_is_a_reason_too():
    w = world("10.4.0.0/16")
    w.settings = layout()
    w.restart()
    w.namespace("a")
    w.settle()
    assert w.annotations("a")["ncp/error.network"].startswith("IP_BLOCK_MISSING: ")


def test_numbers_run_out_with_a_reason():
    w = world("10.4.0.0/16", vnis=(7000, 7001))
    for name in "abc":
        w.namespace(name)
    w.settle()
    assert [w.segments(name)[0]["vni"] for name in "ab"] == [7000, 7001]
    assert w.annotations("c")["ncp/error.network"].startswith("VNI_EXHAUSTED: ")


def test_the_oldest_waiting_pod_is_served_first():
    w = world("10.4.0.0/30", lengths=((4, 30), (6, 64)))
    w.namespace("a")
    for name in ("p", "z-second", "a-third"):
        w.pod("a", name)
    w.settle()
    w.delete_pod("a", "p")
    w.settle(60)
    w.settle(60)
    assert w.addresses("a", "z-second") == ["10.4.0.2/30"]
    assert "ncp/port" not in w.annotations("a", "a-third")


# -- fixed addresses --------------------------------------------------------------------------------------------------

RANGE = "10.4.0.100-10.4.0.102"


def stateful(w: World, *ordinals: int, text: str = RANGE) -> None:
    for n in ordinals:
        w.pod("a", f"db-{n}", stateful=True, ncp__ip_range=text)
    w.settle()


def test_pods_of_a_stateful_set_keep_their_address_through_delete_and_re_create():
    w = world(statefulset_ranges=True)
    w.namespace("a")
    stateful(w, 0, 1, 2)
    assert [w.addresses("a", f"db-{n}")[0] for n in range(3)] == [f"10.4.0.10{n}/24" for n in range(3)]
    for n in (1, 0, 2):
        w.delete_pod("a", f"db-{n}")
        w.settle(1)
    stateful(w, 2, 0, 1)
    assert [w.addresses("a", f"db-{n}")[0] for n in range(3)] == [f"10.4.0.10{n}/24" for n in range(3)]
    assert not set(w.resting("a")) & {f"10.4.0.10{n}" for n in range(3)}


def test_a_fixed_address_is_kept_through_a_restart_of_the_manager_while_its_pod_is_gone():
    w = world(statefulset_ranges=True)
    w.namespace("a")
    stateful(w, 0, 1)
    w.delete_pod("a", "db-1")
    w.settle()
    w.restart()
    stateful(w, 1)
    assert w.addresses("a", "db-1")[0] == "10.4.0.101/24"


def test_other_pods_do_not_get_addresses_of_a_range():
    w = world("10.4.0.0/28", lengths=((4, 28), (6, 64)), statefulset_ranges=True)
    w.namespace("a")
    stateful(w, 0, text="10.4.0.2-10.4.0.13")
    for n in range(2):
        w.pod("a", f"p{n}")
    w.settle()
    assert w.addresses("a", "p0") == ["10.4.0.14/28"]
    assert "ncp/port" not in w.annotations("a", "p1")
    w.delete_pod("a", "db-0")
    w.settle()
    assert w.addresses("a", "p1") == ["10.4.0.3/28"]  # no pod shows the range any more


def test_a_range_that_is_used_up_is_an_error_until_an_address_comes_back():
    w = world(statefulset_ranges=True)
    w.namespace("a")
    stateful(w, 0, 1, 2, 3)
    assert w.annotations("a", "db-3")["ncp/error.ip_range"].startswith("IP_RANGE_EXHAUSTED: ")
    assert ("Pod", ("a", "db-3"), "IP_RANGE_EXHAUSTED") in w.events
    w.delete_pod("a", "db-1")
    w.settle()
    w.settle(59)
    assert "ncp/port" not in w.annotations("a", "db-3")  # it still may come back for it
    w.settle(1)
    assert w.addresses("a", "db-3")[0] == "10.4.0.101/24"
    assert "ncp/error.ip_range" not in w.annotations("a", "db-3")


@pytest.mark.parametrize(
    "text", ["10.5.0.2-10.5.0.9", "ten", "", "10.4.0.9-10.4.0.2", "10.4.0.0-10.4.0.9", "10.4.0.250-10.4.1.5"]
)
def test_a_range_outside_of_the_namespaces_subnets_is_invalid(text):
    w = world(statefulset_ranges=True)
    w.namespace("a")
    stateful(w, 0, text=text)
    assert w.annotations("a", "db-0")["ncp/error.ip_range"].startswith("INVALID_IP_RANGE: ")
    assert "ncp/port" not in w.annotations("a", "db-0")


def test_a_range_is_only_for_stateful_sets_and_only_when_switched_on():
    w = world(statefulset_ranges=True)
    w.namespace("a")
    w.pod("a", "plain-7", ncp__ip_range=RANGE)
    w.settle()
    assert w.addresses("a", "plain-7")[0] == "10.4.0.2/24"
    w = world()
    w.namespace("a")
    stateful(w, 0)
    assert w.addresses("a", "db-0")[0] == "10.4.0.2/24"


# -- what others write ------------------------------------------------------------------------------------------------


def test_objects_of_another_cluster_are_never_touched_and_what_they_show_is_not_given_out():
    w = world()
    text = '[{"vni":5001,"router":5001,"gateways":["10.4.0.1/24","fd00:10:4::1/64"],"snat":true}]'
    w.namespace("theirs", ncp__cluster="other", ncp__segments=text)
    w.pod("theirs", "p")
    w.namespace("broken", ncp__cluster="other", ncp__segments="[")
    w.namespace("ours")
    w.pod("ours", "marked", ncp__cluster="other")
    made = w.settle()
    assert {d.key for d in made} == {("", "ours")}
    assert w.segments("ours")[0]["gateways"] == ["10.4.1.1/24", "fd00:10:4:1::1/64"]
    w.restart()
    assert w.settle() == []
    w.delete_namespace("theirs")
    w.namespace("next")
    w.settle()
    assert w.segments("next")[0]["vni"] == 5001


def test_a_decision_changed_by_hand_is_restored_with_an_event():
    w = world()
    w.namespace("a")
    w.pod("a", "p")
    w.pod("a", "q")
    w.settle()
    before = dict(w.annotations("a", "q"))
    for text in (w.annotations("a", "p")["ncp/port"], "garbage", "{}", None):
        w.annotate(w.pods["a", "q"], ncp__port=text)
        w.settle()
        assert w.annotations("a", "q") == before
    assert w.events.count(("Pod", ("a", "q"), "PORT_CONFLICT")) == 3
    segments = w.annotations("a")["ncp/segments"]
    w.annotate(w.namespaces["a"], ncp__segments="[]")
    w.settle()
    assert w.annotations("a")["ncp/segments"] == segments


def test_of_two_pods_that_show_one_address_after_a_restart_the_older_keeps_it():
    w = world()
    w.namespace("a")
    w.pod("a", "z-old")
    w.pod("a", "a-young")
    w.settle()
    kept = w.addresses("a", "z-old")
    w.annotate(w.pods["a", "a-young"], ncp__port=w.annotations("a", "z-old")["ncp/port"])
    w.restart()
    w.settle()
    assert w.addresses("a", "z-old") == kept
    assert w.addresses("a", "a-young") != kept
    assert ("Pod", ("a", "a-young"), "PORT_CONFLICT") in w.events
    assert len(w.all_addresses()) == len(set(w.all_addresses()))


def test_of_two_namespaces_that_show_one_subnet_the_older_keeps_it_and_the_others_pods_are_decided_anew():
    w = world()
    w.namespace("old")
    w.namespace("young")
    w.pod("young", "p")
    w.settle()
    w.annotate(w.namespaces["young"], ncp__segments=w.annotations("old")["ncp/segments"])
    before = w.segments("old")
    w.restart()
    w.settle()
    assert w.segments("old") == before
    assert w.segments("young") != before
    assert ("Namespace", ("", "young"), "SEGMENT_CONFLICT") in w.events
    assert json.loads(w.annotations("young", "p")["ncp/port"])["vni"] == w.segments("young")[0]["vni"]


GARBAGE = ["", "null", "7", "[7]", "{}", '{"vni":"x"}', "[]", "[{}]", "\u0000", '"text"', "{", "[[[[", '{"10.4.0.2":"x"}',
           '{"nowhere":1}', '[{"vni":true,"router":1,"gateways":[]}]', '[{"vni":5001,"router":1,"gateways":["10.4.0.9/24"]}]',
           '{"vni":5001,"mac":"01:00:5e:00:00:01","addresses":["10.4.0.2/24"],"gateways":[]}',
           '{"vni":5001,"mac":"02:4e:0a:04:00:02","addresses":["10.4.0.1/24","fd00:10:4::2/64"],"gateways":["10.4.0.1","fd00:10:4::1"]}',
           '{"vni":5001,"mac":"02:4e:0a:04:00:02","addresses":["10.4.0.2/24"],"gateways":["10.4.0.1"]}']  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE)
def test_annotations_that_make_no_sense_are_decided_anew(text):
    w = world()
    w.namespace("a", ncp__segments=text, ncp__resting=text)
    w.pod("a", "p", ncp__port=text)
    w.restart()
    w.settle()
    assert w.segments("a")[0]["gateways"] == ["10.4.0.1/24", "fd00:10:4::1/64"]
    assert w.addresses("a", "p") == ["10.4.0.2/24", "fd00:10:4::2/64"]
    assert "ncp/resting" not in w.annotations("a")
    w.pod("a", "live", ncp__port=text)
    w.settle()
    assert w.addresses("a", "live") == ["10.4.0.3/24", "fd00:10:4::3/64"]


def test_a_rest_far_in_the_future_is_cut_to_the_rest_time():
    w = world("10.4.0.0/16")
    w.namespace("a")
    w.settle()
    w.annotate(w.namespaces["a"], ncp__resting='{"10.4.0.9": 1e15}')
    w.restart()
    w.settle()
    assert w.resting("a") == {"10.4.0.9": 1060.0}


def test_a_port_copied_from_another_pod_is_not_taken_over():
    w = world()
    w.namespace("a")
    w.pod("a", "p")
    w.settle()
    copied = w.annotations("a", "p")["ncp/port"]
    w.pod("a", "copy", ncp__port=copied)
    w.delete_pod("a", "p")
    w.pod("a", "copy-of-resting", ncp__port=copied)
    w.settle()
    assert w.addresses("a", "copy") != w.addresses("a", "copy-of-resting")
    assert "10.4.0.2/24" not in w.all_addresses()


def test_segments_lost_while_no_manager_ran_are_found_again_from_the_pods():
    w = world("10.4.0.0/24", lengths=((4, 29), (6, 64)))
    w.namespace("first")
    w.namespace("a")
    for n in range(7):
        w.pod("a", f"p{n}")
    w.settle()
    before, ports = w.segments("a"), w.all_addresses()
    w.annotate(w.namespaces["a"], ncp__segments=None)
    w.restart()
    w.settle()
    assert (w.segments("a"), w.all_addresses()) == (before, ports)


# -- restarts ---------------------------------------------------------------------------------------------------------


def test_a_pod_made_again_while_no_manager_ran_gets_a_decision_of_its_own():
    w = world("10.4.0.0/16")
    w.namespace("a")
    w.pod("a", "p")
    w.settle()
    books = w.books
    del w.pods["a", "p"]
    w.pods["a", "p"] = {"metadata": w._meta("p", "a", {}), "spec": {}, "status": {}}
    w.books = books  # the watch was interrupted: one event for both
    w.seen_pod(("a", "p"))
    w.settle()
    assert w.addresses("a", "p") == ["10.4.0.3/24"]
    assert w.resting("a") == {"10.4.0.2": 1060.0}
    w.restart()
    assert w.settle() == []


def test_after_a_restart_addresses_of_pods_that_came_and_went_unseen_are_not_the_next_to_be_given():
    w = world("10.4.0.0/16")
    w.namespace("a")
    for n in range(10):
        w.pod("a", f"p{n}")
    w.settle()
    gone = {w.addresses("a", f"p{n}")[0] for n in range(5, 10)}
    for n in range(5, 10):
        del w.pods["a", f"p{n}"]  # nobody sees it
    w.restart()
    for n in range(20):
        w.pod("a", f"q{n}")
    w.settle()
    assert not gone & set(w.all_addresses())


def test_the_order_of_objects_in_a_list_changes_nothing():
    def play(seed: int | None) -> tuple[list, dict]:
        w = world("10.4.0.0/22", lengths=((4, 28), (6, 64)), statefulset_ranges=True)
        for name in "abc":
            w.namespace(name)
            for n in range(16):
                w.pod(name, f"p{n}")
        w.settle()
        for n in range(8):
            w.delete_pod("b", f"p{n}")
        w.settle(5)
        for n in range(30):
            w.pods["c", f"new{n}"] = {"metadata": w._meta(f"new{n}", "c", {}), "spec": {}, "status": {}}
        w.annotate(w.pods["a", "p3"], ncp__port=w.annotations("a", "p2")["ncp/port"])
        w.restart(random.Random(seed) if seed is not None else None)
        made = w.settle(1)
        return made, {key: w.annotations(*key) for key in w.pods}

    assert play(None) == play(1) == play(2)


def test_a_rebuild_gives_the_same_books():
    w = world("10.4.0.0/22", lengths=((4, 28), (6, 64)))
    for name in "abc":
        w.namespace(name)
        for n in range(16):
            w.pod(name, f"p{n}")
    w.settle()
    for n in range(8):
        w.delete_pod("b", f"p{n}")
    w.settle(5)
    before = w.books
    w.restart()
    after = w.books
    assert w.settle() == []
    assert after.ports == before.ports
    assert after.accounts.supply == before.accounts.supply
    for name in "abc":
        for one, other in zip(after.tenants[name].chain.ledgers(), before.tenants[name].chain.ledgers(), strict=True):
            assert one.holders() == other.holders()
            assert {a: r.until for a, r in one.rests().items()} == {a: r.until for a, r in other.rests().items()}


def test_blocks_that_overlap_the_transit_network_or_each_other_are_refused():
    with pytest.raises(BlockError, match=r"100\.64\.0\.0/10 overlaps .*100\.64\.0\.0/16"):
        World(layout("100.64.0.0/10", transit=(parse_prefix("100.64.0.0/16"),)))
    with pytest.raises(BlockError, match=r"10\.4\.0\.0/16"):
        World(layout("10.4.0.0/16", no_snat_blocks=["10.4.7.0/24"]))


def test_a_namespace_has_no_more_pod_addresses_than_it_may():
    w = World(layout("10.4.0.0/16", "fd00:10:4::/48"))
    w.namespace("a", ncp__max_pod_addresses="4")
    for name in ("p", "q", "r", "s"):
        w.pod("a", name)
    w.settle()
    assert [len(w.addresses("a", name)) for name in "pq"] == [2, 2]
    told = w.annotations("a", "r")["ncp/error.network"]
    assert told.startswith("QUOTA_EXCEEDED: the namespace has 4 of the 4 addresses of pods that its annotation")
    assert ("Pod", ("a", "r"), "QUOTA_EXCEEDED") in w.events
    assert "ncp/error.network" not in w.annotations("a")
    w.delete_pod("a", "p")
    w.settle()
    assert len(w.addresses("a", "r")) == 2
    w.annotate(w.namespaces["a"], ncp__max_pod_addresses="nine")
    w.settle()
    assert w.annotations("a", "s")["ncp/error.network"].startswith("QUOTA_INVALID: ")
    w.annotate(w.namespaces["a"], ncp__max_pod_addresses="6")
    w.settle()
    assert len(w.addresses("a", "s")) == 2
    assert "ncp/error.network" not in w.annotations("a", "s")
    w.annotate(w.namespaces["a"], ncp__max_pod_addresses="0")
    w.pod("a", "t")
    w.settle()
    assert len(w.all_addresses()) == 6, "what is held stays"
    w.restart()
    assert w.settle() == []
    w.annotate(w.namespaces["a"], ncp__max_pod_addresses=None)
    w.settle()
    assert len(w.addresses("a", "t")) == 2

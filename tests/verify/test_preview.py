"""What a preview says of verdicts, on objects alone: a site without switches has neither flows nor connections."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall.verdict import Verdict
from ipam.address import Address, parse_interface
from ncp.probe.expect import expected
from ncp.probe.model import Endpoint, Probe
from ncp.probe.site import Site, Switches, listening_of, matrix
from ncp.translate.intent import Fabric, translated
from ncp.verify.afterwards import departures, made
from ncp.verify.cases import combinations
from ncp.verify.errors import Refused
from ncp.verify.foretold import as_json, show, show_departures
from ncp.verify.ground import SPACES, namespace_object, pod_object
from ncp.verify.policies import RESOURCES, key_of
from ncp.verify.preview import Connection, preview
from sdn.conntrack import Forbidden, Tracked
from sdn.reference import reference
from tests.verify.builders import cluster_policy, network_policy
from tests.verify.suite_cases import GROUND, policies_of

FABRIC = Fabric("lab", 5000, (parse_interface("100.64.0.1/16"),), 1500, False, "node1")
DENY = network_policy("deny", "verify-x", podSelector={"matchLabels": {"pod": "a"}})
OPEN = network_policy("open", "verify-x", podSelector={"matchLabels": {"pod": "a"}}, ingress=[{}])


def noted(obj, **annotations):
    texts = {
        f"ncp/{name}": value if isinstance(value, str) else json.dumps(value) for name, value in annotations.items()
    }
    meta = obj["metadata"] | {"annotations": {"ncp/cluster": "lab", **texts}}
    return obj | {"metadata": meta, "status": {"phase": "Running"}}


def namespace(number, space):
    gateways = [f"{Address(each.family, each.value + 1)}/{each.length}" for each in GROUND.networks[space]]
    segment = {"vni": 5001 + number, "router": 5001 + number, "gateways": gateways, "snat": True}
    return noted(namespace_object(GROUND, space), segments=[segment])


def pod(number, short):
    lengths = (24, 64)
    addresses = [f"{each}/{length}" for each, length in zip(GROUND.pods[short], lengths, strict=True)]
    port = {
        "vni": 5001 + SPACES.index(short[0]),
        "mac": f"02:4e:0a:04:00:{number:02x}",
        "addresses": addresses,
        "gateways": [],
    }
    return noted(pod_object(GROUND, short, ["node1", "node2"]), port=port)


def site(*policies):
    """The nine pods under some policies, and no switch."""
    nodes = [
        {
            "metadata": {"name": f"node{n}"},
            "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.50.1{n}"}]},
        }
        for n in (1, 2)
    ]
    objects = {
        "Node": nodes,
        "Namespace": [namespace(*each) for each in enumerate(SPACES)],
        "Pod": [pod(*each) for each in enumerate(GROUND.pods, 2)],
        **{kind: [each for each in policies if each["kind"] == kind] for kind in RESOURCES},
    }
    state = translated(FABRIC, objects)
    assert state.all_problems() == []
    ends = {
        name: Endpoint(name, port.addresses, "", node=port.node, mac=port.mac, vni=port.vni)
        for name, port in state.intent.ports.items()
    }
    return Site(objects, state, ends, listening_of(objects["Pod"]), {}, lambda node: {"flows": []}, Switches({}))


BARE = site()
TO_A = [Probe(f"verify-{other}", "verify-x/a", family, "tcp", 80) for other in ("x/b", "y/a") for family in (4, 6)]
FROM_A = [Probe("verify-x/a", "verify-x/b", 4, "tcp", 80)]


def by_key(*policies):
    return {key_of(each): each for each in policies}


def answers(foreseen):
    return {turn.probe: (turn.before.answer, turn.after.answer) for turn in foreseen.turns}


def test_exactly_the_probes_that_would_be_answered_otherwise_are_told():
    foreseen = preview(BARE, by_key(DENY), set(), TO_A + FROM_A)
    assert answers(foreseen) == dict.fromkeys(TO_A, ("yes", "no"))
    assert {turn.after.causes for turn in foreseen.turns} == {("NetworkPolicy verify-x/deny isolates ingress",)}
    assert all(turn.is_another_answer for turn in foreseen.turns)
    assert (foreseen.flows, foreseen.connections, foreseen.live) == ((), (), 0)


def test_a_probe_that_stays_turned_away_by_somebody_else_is_told_and_is_no_other_answer():
    admin = cluster_policy("first", ingress=[{"action": "Deny", "from": [{"namespaces": {}}]}])
    foreseen = preview(site(DENY), by_key(admin), set(), TO_A)
    assert [(turn.before.answer, turn.after.answer) for turn in foreseen.turns] == [("no", "no")] * len(TO_A)
    assert not any(turn.is_another_answer for turn in foreseen.turns)


def test_a_policy_that_is_already_so_changes_nothing():
    assert preview(site(DENY), by_key(DENY), set(), TO_A + FROM_A).turns == ()


def test_deleting_and_applying_are_one_change():
    held = site(DENY)
    assert answers(preview(held, {}, {key_of(DENY)}, TO_A)) == dict.fromkeys(TO_A, ("no", "yes"))
    assert answers(preview(held, by_key(OPEN), set(), TO_A)) == dict.fromkeys(TO_A, ("no", "yes"))
    swapped = preview(site(OPEN), by_key(DENY), {key_of(OPEN)}, TO_A)
    assert answers(swapped) == dict.fromkeys(TO_A, ("yes", "no"))
    assert set(swapped.after.intent.sections) >= {key_of(DENY)}
    assert key_of(OPEN) not in swapped.after.intent.sections


@given(st.sampled_from(list(combinations())), st.sampled_from(list(combinations())))
@settings(deadline=None, max_examples=25)
def test_what_is_foretold_is_what_the_intent_says_once_it_is_so(held, coming):
    before, after = site(*policies_of(held)), policies_of(coming)
    probes = matrix(before, sorted(before.endpoints)[:5], (4, 6), ("tcp", "sctp"), (80,))
    foreseen = preview(before, by_key(*after), set(), probes)
    become = site(*by_key(*policies_of(held), *after).values())
    world, was = reference(become.intent), reference(before.intent)
    for probe in probes:
        now = expected(become.intent, world, become.endpoints, become.listening, probe)
        then = expected(before.intent, was, before.endpoints, before.listening, probe)
        told = {turn.probe: turn for turn in foreseen.turns}.get(probe)
        if (now.answer, now.causes) == (then.answer, then.causes):
            assert told is None
        else:
            assert (told.before, told.after) == (then, now)


# -- what is refused ------------------------------------------------------------------------------------------------


def test_deleting_what_is_not_there_is_refused():
    for key in ("NetworkPolicy/verify-x/deny", "ClusterNetworkPolicy//deny"):
        with pytest.raises(Refused) as refused:
            preview(BARE, {}, {key}, TO_A)
        assert str(refused.value) == f"{key} cannot be deleted: there is no such policy"


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (
            network_policy("p", "verify-x", podSelector={}, ingress=[{"from": [{"ipBlock": {"cidr": "10.4/16"}}]}]),
            "10.4/16",
        ),
        (network_policy("p", "verify-x", podSelector={}, policyTypes=["Sideways"]), "Sideways"),
        (cluster_policy("p", tier="Second"), "Second"),
    ],
)
def test_a_policy_that_cannot_be_understood_is_refused_by_name_and_with_why(broken, says):
    with pytest.raises(Refused) as refused:
        preview(BARE, by_key(broken), set(), TO_A)
    assert str(refused.value).startswith(f"{key_of(broken)}: ")
    assert says in str(refused.value)
    assert refused.value.exit_code == 2


# -- as people and machines see it ----------------------------------------------------------------------------------


def test_a_preview_as_text(capsys):
    show(preview(BARE, by_key(DENY), set(), TO_A + FROM_A), "wide", 5)
    said = capsys.readouterr().out
    assert "verdicts: 4 of 5 probes change\n" in said
    assert "flows: 0 added or changed, 0 removed\n" in said
    assert "connections: 0 of 0 end\n" in said
    assert "isolates ingress" in " ".join(said.split())


def test_a_preview_as_json(capsys):
    foreseen = preview(BARE, by_key(DENY), set(), TO_A[:1])
    show(foreseen, "json", 1)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(as_json(foreseen, 1)))
    show(foreseen, "json", 1, ["something"])
    body = json.loads(capsys.readouterr().out)
    assert body["departures"] == ["something"]
    (turn,) = body["verdicts"]
    assert (turn["source"], turn["before"]["answer"], turn["after"]["answer"]) == ("verify-x/b", "yes", "no")


def connection(why, fate="recheck"):
    here, there = GROUND.pods["x/b"][0], GROUND.pods["x/a"][0]
    tracked = Tracked(3, "tcp", here, there, 40000, 80, there)
    return Connection("node1", Forbidden(tracked, "verify-x/a", Verdict("drop", why), fate))


def test_connections_that_are_kept_do_not_end_and_rules_are_called_what_their_authors_called_them(capsys):
    both = (connection("SecurityPolicy x/s ingress rule 0 ([/bold] no [red])"), connection("other", "keep"))
    foreseen = preview(BARE, {}, set(), [])
    some = replace(foreseen, connections=both, live=7)
    show(some, "wide", 0)
    said = " ".join(capsys.readouterr().out.split())
    assert "connections: 1 of 7 end, 1 that would be forbidden are kept" in said
    assert "([/bold] no [red])" in said
    assert [each["ends"] for each in as_json(some, 0)["connections"]] == [True, False]


def test_departures_are_told_one_by_one_and_none_is_good_news(capsys):
    show_departures([])
    assert capsys.readouterr().out == "applied: exactly this happened\n"
    show_departures([f"[{n}]" for n in range(25)])
    said = capsys.readouterr().out
    assert "otherwise [0]\n" in said
    assert "and 5 more; --output json has all\n" in said
    assert departures(BARE, preview(BARE, {}, set(), [])) == []


def test_what_was_made_has_the_uids_it_got_and_nothing_else_that_was_not_foreseen():
    """A dry run gives a new policy another uid than the policy gets, and flows are known by the uid of who asked for them."""
    asked, got = ({**DENY, "metadata": DENY["metadata"] | {"uid": uid}} for uid in ("dry", "real"))
    foreseen = preview(BARE, by_key(asked), set(), [])
    assert made(site(got), foreseen).intent == site(got).intent
    assert made(BARE, foreseen).intent == foreseen.after.intent, "it was not made: its flows are missed"
    other = {**got, "spec": OPEN["spec"]}
    assert made(site(other), foreseen).intent != site(other).intent, "somebody made another policy of the name"

"""What is said of each rule is what packets did: exact, added up over its flows, through changes of them. On a real switch."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import TCP

from ncp.node.rulestats import rule_statistics
from sdn.openflow.values import InstalledFlow
from sdn.pipeline.tables import T
from tests.node.rig import Rig, datagram, only_from, pod, policy, until

pytestmark = pytest.mark.switch
NOTHING = {"hits": 0, "sessions": 0, "packets": 0, "bytes": 0}
UDP_80 = ({"port": 80, "protocol": "UDP"},)


def statistics(rig: Rig) -> dict[tuple[str, str], dict[str, Any]]:
    rig.ovs_call("revalidator/wait")  # counters of what is cached reach the flows
    return by_rule(rig, rig.switch.flows())


def by_rule(rig: Rig, flows: list[InstalledFlow]) -> dict[tuple[str, str], dict[str, Any]]:
    rows = rule_statistics(rig.loop.program, flows)
    found = {(row["origin"]["name"], row["rule"]): row for row in rows}
    assert len(found) == len(rows), "one row for a rule"
    return found


def counted(row: dict[str, Any]) -> dict[str, int]:
    return {name: row[name] for name in NOTHING}


def shows(rig: Rig, name: str, rule: str, **wanted: int) -> None:
    """A rule's counters become exactly these: what is cached is counted a moment later."""
    try:
        until(lambda: counted(statistics(rig)[name, rule]) == NOTHING | wanted)
    except AssertionError:
        assert counted(statistics(rig)[name, rule]) == NOTHING | wanted
        raise


def say(rig: Rig, source: str, port: int = 80, *, number: int = 40000, times: int = 1, family: int = 4) -> int:
    """Datagrams to b, one after the other; their bytes."""
    size = 0
    for _ in range(times):
        size += len(rig.send(source, "b", datagram(port, number, 100), family))
        rig.settled(source, "b")
    return size


def security(*rules: dict[str, Any], established: str = "") -> dict[str, Any]:
    spec = {"priority": 5, "appliedTo": [{"podSelector": {"matchLabels": {"app": "b"}}}], "rules": list(rules)}
    return policy("secure", spec, established=established)


def of(action: str, *names: str, **more: Any) -> dict[str, Any]:
    sources = [{"podSelector": {"matchLabels": {"app": name}}} for name in names]
    return {"action": action, "direction": "In", "sources": sources} | more


def test_nothing_happened_yet_and_every_rule_and_isolation_is_there(rig: Rig):
    two = only_from("a") | {"policyTypes": ["Ingress", "Egress"]}
    two["ingress"] *= 2
    rig.start(policy("two", two))
    found = statistics(rig)
    assert {rule: row["action"] for (_, rule), row in found.items()} == {
        "ingress rule 0": "allow", "ingress rule 1": "allow", "isolates ingress": "drop", "isolates egress": "drop",
    }  # fmt: skip
    assert all(counted(row) == NOTHING for row in found.values())
    assert found["two", "ingress rule 0"]["origin"] == {
        "kind": "NetworkPolicy", "namespace": "red", "name": "two", "uid": "u-two", "detail": "ingress rule 0",
    }  # fmt: skip


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_allowed_counts_once_as_a_session_and_each_packet_with_its_bytes(rig: Rig, family: int):
    rig.start(policy("some", only_from("a", ports=UDP_80)))
    size = say(rig, "a", family=family)
    rig.send("b", "a", datagram(40000, 80, 100), family)  # an answer is not the rule's direction
    assert rig.settled("b", "a")
    size += say(rig, "a", times=4, family=family)  # the rule is not asked about any more
    size += say(rig, "a", number=40001, times=2, family=family)  # unanswered: each is asked about
    shows(rig, "some", "ingress rule 0", hits=3, sessions=2, packets=7, bytes=size)
    shows(rig, "some", "isolates ingress")


def test_what_is_turned_away_counts_each_time(rig: Rig):
    rig.start(policy("some", only_from("a", ports=UDP_80)))
    size = say(rig, "a", 81, times=3) + say(rig, "c", 80, times=2)
    shows(rig, "some", "isolates ingress", hits=5, packets=5, bytes=size)
    shows(rig, "some", "ingress rule 0")


def test_a_rule_of_many_flows_is_one_row_that_adds_them_up(rig: Rig):
    """Two peers by two services, each family: the rule is several flows, or a conjunction."""
    ports = (*UDP_80, {"port": 82, "protocol": "UDP"})
    rig.start(policy("many", only_from("a", "c", ports=ports)))
    size = sum(
        say(rig, source, port, family=family) for source in "ac" for port in (80, 82) for family in (4, 6)
    )  # fmt: skip
    shows(rig, "many", "ingress rule 0", hits=8, sessions=8, packets=8, bytes=size)


def test_only_the_rule_that_decided_is_counted(rig: Rig):
    rig.start()
    rig.apply(security(of("Drop", "a"), of("Allow", "a", "c"), of("Drop", "a", "c", "d")), kind="SecurityPolicy")
    dropped, allowed, last = say(rig, "a", times=2), say(rig, "c"), say(rig, "d", times=3)
    shows(rig, "secure", "ingress rule 0", hits=2, packets=2, bytes=dropped)
    shows(rig, "secure", "ingress rule 1", hits=1, sessions=1, packets=1, bytes=allowed)
    shows(rig, "secure", "ingress rule 2", hits=3, packets=3, bytes=last)


def test_a_rejecting_rule_counts_what_it_turned_away(rig: Rig):
    rig.start()
    rig.apply(security(of("Reject", "a", name="no")), kind="SecurityPolicy")
    size = say(rig, "a", times=2)
    assert statistics(rig)["secure", "ingress rule 0 (no)"]["action"] == "reject"
    shows(rig, "secure", "ingress rule 0 (no)", hits=2, packets=2, bytes=size)


@pytest.mark.parametrize("order", [1, -1], ids=["as dumped", "backwards"])
def test_a_drop_that_resets_what_it_cuts_is_still_a_drop(rig: Rig, order: int):
    """Its resets are flows of the same rule; whichever the switch names first, the rule's action is what the policy says."""
    rig.start(policy("lonely", only_from(), established="cut"))
    rig.apply(security(of("Drop", "a"), established="cut"), kind="SecurityPolicy")
    dropped = say(rig, "a")
    cut = len(rig.send("a", "b", TCP(sport=40000, dport=80, flags="PA", seq=1, ack=1)))
    shows(rig, "secure", "ingress rule 0", hits=2, packets=2, bytes=dropped + cut)
    flows = sorted(rig.switch.flows(), key=lambda flow: flow.priority * order)
    found = by_rule(rig, flows)
    assert found["secure", "ingress rule 0"]["action"] == "drop"
    assert found["lonely", "isolates ingress"]["action"] == "drop"


def test_counters_outlive_other_policies_a_rewritten_one_and_the_agent(rig: Rig):
    given = policy("some", only_from("a", ports=UDP_80))
    rig.start(given)
    size, dropped = say(rig, "a", times=3), say(rig, "c", times=2)
    wanted = {"hits": 3, "sessions": 1, "packets": 3, "bytes": size}
    shows(rig, "some", "ingress rule 0", **wanted)
    rig.apply(policy("other", only_from("d")))
    rig.change("NetworkPolicy", "other", None)
    rig.change("Pod", "d", pod("d", app="z"))
    shows(rig, "some", "ingress rule 0", **wanted)
    more = policy("some", only_from("a", ports=UDP_80) | {"policyTypes": ["Ingress", "Egress"]}, generation=2)
    rig.apply(more)
    shows(rig, "some", "ingress rule 0", **wanted)
    rig.stop()
    rig.start(more, logged=frozenset({"allow", "drop"}))  # the same flows with other actions
    shows(rig, "some", "ingress rule 0", **wanted)
    shows(rig, "some", "isolates ingress", hits=2, packets=2, bytes=dropped)
    size += say(rig, "a", number=40001)
    shows(rig, "some", "ingress rule 0", hits=4, sessions=2, packets=4, bytes=size)


def test_a_policy_made_anew_begins_at_nothing(rig: Rig):
    given = policy("some", only_from("a", ports=UDP_80))
    rig.start(given)
    say(rig, "a")
    shows(rig, "some", "ingress rule 0", hits=1, sessions=1, packets=1, bytes=142)
    rig.change("NetworkPolicy", "some", None)
    assert statistics(rig) == {}
    rig.apply(given)
    shows(rig, "some", "ingress rule 0")


def test_flows_of_nobody_are_nobodys(rig: Rig):
    rig.start(policy("some", only_from("a")))
    before = statistics(rig)
    rig.ovs.ofctl("add-flow", "br-int", f"table={T['ingress_application']},priority=1,udp,actions=drop")
    assert statistics(rig) == before

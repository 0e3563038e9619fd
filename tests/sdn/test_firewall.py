"""The firewall's flows say what the oracle says, of any policies and any connection; incremental equals full."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map

from firewall import clusterpolicy, networkpolicy
from firewall.labels import labels_of
from firewall.rules import Identity, NamedPort
from firewall.verdict import Connection, Verdict, judge
from ipam.address import Address, parse_address, parse_prefix
from sdn.compile.delta import Delta
from sdn.model import Intent
from sdn.pipeline.registers import GATEWAY_MAC, GENEVE_PORT, NODE_PORT
from sdn.pipeline.tables import PIPELINE
from sdn.program import build, update
from sdn.reference import reference
from tests.sdn import policies, worlds
from tests.sdn.emulator import Emulator, Outcome, frame, table_of

OWNER = 0x4E43
EXTERNAL = (parse_address("203.0.113.1"), parse_address("2001:db8:113::1"))
BLOCKS = (parse_prefix("10.4.0.0/16"), parse_prefix("fd00:10:4::/48"))
LABELS = (
    {"app": "web", "tier": "front"},
    {"app": "db", "tier": "back"},
    {"app": "web"},
    {},
)
NAMED = (
    (NamedPort("dns", "udp", 53), NamedPort("http", "tcp", 80)),
    (NamedPort("http", "tcp", 8080),),
    (),
)
NAMESPACES = {
    name: labels_of({"kubernetes.io/metadata.name": name, **({"team": "a"} if name != "blue" else {})})
    for name in worlds.NAMESPACES
}


def world(sections=()) -> Intent:
    """Nine pods with labels and named ports of their own, and policies."""
    intent = worlds.world()
    ports = {}
    for number, (name, port) in enumerate(sorted(intent.ports.items())):
        identity = Identity(port.identity.namespace, labels_of(LABELS[number % 4]), NAMED[number % 3])
        ports[name] = worlds.replace_identity(port, identity)
    return intent.replace(
        ports=Map(ports),
        blocks=BLOCKS,
        namespaces=Map(NAMESPACES),
        sections=Map({each.key: each for each in sections}),
    )


class Fabric:
    """Every node's program, and packets through them."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.programs = {
            node: build(intent, node, OWNER, worlds.attachments(intent, node)) for node in sorted(intent.nodes)
        }
        self.nodes = {node: Emulator(e.flow for e in program.entries()) for node, program in self.programs.items()}
        self.addresses = {a: p for p in intent.ports.values() for a in p.addresses}

    def begin(self, source: Address, destination: Address, protocol, port) -> list[Outcome]:
        """What each node on the way does with the first packet of a connection."""
        sender = self.addresses.get(source)
        if sender is None:
            node = next((n.name for n in self.intent.nodes.values() if source in n.addresses), "node1")
            fields = {"in_port": NODE_PORT, "eth_src": self.intent.nodes[node].mac, "eth_dst": GATEWAY_MAC}
        else:
            node = sender.node
            receiver = self.addresses.get(destination)
            same = receiver is not None and receiver.vni == sender.vni
            ofport = worlds.attachments(self.intent, node)[sender.name]
            fields = {"in_port": ofport, "eth_src": sender.mac, "eth_dst": receiver.mac if same else GATEWAY_MAC}
        packet = frame(source, destination, protocol, port, in_port=0, mac=0, to=0) | fields
        outcomes = [self.nodes[node].send(packet)]
        if outcomes[0].port == GENEVE_PORT:
            sent = outcomes[0].fields
            there = next(n.name for n in self.intent.nodes.values() if n.tep.value == sent["tun_ipv4_dst"])
            kept = {k: v for k, v in sent.items() if not k.startswith(("reg", "tun_", "ct_"))}
            outcomes.append(self.nodes[there].send({**kept, "in_port": GENEVE_PORT}))
        return outcomes


class Ends(NamedTuple):
    source: Address
    destination: Address
    protocol: str | None
    port: int


def delivered(intent: Intent, outcomes: list[Outcome], ends: Ends) -> bool:
    port = next((p for p in intent.ports.values() if ends.destination in p.addresses), None)
    if port is None:
        return table_of(outcomes[-1]) in ("deliver",) or outcomes[-1].port is not None
    return outcomes[-1].port == worlds.attachments(intent, port.node)[port.name]


def check(fabric: Fabric, ends: Ends) -> Verdict:
    """Hold the flows against the oracle: the same answer, for the same reason."""
    wanted = judge(reference(fabric.intent), Connection(*ends))
    outcomes = fabric.begin(*ends)
    last = outcomes[-1]
    if wanted.allowed:
        assert delivered(fabric.intent, outcomes, ends), (wanted, table_of(last), last.last.origin)
        held = {str(cause.source) for cause in wanted.causes}
        for outcome in outcomes:
            for flow in outcome.met:
                if PIPELINE.tables[flow.table].name.endswith("_count") and flow.origin.kind != "Fabric":
                    assert f"{flow.origin.kind} {_where(flow.origin)}" in held
        return wanted
    assert not delivered(fabric.intent, outcomes, ends), (wanted, last.last.origin)
    assert table_of(last).startswith(f"{wanted.direction}_"), (wanted, table_of(last), last.last.origin)
    assert bool(last.userdata) == (wanted.action == "reject")
    if wanted.causes:
        assert attributed(last) == (wanted.direction, *said(wanted))
    else:
        assert last.last.origin.detail == "unknown-sender"
    return wanted


def _where(origin):
    return f"{origin.namespace}/{origin.name}" if origin.namespace else origin.name


def attributed(outcome: Outcome):
    """Direction, object and rule that the last flow's origin names; for an isolation the set of names."""
    origin = outcome.last.origin
    if origin.detail.startswith("isolates "):
        return origin.detail.removeprefix("isolates "), origin.kind, origin.namespace, frozenset(origin.name.split(","))
    direction, _, number = origin.detail.split()[:3]
    return direction, origin.kind, _where(origin), int(number)


def said(verdict: Verdict):
    causes = verdict.causes
    if causes[0].rule is None:
        source = causes[0].source
        return source.kind, source.namespace, frozenset(cause.source.name for cause in causes)
    source = causes[0].source
    return source.kind, _where(source), causes[0].rule


intent = world()
addresses = st.sampled_from(
    [a for p in intent.ports.values() for a in p.addresses]
    + [a for n in intent.nodes.values() for a in n.addresses]
    + [*EXTERNAL, parse_address("10.4.0.77")]
)


@st.composite
def connections(draw):
    """One end at least is a pod; both of one family."""
    pods = [a for p in intent.ports.values() for a in p.addresses]
    one = draw(st.sampled_from(pods))
    other = draw(addresses.filter(lambda a: a.family == one.family and a != one))
    source, destination = draw(st.sampled_from([(one, other), (other, one)]))
    protocol = draw(st.sampled_from(("tcp", "udp", "sctp", None)))
    return Ends(source, destination, protocol, draw(st.sampled_from((80, 81, 8080, 443, 53, 444))) if protocol else 0)


@given(st.lists(policies.sections, max_size=5), st.lists(connections(), min_size=1, max_size=25))
@settings(deadline=None, max_examples=120)
def test_flows_decide_as_the_oracle_does_and_name_the_same_cause(sections, asked):
    fabric = Fabric(world({each.key: each for each in sections}.values()))
    for ends in asked:
        if ends.destination == parse_address("10.4.0.77"):
            continue  # nobody is there: no route, whatever policies say
        check(fabric, ends)


@given(st.lists(policies.sections, max_size=6))
@settings(deadline=None, max_examples=60)
def test_every_flow_keeps_to_the_pipelines_definition(sections):
    program = build(world(sections), "node1", OWNER, worlds.attachments(intent, "node1"))
    for entry in program.entries():
        PIPELINE.check(entry.flow)
    assert program.all_problems() == []


edits = st.lists(
    st.one_of(
        st.tuples(st.just("section"), policies.sections),
        st.tuples(st.just("no section"), policies.sections),
        st.tuples(st.just("labels"), st.tuples(st.sampled_from(sorted(intent.ports)), st.integers(0, 11))),
        st.tuples(st.just("no port"), st.sampled_from(sorted(intent.ports))),
        st.tuples(st.just("move"), st.tuples(st.sampled_from(sorted(intent.ports)), st.sampled_from(worlds.NODES))),
        st.tuples(st.just("namespace"), st.tuples(st.sampled_from(worlds.NAMESPACES), st.booleans())),
        st.tuples(st.just("node"), st.sampled_from(worlds.NODES)),
    ),
    max_size=10,
)


def edited(now: Intent, edit) -> tuple[Intent, Delta]:
    what, value = edit
    if what == "section":
        return now.replace(sections=now.sections.set(value.key, value)), Delta(sections=frozenset({value.key}))
    if what == "no section":
        left = now.sections.delete(value.key) if value.key in now.sections else now.sections
        return now.replace(sections=left), Delta(sections=frozenset({value.key}))
    if what in ("labels", "move", "no port"):
        name = value if what == "no port" else value[0]
        changed = Delta(ports=frozenset({name}))
        if what == "no port" or name not in now.ports:
            return now.replace(ports=now.ports.delete(name) if name in now.ports else now.ports), changed
        port = now.ports[name]
        if what == "labels":
            identity = Identity(port.identity.namespace, labels_of(LABELS[value[1] % 4]), NAMED[value[1] % 3])
            port = worlds.replace_identity(port, identity)
        else:
            port = worlds.replace_node(port, value[1])
        return now.replace(ports=now.ports.set(name, port)), changed
    if what == "namespace":
        name, in_team = value
        labels = labels_of({"kubernetes.io/metadata.name": name, **({"team": "a"} if in_team else {})})
        return now.replace(namespaces=now.namespaces.set(name, labels)), Delta(namespaces=frozenset({name}))
    nodes = now.nodes.delete(value) if value in now.nodes else now.nodes.set(value, worlds.node(value))
    return now.replace(nodes=nodes), Delta(nodes=frozenset({value}))


@given(st.lists(policies.sections, max_size=3), edits)
@settings(deadline=None, max_examples=150)
def test_any_sequence_of_changes_ends_in_the_full_recompute(first, sequence):
    now = world({each.key: each for each in first}.values())
    attached = worlds.attachments(now, "node1")
    program = build(now, "node1", OWNER, attached)
    for edit in sequence:
        now, delta = edited(now, edit)
        here = worlds.attachments(now, "node1")
        delta |= Delta(ports=frozenset(n for n in {*here, *attached} if here.get(n) != attached.get(n)))
        attached = here
        program, _ = update(program, now, attached, delta)
    fresh = build(now, "node1", OWNER, attached)
    assert program.claims == fresh.claims
    assert program.rules.clauses == fresh.rules.clauses
    assert program.rules.membership == fresh.rules.membership
    assert program.all_problems() == fresh.all_problems()


def policy(name, spec, space="red"):
    return networkpolicy.section({"metadata": {"name": name, "namespace": space}, "spec": spec})


WEB = {"matchLabels": {"app": "web"}}
ALLOW = {"podSelector": WEB, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}, {"port": 8080}]}]}


def labelled(number: int, **labels: str):
    """A further pod of namespace red on node2."""
    port = worlds.port("red", "a", "node2", offset=20 + number)
    return worlds.rename(port, f"red/n{number}", Identity("red", labels_of(labels)))


def test_a_pod_of_a_known_identity_changes_no_flow_of_the_firewall():
    now = world([policy("allow", ALLOW)]).replace(switches=worlds.world().switches)
    one = labelled(1, app="other")
    now = now.replace(ports=now.ports.set(one.name, one))
    program = build(now, "node1", OWNER, worlds.attachments(now, "node1"))
    two = labelled(2, app="other")
    now = now.replace(ports=now.ports.set(two.name, two))
    _, changes = update(program, now, worlds.attachments(intent, "node1"), Delta(ports=frozenset({two.name})))
    assert {PIPELINE.tables[e.flow.table].name for e in changes.add} == {"l2_forward", "neighbour"}
    assert not changes.delete


def test_a_new_member_is_one_flow_for_each_clause_it_joins():
    now = world([policy("allow", ALLOW), policy("too", {**ALLOW, "podSelector": {}})])
    attached = worlds.attachments(now, "node1")
    program = build(now, "node1", OWNER, attached)
    new = labelled(3, app="unheard-of")
    now = now.replace(ports=now.ports.set(new.name, new))
    _, changes = update(program, now, attached, Delta(ports=frozenset({new.name})))
    firewall = [e.flow for e in changes.add if PIPELINE.tables[e.flow.table].name.startswith("ingress_")]
    assert len(firewall) == 1
    assert not changes.delete


def test_a_thousand_by_a_thousand_by_three_ports_is_a_flow_for_each_member():
    here = [worlds.port("red", "a", "node1", offset=20 + n) for n in range(200)]
    ports = {}
    for n, port in enumerate(here):
        ports[f"red/x{n}"] = worlds.rename(port, f"red/x{n}", Identity("red", (("n", str(n)), ("side", "own"))))
        peer = worlds.port("blue", "a", "node2", offset=20 + n)
        ports[f"blue/y{n}"] = worlds.rename(peer, f"blue/y{n}", Identity("blue", (("n", str(n)), ("side", "peer"))))
    spec = {
        "podSelector": {"matchLabels": {"side": "own"}},
        "ingress": [
            {
                "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"side": "peer"}}}],
                "ports": [{"port": port} for port in (80, 443, 8080)],
            }
        ],
    }
    empty = world().replace(ports=Map(ports))
    attached = {name: 16 + n for n, name in enumerate(sorted(ports)) if ports[name].node == "node1"}
    without = build(empty, "node1", OWNER, attached)
    with_policy = build(world([policy("big", spec)]).replace(ports=Map(ports)), "node1", OWNER, attached)
    own, peers, services, decision, counters = 200, 200, 3, 1, 2
    per_own = 2  # each own identity: ask the rules, and isolate
    assert len(with_policy) - len(without) == own + peers + services + decision + counters + per_own * own


@pytest.mark.parametrize("count", [31, 32, 40])
def test_policies_that_find_no_room_at_their_priority_cut_off_what_they_select(count):
    rules = [{"action": "Accept", "from": [{"namespaces": {}}]}] * 2
    body = {"tier": "Admin", "priority": 7, "subject": {"namespaces": {}}, "ingress": rules}
    sections = [clusterpolicy.section({"metadata": {"name": f"p{n:02}"}, "spec": body}) for n in range(count)]
    program = build(world(sections), "node1", OWNER, worlds.attachments(intent, "node1"))
    assert len(program.rules.crowded) == max(0, count - 31)
    assert {p.reason for p in program.all_problems()} == ({"PRIORITY_FULL"} if count > 31 else set())
    if count > 31:
        drops = [e.flow for e in program.entries() if e.flow.origin.detail == "ingress rule 0 (fails closed)"]
        assert drops
        assert all(not flow.actions for flow in drops)


@pytest.mark.parametrize("port", [80, 81])
def test_a_policy_with_a_rule_that_has_no_number_left_cuts_off_what_it_selects(monkeypatch, port):
    monkeypatch.setattr("sdn.compile.numbers._slot", lambda name: 0)
    allowed = [{"action": "Accept", "from": [{"namespaces": {}}]}]
    denied = [
        {"action": "Deny", "from": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"number": 81}}}]}
    ]
    many = {"tier": "Admin", "subject": {"namespaces": {}}, "ingress": (denied + allowed) * 12}
    sections = [
        clusterpolicy.section({"metadata": {"name": f"p{n}"}, "spec": {**many, "priority": n}}) for n in range(3)
    ]
    fabric = Fabric(world(sections))
    pods = [fabric.intent.ports[name].addresses[0] for name in ("red/a", "red/b")]
    outcomes = fabric.begin(*pods, "tcp", port)
    assert not delivered(fabric.intent, outcomes, Ends(*pods, "tcp", port))
    assert {p.reason for p in fabric.programs["node1"].all_problems()} == {"NUMBERS_EXHAUSTED"}


def test_a_node_reaches_its_own_pods_and_no_forged_address_does():
    fabric = Fabric(world([policy("deny", {"podSelector": {}, "policyTypes": ["Ingress"]})]))
    pod = fabric.intent.ports["red/a"]
    here, there = fabric.intent.nodes[pod.node], next(n for n in fabric.intent.nodes.values() if n.name != pod.node)
    assert delivered(
        fabric.intent, fabric.begin(here.tep, pod.addresses[0], "tcp", 80), Ends(here.tep, pod.addresses[0], "tcp", 80)
    )
    assert not delivered(
        fabric.intent,
        fabric.begin(there.tep, pod.addresses[0], "tcp", 80),
        Ends(there.tep, pod.addresses[0], "tcp", 80),
    )
    forged = frame(here.tep, pod.addresses[0], "tcp", 80, in_port=GENEVE_PORT, mac=GATEWAY_MAC, to=pod.mac)
    outcome = fabric.nodes[pod.node].send({**forged, "tunnel_id": pod.vni})
    assert outcome.last.origin.detail == "isolates ingress"

"""``ncp verify`` on a lab: what holds is proven, a planted fault is caught, saved, and gone when it is asked again; previews come true."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ncp.__main__ import run
from ncp.probe.model import Probe
from ncp.probe.run import ask
from ncp.probe.wire import run_in
from ncp.translate.intent import apply_all
from ncp.verify.cases import Apply, Delete
from ncp.verify.cluster import Cluster
from ncp.verify.ground import NAMES, SPACES
from ncp.verify.policies import key_of
from ncp.verify.preview import program_of
from ncp.verify.suite import Stage, Wish, play
from ncp.verify.sweep import forget
from sdn.openflow.dump import dump_flows
from sdn.openflow.message import pack_barrier
from sdn.openflow.pack import OPENFLOW_15, OWNER_MASK, OWNER_SHIFT, flow_mod, installed_key_bytes, pack_delete
from sdn.openflow.wire import connect
from sdn.pipeline.tables import T
from sdn.program import against
from tests.verify import builders
from tests.wire.conftest import Wire

pytestmark = [pytest.mark.switch, pytest.mark.lab]
PREFIX = "proof-"
A, B, Y = f"{PREFIX}x/a", f"{PREFIX}x/b", f"{PREFIX}y/a"
TO_A = {"matchLabels": {"pod": "a"}}
FROM_B = {"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}


@pytest.fixture(scope="module")
def stage(lab, tmp_path_factory) -> Iterator[Stage]:
    """The nine pods of the conformance suite."""
    with Cluster(str(lab.state.kubeconfig), lab.state.root) as cluster:
        found = Stage(cluster, Wish(directory=tmp_path_factory.mktemp("cases"), prefix=PREFIX))
        try:
            found.build()
            yield found
        finally:
            found.strike()


@pytest.fixture
def take(stage):
    """``take(policy, ...)``: policies that are in force when it returns, and gone at the end; the site as it is then."""
    stage.cluster.look()
    yield lambda *policies: stage.take(Apply(policies))
    if stage.policies:
        stage.take(Delete(tuple(stage.policies)))


@pytest.fixture
def verify(lab, capfd, tmp_path, monkeypatch):
    """``verify(argument, ...)``: exit code, standard output and error; what it saves goes to a directory of the test's."""
    monkeypatch.chdir(tmp_path)

    def tell(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        state = ("--state", lab.state.root)
        at = 1 if arguments[:1] in (("suite",), ("replay",)) else 0
        try:
            code = run(["verify", *map(str, (*arguments[:at], *state, *arguments[at:]))])
        except SystemExit as end:
            code = end.code
        return code, *capfd.readouterr()

    return tell


def policy(name, space="x", **spec):
    return builders.network_policy(name, f"{PREFIX}{space}", **spec)


def test_the_table_of_nine_pods_agrees_and_has_every_pair_port_and_protocol(stage, verify):
    spaces = [word for space in SPACES for word in ("-n", f"{PREFIX}{space}")]
    code, out, err = verify(*spaces, "--trace", "sample", "-o", "json")
    body = json.loads(out)
    assert (code, body["disagree"]) == (0, 0), err
    pods = {f"{PREFIX}{space}/{name}" for space in SPACES for name in NAMES}
    assert {(each["source"], each["destination"]) for each in body["results"]} == {
        (a, b) for a in pods for b in pods if a != b
    }
    asked = {(each["protocol"], each["port"], each["family"]) for each in body["results"] if each["port"]}
    assert asked == {(name, port, family) for name in ("tcp", "udp", "sctp") for port in (80, 81) for family in (4, 6)}
    assert {each["observed"]["answer"] for each in body["results"]} == {"yes"}


def test_cases_of_the_suite_agree_and_the_stage_is_left_as_it_was(stage, verify):
    asked = list(play(stage, ["peer-except"]))
    assert [(each.step, each.problem, each.wrong[:3]) for each in asked if not each.is_good] == []
    assert len(asked) == 7
    stage.restore()
    code, out, err = verify("suite", "--only", "peer-except+port-range", "--prefix", PREFIX, "--keep", "-o", "json")
    body = json.loads(out)
    assert (code, body["cases"], body["failed"]) == (0, 1, 0), out[:4000] + err
    site = stage.cluster.await_flows()
    assert not [key for key in site.intent.sections if f"/{PREFIX}" in key]


# -- what is wrong is caught ----------------------------------------------------------------------------------------


def test_a_fault_is_caught_saved_and_gone_when_its_file_is_asked_again(lab, take, verify, tmp_path):
    opened = policy("open", podSelector=TO_A, ingress=[FROM_B])
    site = take(opened, policy("other", "y", podSelector={"matchLabels": {"pod": "c"}}))
    end = site.endpoints[A]
    flow = f"table={T['deliver']},priority=60000,tcp,reg1={end.ofport}/0xffff,tp_dst=80,actions=drop"
    asking = (
        "--pod",
        A,
        "--pod",
        B,
        "--pod",
        Y,
        "--protocol",
        "tcp",
        "--port",
        80,
        "--family",
        4,
        "--save",
        tmp_path / "saved",
    )

    def asked_while_broken():
        with Wire(lab).planted(end.node, flow) as is_there:
            told = verify(*asking)
            return told if is_there() else None  # else the audit came between, and took the fault away

    code, out, err = lab.wait(asked_while_broken, "the question was asked while the fault was there")
    assert code == 1
    assert f"disagree {B} -> {A} tcp/80 IPv4" in out
    assert "1 of 6 probes disagree" in err
    (saved,) = (tmp_path / "saved").iterdir()
    assert str(saved) in err.replace("\n", "")
    text = saved.read_text()
    assert "name: open" in text
    assert "name: other" not in text, "the policy of another namespace has no part in it"

    code, out, err = verify("replay", saved, "-o", "json")
    (replayed,) = json.loads(out)
    assert (code, replayed["good"], replayed["wanted"]) == (0, True, "yes"), err
    assert [name for name in namespaces(lab) if "-case-" in name] == [], "it cleans up after itself"


def namespaces(lab):
    return [each["metadata"]["name"] for each in lab.get("namespaces")["items"]]


def security_policy(name, priority, action):
    rule = {"action": action, "direction": "In"}
    return builders.security_policy(
        name, f"{PREFIX}x", priority=priority, appliedTo=[{"podSelector": TO_A}], rules=[rule]
    )


def block(*excepts):
    """Everybody who speaks IPv4, less some, may reach a."""
    return policy(
        "block", podSelector=TO_A, ingress=[{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [*excepts]}}]}]
    )


def reversed_priority(site):
    return [security_policy("first", 3, "Allow"), security_policy("second", 5, "Drop")], [
        security_policy("first", 5, "Allow"),
        security_policy("second", 3, "Drop"),
    ]


def dropped_clause(site):
    ports = [{"port": 80}, {"port": 81}]
    rules = [FROM_B | {"ports": ports}, FROM_B | {"ports": ports[1:]}]
    return tuple([policy("clauses", podSelector=TO_A, ingress=[rule])] for rule in rules)


def wrong_except(site):
    mine, other = (f"{site.endpoints[name].address(4)}/32" for name in (B, Y))
    return [block(mine)], [block(other)]


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        (reversed_priority, {B: ("yes", "no"), Y: ("yes", "no")}),
        (dropped_clause, {B: ("yes", "no"), Y: ("no", "no")}),
        (wrong_except, {B: ("no", "yes"), Y: ("yes", "no")}),
    ],
)
def test_a_policy_that_was_compiled_wrongly_is_caught_by_flows_and_wire(lab, stage, take, fault, wanted):
    """The switch has the flows of a policy that says something else: as if the compiler had got it wrong."""
    right, wrong = fault(stage.cluster.site)
    site = take(*right)
    tampered = [{**stage.policies[key_of(each)], "spec": each["spec"]} for each in wrong]
    probes = [Probe(name, A, 4, "tcp", 80) for name in wanted]
    assert [each for each in ask(site, probes, quiet=True) if not each.agrees] == []

    def asked_while_wrong():
        with miscompiled(lab, site, site.endpoints[A].node, tampered) as is_there:
            found = ask(site, probes, quiet=True)
            # The audit may have come between; and an answer nobody promised is waited for only shortly, on a busy machine too.
            return found if is_there() and said(found) == wanted else None

    found = lab.wait(asked_while_wrong, f"the wire contradicts the intent as {wanted} has it")
    assert all(each.traced.answer == each.observed.answer for each in found)
    assert [each.agrees for each in found] == [expected == seen for expected, seen in wanted.values()]
    assert [each for each in ask(site, probes, quiet=True) if not each.agrees] == [], "and it was that fault"


def said(results):
    """What the intent and the wire say, by source."""
    return {each.probe.source: (each.expected.answer, each.observed.answer) for each in results}


@contextlib.contextmanager
def miscompiled(lab, site, node, policies):
    """A switch with the flows of other policies of the same names; yields whether it still has them."""
    keyed = {key_of(each): each for each in policies}
    changes = [
        (kind, (space, name), keyed["/".join((kind, space, name))])
        for kind, space, name in map(partial(str.split, sep="/"), keyed)
    ]
    tampered, _ = apply_all(site.translation, changes)
    good, bad = program_of(site, site.translation, node), program_of(site, tampered, node)
    path = Path(site.switches.rundirs[node], "br-int.mgmt")

    def held():
        flows = dump_flows(path, cookie=good.owner << OWNER_SHIFT, cookie_mask=OWNER_MASK)
        return {installed_key_bytes(each.table, each.priority, each.match): each.cookie for each in flows}

    try:
        bring(lab, node, path, against(bad, held()))
        yield lambda: not against(bad, held())
    finally:
        bring(lab, node, path, against(good, held()))


def bring(lab, node, path, changes):
    """Make changes on a switch behind its agent's back, in force also for what the switch has cached."""
    hello = bytes((OPENFLOW_15, 0, 0, 8, 0, 0, 0, 1))
    messages = [flow_mod(each) for each in changes.add] + [pack_delete(*rule) for rule in changes.delete]
    with connect(path) as stream:
        stream.sendall(hello + b"".join(messages) + pack_barrier(7))
        with stream.makefile("rb") as answers:
            while (header := answers.read(8))[1] != 21:  # the answer to the barrier
                rest = answers.read(int.from_bytes(header[2:4], "big") - 8)
                assert header[1] != 1, rest.hex()
    done = lab.exec_node(node, "ovs-appctl", "revalidator/wait")
    assert done.returncode == 0, done.stderr


# -- previews -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def talking(site, source, destination):
    """A live connection; yields what is answered to a line (nothing: silence)."""
    address = str(site.endpoints[destination].address(4))
    with run_in(site.endpoints[source].netns, lambda: socket.create_connection((address, 80), 5)) as sock:
        sock.settimeout(1.0)

        def says():
            sock.sendall(b"who\n")
            try:
                return sock.recv(100).decode().strip()
            except TimeoutError:
                return ""

        yield says


def test_a_preview_that_cuts_one_connection_comes_true_to_the_flow(stage, take, verify, tmp_path):
    site = take()
    path = tmp_path / "p.yaml"
    cut = policy("cut", podSelector=TO_A, ingress=[FROM_B])
    path.write_text(json.dumps(cut))
    asking = ("--policy", path, "--pod", A, "--pod", B, "--pod", Y, "--protocol", "tcp", "--port", 80)
    forget(site, PREFIX)  # what the probes of other tests began
    with talking(site, Y, A) as forbidden, talking(site, B, A) as allowed:
        assert (forbidden(), allowed()) == ("a", "a")
        code, out, _ = verify(*asking, "-o", "json")
        foreseen = json.loads(out)
        assert code == 0
        assert (forbidden(), allowed()) == ("a", "a"), "nothing is done unless it is asked for"
        (connection,) = foreseen["connections"]
        assert (connection["port"], connection["ends"]) == (A, True)
        assert connection["connection"].startswith(f"tcp {site.endpoints[Y].address(4)}:")
        assert {(each["source"], each["after"]["answer"]) for each in foreseen["verdicts"]} == {(Y, "no")} | (
            {(B, "yes")} if any(each["source"] == B for each in foreseen["verdicts"]) else set()
        )
        assert sum(each["added"] for each in foreseen["flows"]) > 0

        stage.policies[key_of(cut)] = cut  # whatever becomes of it, it goes
        code, out, err = verify(*asking, "--apply")
        assert (code, "applied: exactly this happened" in out) == (0, True), out + err
        assert "connections: 1 of " in out
        assert (forbidden(), allowed()) == ("", "a")

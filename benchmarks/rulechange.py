"""Compile and diff of one change of the firewall, as the world grows: time, flow messages, and what a member costs.

Time is that of the processor, for there is one thread, and others use the machine.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from benchmarks.figures import Figure
from benchmarks.flowcount import MANY, compiled, crowd
from benchmarks.policies import app, cluster_policy, mixed, network_policy, team, wide
from benchmarks.world import TEAMS, Change, attachments, namespace, pod, translated
from ncp.translate.intent import Translation, apply_all
from sdn.pipeline.registers import OWN, PEER
from sdn.pipeline.tables import is_firewall
from sdn.program import Changes, Program, update

WORLDS = ((20, 25, 50), (40, 50, 200), (80, 50, 400), (200, 50, 1_000))
TIMES = 15
SPACE = 20  # namespace of the crowd, in the smallest world


class Step(NamedTuple):
    """A change, another each turn; ``identity`` if it is of a pod that gets an identity nobody has."""

    what: str
    change: Callable[[int], Change]
    identity: bool = False


STEPS = (
    Step("policy added", lambda turn: _policy(80 + turn, "more")),
    Step("policy changed", lambda turn: _policy(81 + turn, "standing")),
    Step("policy for all pods added", lambda turn: cluster_policy(900 + 3 * turn)),
    Step("pod relabelled", lambda turn: pod(3, turn, "node1", labels={"colour": "new"}), identity=True),
    Step("namespace relabelled", lambda turn: namespace(TEAMS * (turn % 4), team=1)),
)
JOINING = Step(
    f"pod joins a group of {MANY:,}",
    lambda turn: pod(SPACE, 2 * MANY + turn, "node1", unlike=True, labels={"app": "a1"}),
    identity=True,
)
LEAVING = Step(f"pod leaves a group of {MANY:,}", lambda turn: ("Pod", (f"ns{SPACE}", f"p{MANY + turn}"), None))


def _policy(port: int, name: str) -> Change:
    peers = [{"namespaceSelector": team(2), "podSelector": app(1)}]
    ports = [{"port": port}, {"port": 8080}]
    return network_policy(name, 3, {"podSelector": app(0), "ingress": [{"from": peers, "ports": ports}]})


def run() -> list[Figure]:
    """Each change at every size, against a full compile of the same world, and against its cost in the smallest."""
    gc.set_threshold(100_000, 20, 50)  # as the node agent runs
    found: list[Figure] = []
    medians: dict[str, list[float]] = {}
    for namespaces, pods, policies in WORLDS:
        state = apply_all(translated(namespaces, pods), [*mixed(namespaces, policies), _policy(80, "standing")])[0]
        found += _of_world(state, f"{namespaces} x {pods}, {policies:,} policies", STEPS, medians)
    found += [
        Figure(f"{what}: largest world against smallest", taken[-1] / taken[0], "x", "at most 2")
        for what, taken in medians.items()
    ]
    state = apply_all(translated(20, 25), [*mixed(20, 50), *crowd(space=SPACE), wide(SPACE)])[0]
    return [
        *found,
        *_of_world(state, f"20 x 25, 50 policies, and {MANY:,} x {MANY:,} unlike pods", [JOINING, LEAVING], medians),
    ]


def _of_world(
    state: Translation, name: str, steps: Iterable[Step], medians: dict[str, list[float]]
) -> Iterator[Figure]:
    programs: list[Program] = []
    gc.collect()
    gc.freeze()
    started = time.process_time()
    programs.append(compiled(state))
    full = time.process_time() - started
    yield Figure(f"{name}: full compile of {len(programs[0]):,} flows", full, "s", "under 10")
    for step in steps:
        taken, changes, program, key = _measure(state, programs[0], step)
        medians.setdefault(step.what, []).append(taken)
        rules = sum(is_firewall(table) for table in _tables(changes))
        messages = f"{len(changes.add) + len(changes.delete)} messages, {rules} for the firewall"
        yield Figure(f"  {step.what}: {messages}", taken * 1e3, "ms", "under 10")
        yield Figure("    against the full compile", 1e6 * taken / full, "millionths")
        if step.identity:
            beside = rules - _naming(program, f"{key[0]}/{key[1]}")
            yield Figure("    messages for the firewall beside one for each flow that names the pod", beside, "")
    gc.unfreeze()


def _measure(state: Translation, program: Program, step: Step) -> tuple[float, Changes, Program, tuple[str, str]]:
    """Median seconds of translating, compiling and comparing; of the last: what was sent, the program then, and its object."""
    taken = []
    for turn in range(TIMES):
        change = step.change(turn)
        attached = attachments(apply_all(state, [change])[0])
        started = time.process_time()
        changed, delta = apply_all(state, [change])
        then, changes = update(program, changed.intent, attached, delta)
        taken.append(time.process_time() - started)
        assert changes
    return statistics.median(taken), changes, then, change[1]


def _tables(changes: Changes) -> Iterator[int]:
    yield from (entry.flow.table for entry in changes.add)
    yield from (table for table, _, _ in changes.delete)


def _naming(program: Program, pod: str) -> int:
    """Flows of the firewall that name the identity of a pod."""
    number = program.rules.membership.number(program.rules.membership.ports[pod][0])
    assert number is not None
    names = {OWN.match(number), PEER.match(number)}
    return sum(is_firewall(entry.flow.table) and not names.isdisjoint(entry.flow.match) for entry in program.entries())

"""How many flows a node holds with policies, in worlds of some sizes, and for one policy of many pods with many others."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.policies import mixed, wide
from benchmarks.world import FABRIC, Change, attachments, namespace, node, pod, translated
from ncp.translate.intent import Translation, apply_all, start
from sdn.pipeline.tables import is_firewall
from sdn.program import Program, build

WORLDS = ((20, 25, 50, "under 6,000"), (40, 50, 200, "under 20,000"), (80, 50, 400, "under 40,000"))
NODES = 4
MANY = 1_000


def run() -> list[Figure]:
    """Flows of one node: that holds every port, and one of some; with one address family and both."""
    return [*_worlds(), *_wide()]


def _worlds() -> Iterator[Figure]:
    for namespaces, pods, policies, budget in WORLDS:
        for dual in (False, True):
            for nodes in (1, NODES):
                state = translated(namespaces, pods, nodes=nodes, dual=dual)
                state, _ = apply_all(state, mixed(namespaces, policies, dual=dual))
                program = compiled(state)
                where = "dual stack" if dual else "IPv4", "every port here" if nodes == 1 else f"one of {nodes} nodes"
                name = f"{namespaces} x {pods}, {policies} policies, {', '.join(where)}"
                held = budget if nodes == 1 and not dual else ""
                yield Figure(name, len(program), "flows", held)
                yield Figure("  of them the firewall's", firewall_flows(program), "flows")


def _wide() -> Iterator[Figure]:
    """One policy: 1,000 pods are open to 1,000 others on three ports."""
    for nodes in (1, 10):
        for unlike in (False, True):
            without, _ = apply_all(start(FABRIC), crowd(nodes=nodes, unlike=unlike))
            state, _ = apply_all(without, [wide()])
            more = len(compiled(state)) - len(compiled(without))
            labels = "labels all unlike" if unlike else "two deployments"
            where = "one node" if nodes == 1 else f"one of {nodes} nodes"
            name = f"{MANY:,} x {MANY:,} x 3 ports, {labels}, {where}: flows of it"
            yield Figure(name, more, "flows", "about 2,000")


def crowd(*, nodes: int = 1, unlike: bool = True, space: int = 0) -> Iterator[Change]:
    """A namespace with two apps of 1,000 pods each, spread over nodes."""
    yield from (node(number + 1) for number in range(nodes))
    yield namespace(space)
    for number in range(2 * MANY):
        yield pod(space, number, f"node{number % nodes + 1}", replicas=MANY, unlike=unlike)


def compiled(state: Translation) -> Program:
    """The program of the first node.

    Raises:
        RuntimeError: something could not be translated or compiled, so the figure would be of something else.
    """
    program = build(state.intent, "node1", 7, attachments(state))
    if problems := [*state.all_problems(), *program.all_problems()]:
        raise RuntimeError(f"the world has {len(problems)} problems, such as: {problems[0].reason}")
    return program


def firewall_flows(program: Program) -> int:
    """Flows in the tables of the firewall."""
    return sum(is_firewall(entry.flow.table) for entry in program.entries())

"""A whole truth table, on the wire and three ways: nine pods in three namespaces on three nodes, three protocols, two ports."""

from __future__ import annotations

import statistics

from benchmarks.figures import Figure, timed
from benchmarks.lab import lab
from ncp.probe import run as asking
from ncp.probe.run import Traces
from ncp.probe.site import matrix
from ncp.probe.wire import observe
from ncp.verify.cluster import Cluster
from ncp.verify.ground import NAMES, PORTS, SPACES
from ncp.verify.suite import Stage, Wish

TIMES = 5
PROTOCOLS = ("tcp", "udp", "sctp")


def run() -> list[Figure]:
    """The same table with and without traces, in a lab of three nodes."""
    found: list[Figure] = []
    with lab(nodes=3) as bench, Cluster(str(bench.state / "kubeconfig"), bench.state) as cluster:
        stage = Stage(cluster, Wish())
        stage.build()
        site = cluster.look()
        for families in ((4,), (4, 6)):
            pods = [f"{stage.wish.prefix}{space}/{pod}" for space in SPACES for pod in NAMES]
            probes = matrix(site, pods, families, PROTOCOLS, PORTS)
            said = f"{len(probes)} probes, IPv{' and IPv'.join(map(str, families))}"
            wire = [timed(lambda p=probes: observe(site.endpoints, p)) for _ in range(TIMES)]
            found.append(
                Figure(f"{said}: on the wire, median", statistics.median(wire), "s", "under 3" * (len(families) == 1))
            )
            traces: tuple[Traces, ...] = ("sample", "all")
            for trace in traces:
                taken = [timed(lambda p=probes, t=trace: _agreed(site, p, t)) for _ in range(TIMES)]
                found.append(
                    Figure(f"    and compared with intent and flows ({trace} traced)", statistics.median(taken), "s")
                )
    return found


def _agreed(site, probes, trace) -> None:
    wrong = [each for each in asking.ask(site, probes, quiet=True, trace=trace) if not each.agrees]
    if wrong:
        raise RuntimeError(f"{len(wrong)} probes disagree, the first: {wrong[0].probe}")

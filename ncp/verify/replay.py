"""Asking a case again: its namespaces, pods and policies are made under names of their own, and removed afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from ipam.address import Address
from ncp.kube.resources import NAMESPACES, PODS
from ncp.probe import run
from ncp.probe.model import NODE, Probe, Result, Verdict
from ncp.probe.site import Site
from ncp.verify.casefile import CaseFile, CasePod, write
from ncp.verify.cluster import Cluster, namespaces_gone
from ncp.verify.errors import VerifyError
from ncp.verify.ground import REACHABLE
from ncp.verify.minimise import pod_of, said
from ncp.verify.moving import CASE_LABEL, Moves, moved, stand_ins
from ncp.verify.policies import key_of, parse_key

Json = dict[str, Any]


class Replayed(NamedTuple):
    """A case asked again. ``wanted`` is what its file expects."""

    file: str
    wanted: Verdict
    result: Result

    @property
    def is_good(self) -> bool:
        """Whether all three say what the file expects."""
        return self.result.agrees and self.result.expected.answer == self.wanted.answer


def replay(cluster: Cluster, case: CaseFile, file: str) -> Replayed:
    """Ask a case on a cluster.

    Raises:
        VerifyError: the case cannot be made here.
        NotRealised, ApiError, AppctlError: the cluster does not do as it should.
    """
    suffix = hashlib.blake2b(write(case).encode(), digest_size=3).hexdigest()
    with _staged(cluster, case, suffix) as (site, probe):
        (result,) = run.ask(site, [probe], quiet=True)
    return Replayed(file, case.verdicts["expected"], result)


@contextmanager
def _staged(cluster: Cluster, case: CaseFile, suffix: str) -> Iterator[tuple[Site, Probe]]:
    """The case on the cluster, as long as the block lasts."""
    spaces = stand_ins(case.namespaces, suffix)
    made: list[Json] = []
    try:
        for name, labels in case.namespaces.items():
            meta = {"name": spaces[name], "labels": {**labels, CASE_LABEL: suffix}, "annotations": REACHABLE}
            cluster.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        moves = Moves(suffix, spaces, _nodes(cluster.site, case), {})
        for pod in case.pods:
            cluster.create(PODS, _pod(pod, moves))
        cluster.await_pods(moves.name(pod.name) for pod in case.pods)
        site = cluster.await_flows()
        here = moved(case, replace(moves, addresses=_addresses(site, case, moves)))
        _hold(case, here)
        for policy in here.policies:
            made.append(cluster.apply(policy))
        site = cluster.look()
        for obj in made:
            cluster.await_policy(obj, site)
        yield cluster.await_flows(site), here.probe
    finally:
        for obj in made:
            cluster.remove(*parse_key(key_of(obj)))
        namespaces_gone(cluster, spaces.values())


def _hold(case: CaseFile, here: CaseFile) -> None:
    """Raise where the case does not mean under its new names what it meant."""
    wanted, found = case.verdicts["expected"].answer, said(here).answer
    if found != wanted:
        raise VerifyError(f"{case.probe} cannot be asked here: its file expects {wanted}, here it would be {found}")


def _nodes(site: Site, case: CaseFile) -> dict[str, str]:
    """The case's nodes, played by nodes of the same name where there are such, else by others, by turns."""
    there = sorted(site.agents)
    if not there:
        raise VerifyError("no node agent is on this host, so nothing can be sent or traced here")
    wanted = [pod.node for pod in case.pods] + [end.removeprefix(NODE) for end in case.ends() if end.startswith(NODE)]
    found: dict[str, str] = {}
    for node in dict.fromkeys(wanted):
        free = [each for each in there if each not in found.values()] or there
        found[node] = node if node in there else free[0]
    return found


def _addresses(site: Site, case: CaseFile, moves: Moves) -> dict[str, tuple[Address, ...]]:
    names = [*(pod.name for pod in case.pods), *case.hosts]
    ends = {name: site.endpoints.get(moves.name(name)) for name in names}
    for name in case.ends():
        if ends.get(name) is None:
            raise VerifyError(f"{case.probe} cannot be asked here: there is no {moves.name(name)}")
    return {name: end.addresses for name, end in ends.items() if end is not None}


def _pod(pod: CasePod, moves: Moves) -> Json:
    found = pod_of(pod)
    namespace, _ = moves.name(pod.name).split("/")
    found["metadata"]["namespace"] = namespace
    found["spec"] |= {"nodeName": moves.nodes[pod.node], "terminationGracePeriodSeconds": 0}
    return found

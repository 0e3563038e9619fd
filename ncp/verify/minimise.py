"""From a disagreement in a whole cluster to the case that is left when everything is taken away that has no part in it. Pure.

What stays is judged by the oracle alone: a policy goes if without it the expectation and its reasons stay what they are, unless
it is the one that the flows named, or that by itself would say what wire or flows said against the intent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from firewall import baseline
from firewall.order import PRIORITIES, Priorities
from firewall.rules import PROTOCOLS
from firewall.verdict import Connection, Workload, judge, world
from ipam.address import Address, parse_address
from ncp.probe.model import Verdict, arrives
from ncp.translate.objects import identity, namespace_labels
from ncp.verify.casefile import CaseFile, CasePod
from ncp.verify.policies import section_of

Json = dict[str, Any]


def said(case: CaseFile) -> Verdict:
    """What the oracle says of a case's probe, given what is in the case and nothing else."""
    probe = case.probe
    if probe.protocol == "neighbour":
        return case.verdicts["expected"]  # no policy is asked
    here, there = (_address(case, end, probe.family) for end in case.ends())
    if here is None or there is None:
        return Verdict("no", f"one end has no IPv{probe.family} address")
    sections = [section_of(each) for each in case.policies]
    if kind := case.settings.get("baseline_policy_type"):
        sections += [baseline.section(kind, name) for name in case.namespaces]
    labels = {
        name: namespace_labels({"metadata": {"name": name, "labels": dict(each)}})
        for name, each in case.namespaces.items()
    }
    nodes = {
        name.partition(":")[2]: tuple(parse_address(each) for each in found)
        for name, found in case.hosts.items()
        if ":" in name
    }
    where = world(sections, map(_workload, case.pods), labels, nodes=nodes, priorities=_priorities(case))
    protocol = next((each for each in PROTOCOLS if each == probe.protocol), None)
    judged = judge(where, Connection(here, there, protocol, probe.port))
    causes = tuple(cause.brief for cause in judged.causes)
    if not judged.allowed:
        return Verdict("rejected" if judged.action == "reject" else "no", judged.why, causes)
    return Verdict("yes" if _listens(case) else "refused", judged.why, causes)


def minimal(case: CaseFile) -> CaseFile:
    """The case with what it needs."""
    ends = case.ends()
    pods = tuple(pod for pod in case.pods if pod.name in ends)
    nodes = {f"node:{pod.node}" for pod in pods}
    case = case.replace(
        pods=pods,
        hosts={name: found for name, found in case.hosts.items() if name in ends or name in nodes},
    )
    whole = said(case)
    for policy in case.policies:
        left = case.replace(policies=tuple(each for each in case.policies if each is not policy))
        now = said(left)
        if (now.answer, now.causes) == (whole.answer, whole.causes) and not _bears(case, policy, whole):
            case = left
    spaces = {pod.name.split("/")[0] for pod in pods} | {each["metadata"].get("namespace") for each in case.policies}
    return case.replace(namespaces={name: labels for name, labels in case.namespaces.items() if name in spaces})


def _bears(case: CaseFile, policy: Json, whole: Verdict) -> bool:
    """Whether a policy may be why somebody contradicts the intent."""
    source = str(section_of(policy).source)
    if any(cause.startswith(f"{source} ") for cause in case.verdicts["traced"].causes):
        return True
    alone = said(case.replace(policies=(policy,)))
    if not alone.causes or arrives(alone.answer) is arrives(whole.answer):
        return False
    against = (case.verdicts[who].answer for who in ("traced", "observed"))
    return any(answer != "unknown" and arrives(answer) is arrives(alone.answer) for answer in against)


def pod_of(pod: CasePod) -> Json:
    """The pod as an object, with what policies may ask about."""
    namespace, name = pod.name.split("/")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(pod.labels)},
        "spec": {"containers": [{"name": "main", "image": "lab/responder", "ports": list(pod.ports)}]},
    }


def _workload(pod: CasePod) -> Workload:
    addresses = tuple(parse_address(each) for each in pod.addresses)
    return Workload(pod.name, identity(pod_of(pod)), addresses, pod.node)


def _address(case: CaseFile, name: str, family: int) -> Address | None:
    found: Iterable[str] = next((pod.addresses for pod in case.pods if pod.name == name), case.hosts.get(name, ()))
    return next((each for each in map(parse_address, found) if each.family == family), None)


def _priorities(case: CaseFile) -> Priorities:
    return Priorities(*(case.settings.get(name, default) for name, default in PRIORITIES._asdict().items()))


def _listens(case: CaseFile) -> bool:
    if case.probe.protocol == "icmp":
        return True
    return any(
        (str(port.get("protocol") or "TCP").lower(), port["containerPort"]) == (case.probe.protocol, case.probe.port)
        for pod in case.pods
        if pod.name == case.probe.destination
        for port in pod.ports
    )

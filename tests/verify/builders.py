"""A case, its policies and verdicts in their shortest form."""

from __future__ import annotations

from ncp.probe.model import Probe, Result, Verdict
from ncp.verify.casefile import CaseFile, CasePod

WEB = ({"containerPort": 80}, {"containerPort": 81, "protocol": "UDP"}, {"containerPort": 80, "name": "web"})
NAMED = {"expected": "no", "traced": "yes", "observed": "yes"}


def network_policy(name, space="x", **spec):
    meta = {"name": name, "namespace": space}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def cluster_policy(name, **spec):
    spec = {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}} | spec
    meta = {"name": name}
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": meta,
        "spec": spec,
    }


def security_policy(name, space="x", **spec):
    meta = {"name": name, "namespace": space}
    return {"apiVersion": "crd.nsx.vmware.com/v1alpha1", "kind": "SecurityPolicy", "metadata": meta, "spec": spec}


def case_pod(name, labels, address, node="node1", ports=WEB):
    return CasePod(name, labels, ports, node, (f"10.4.{address}", f"fd00:10:4::{address.replace('.', ':')}"))


DENY = network_policy("deny", podSelector={})
PODS = (
    case_pod("x/a", {"pod": "a"}, "0.2"),
    case_pod("y/b", {"pod": "b"}, "1.3", "node2"),
    case_pod("z/c", {"pod": "c"}, "2.4", "node3"),
)
SPACES = {"x": {"team": "red"}, "y": {"team": "blue"}, "z": {}}


def case(*policies, probe=None, verdicts=None, **more):
    """y/b asks x/a; nobody but the intent turns it away, unless other verdicts are given."""
    given = verdicts or {who: Verdict(answer) for who, answer in NAMED.items()}
    fields = {"pods": PODS, "namespaces": SPACES, "hosts": {"node:node1": ("192.168.50.11",)}} | more
    return CaseFile(
        probe=probe or Probe("y/b", "x/a", 4, "tcp", 80),
        verdicts=given,
        policies=policies or (DENY,),
        **fields,
    )


def result(expected="yes", traced="", observed="", why="", causes=(), probe=None):
    """Three answers, all as expected unless others are given."""
    said = Verdict(expected, why, causes)
    return Result(
        probe or Probe("y/b", "x/a", 4, "tcp", 80),
        said,
        Verdict(traced or expected, "", causes),
        Verdict(observed or expected),
    )

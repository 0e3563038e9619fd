"""A disagreement as a file that can be asked again anywhere: the probe, the three answers, and what they depend on. Pure.

``pods``, ``namespaces`` and ``policies`` are what the answer follows from and nothing else; ``settings`` are those of the cluster
that have a part in it. Addresses are where pods and nodes had theirs: an ``ipBlock`` is about them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import yaml

from ncp.probe.model import Probe, Verdict

Json = dict[str, Any]
KIND: Final = "VerifyCase"
VERSION: Final = 1
WHO: Final = ("expected", "traced", "observed")


@dataclass(frozen=True, slots=True)
class CasePod:
    """A pod as policies and probes see it. ``ports`` are its container ports as in a pod's spec."""

    name: str  # "namespace/pod"
    labels: Mapping[str, str]
    ports: tuple[Json, ...]
    node: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaseFile:
    """One disagreement. ``also`` are other probes of the same table that were answered in the same way."""

    probe: Probe
    verdicts: Mapping[str, Verdict]  # by WHO
    namespaces: Mapping[str, Mapping[str, str]]  # labels by name
    pods: tuple[CasePod, ...]
    policies: tuple[Json, ...]
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # addresses of nodes and the external host
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    def replace(self, **changes: Any) -> CaseFile:
        """A copy with the given fields replaced."""
        return replace(self, **changes)

    def ends(self) -> tuple[str, str]:
        """The names of the probe's source and destination."""
        return self.probe.source, self.probe.destination


def write(case: CaseFile) -> str:
    """The file's text."""
    body: Json = {
        "kind": KIND,
        "version": VERSION,
        "probe": {name: value for name, value in case.probe._asdict().items() if name != "port" or value},
        "verdicts": {
            who: {name: _listed(value) for name, value in case.verdicts[who]._asdict().items() if value} for who in WHO
        },
        "namespaces": {name: dict(labels) for name, labels in case.namespaces.items()},
        "pods": [
            {
                "name": pod.name,
                "labels": dict(pod.labels),
                "node": pod.node,
                "addresses": list(pod.addresses),
                "ports": list(pod.ports),
            }
            for pod in case.pods
        ],
        "hosts": {name: list(addresses) for name, addresses in case.hosts.items()},
        "policies": list(case.policies),
        "settings": dict(case.settings),
        "versions": dict(case.versions),
    }
    if case.also:
        body["also"] = list(case.also)
    text: str = yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return f"# {case.probe}\n# `ncp verify replay FILE` asks again.\n{text}"


class _Dumper(yaml.SafeDumper):
    """Writes equal values out in full: a reader should not have to look elsewhere."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


# kubectl reads YAML 1.1, where these are booleans: they have to be quoted.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("[yYnN]$"), list("yYnN"))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

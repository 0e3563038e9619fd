"""A disagreement as a file that can be asked again anywhere: the probe, the three answers, and what they depend on. Pure.

``pods``, ``namespaces`` and ``policies`` are what the answer follows from and nothing else; ``settings`` are those of the cluster
that have a part in it. Addresses are where pods and nodes had theirs: an ``ipBlock`` is about them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import yaml

from ncp.probe.model import PROTOCOLS, Probe, Verdict
from ncp.verify.errors import Refused
from ncp.verify.policies import RESOURCES

Json = dict[str, Any]
KIND: Final = "VerifyCase"
VERSION: Final = 1
WHO: Final = ("expected", "traced", "observed")
ANSWERS: Final = ("yes", "no", "refused", "rejected", "unknown")


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


# -- reading --------------------------------------------------------------------------------------------------------


def read(text: str, name: str) -> CaseFile:
    """The case in a file's text; ``name`` is the file's, for errors.

    Raises:
        Refused: it is none; the message names the field, its value and what is allowed.
    """
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Refused(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    look = _Reader(name)
    top = look.mapping(body, "the file")
    look.one_of(top.get("kind"), (KIND,), "kind")
    look.one_of(top.get("version"), (VERSION,), "version")
    verdicts = look.mapping(top.get("verdicts"), "verdicts")
    namespaces = look.mapping(top.get("namespaces"), "namespaces")
    hosts = look.mapping(top.get("hosts"), "hosts")
    return CaseFile(
        probe=_probe(look, top.get("probe")),
        verdicts={who: _verdict(look, verdicts.get(who), f"verdicts.{who}") for who in WHO},
        namespaces={each: look.labels(labels, f"namespaces.{each}") for each, labels in namespaces.items()},
        pods=tuple(_pod(look, each, f"pods[{n}]") for n, each in enumerate(look.listed(top.get("pods"), "pods"))),
        policies=tuple(
            _policy(look, each, f"policies[{n}]") for n, each in enumerate(look.listed(top.get("policies"), "policies"))
        ),
        hosts={each: look.texts(found, f"hosts.{each}") for each, found in hosts.items()},
        settings=look.mapping(top.get("settings"), "settings"),
        versions=look.labels(top.get("versions"), "versions"),
        also=look.texts(top.get("also"), "also"),
    )


class _Reader:
    """Checks values of one file."""

    def __init__(self, name: str) -> None:
        self._name = name

    def refuse(self, where: str, value: Any, allowed: str) -> Refused:
        """The error for a value."""
        return Refused(f"{self._name}: {where}: {value!r}; allowed: {allowed}")

    def mapping(self, value: Any, where: str) -> Json:
        """A mapping with text for its keys; nothing is an empty one."""
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.refuse(where, value, "a mapping")
        return value

    def listed(self, value: Any, where: str) -> Sequence[Any]:
        """A list; nothing is an empty one."""
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.refuse(where, value, "a list")
        return value

    def one_of(self, value: Any, allowed: Sequence[Any], where: str) -> Any:
        """One of some values."""
        if isinstance(value, bool) or value not in allowed:
            raise self.refuse(where, value, ", ".join(map(str, allowed)))
        return value

    def text(self, value: Any, where: str) -> str:
        """Text that is not empty."""
        if not isinstance(value, str) or not value:
            raise self.refuse(where, value, "text")
        return value

    def texts(self, value: Any, where: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(self.text(each, f"{where}[{n}]") for n, each in enumerate(self.listed(value, where)))

    def labels(self, value: Any, where: str) -> dict[str, str]:
        """A mapping of texts."""
        found = self.mapping(value, where)
        for key, each in found.items():
            if not isinstance(each, str):
                raise self.refuse(f"{where}.{key}", each, "text")
        return found


def _probe(look: _Reader, value: Any) -> Probe:
    body = look.mapping(value, "probe")
    port = body.get("port", 0)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise look.refuse("probe.port", port, "a whole number from 0 to 65535")
    ends = (look.text(body.get(end), f"probe.{end}") for end in ("source", "destination"))
    family = look.one_of(body.get("family"), (4, 6), "probe.family")
    return Probe(*ends, family, look.one_of(body.get("protocol"), PROTOCOLS, "probe.protocol"), port)


def _verdict(look: _Reader, value: Any, where: str) -> Verdict:
    body = look.mapping(value, where)
    answer = look.one_of(body.get("answer"), ANSWERS, f"{where}.answer")
    causes, stages = (look.texts(body.get(each), f"{where}.{each}") for each in ("causes", "stages"))
    return Verdict(answer, str(body.get("why", "")), causes, stages)


def _pod(look: _Reader, value: Any, where: str) -> CasePod:
    body = look.mapping(value, where)
    name = look.text(body.get("name"), f"{where}.name")
    if name.count("/") != 1:
        raise look.refuse(f"{where}.name", name, "NAMESPACE/POD")
    ports = tuple(
        look.mapping(each, f"{where}.ports[{n}]") for n, each in enumerate(look.listed(body.get("ports"), f"{where}.ports"))
    )  # fmt: skip
    for number, each in enumerate(ports):
        if isinstance(each.get("containerPort"), bool) or not isinstance(each.get("containerPort"), int):
            raise look.refuse(f"{where}.ports[{number}].containerPort", each.get("containerPort"), "a whole number")
    labels = look.labels(body.get("labels"), f"{where}.labels")
    addresses = look.texts(body.get("addresses"), f"{where}.addresses")
    return CasePod(name, labels, ports, str(body.get("node") or ""), addresses)


def _policy(look: _Reader, value: Any, where: str) -> Json:
    body = look.mapping(value, where)
    look.one_of(body.get("kind"), tuple(RESOURCES), f"{where}.kind")
    meta = look.mapping(body.get("metadata"), f"{where}.metadata")
    look.text(meta.get("name"), f"{where}.metadata.name")
    return body

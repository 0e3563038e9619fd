"""Reading case files. Whatever a file says of pods, policies and settings is checked here, so that nothing after it can stumble,
and a replay touches no namespace but those the file names. Pure."""

from __future__ import annotations

import reprlib
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Final, get_args

import yaml

from firewall.baseline import BaselineType
from firewall.order import PRIORITIES
from ipam.address import parse_address
from ncp.probe.model import PROTOCOLS, Answer, Probe, Verdict, is_host
from ncp.verify.casefile import KIND, VERSION, WHO, CaseFile, CasePod
from ncp.verify.errors import Refused
from ncp.verify.ground import PROTOCOLS as CONTAINER_PROTOCOLS
from ncp.verify.policies import RESOURCES

Json = dict[str, Any]
ANSWERS: Final = get_args(Answer)
BASELINES: Final = get_args(BaselineType)
_BASELINE: Final = "baseline_policy_type"


def read(text: str, name: str) -> CaseFile:
    """The case in a file's text; ``name`` is the file's, for errors.

    Raises:
        Refused: it is none; the message names the field, its value and what is allowed.
    """
    look = _Reader(name)
    top = look.mapping(parse(text, name), "the file")
    look.one_of(top.get("kind"), (KIND,), "kind")
    look.one_of(top.get("version"), (VERSION,), "version")
    verdicts = look.mapping(top.get("verdicts"), "verdicts")
    namespaces = {
        each: look.labels(labels, f"namespaces.{each}")
        for each, labels in look.mapping(top.get("namespaces"), "namespaces").items()
    }
    hosts = {
        each: look.addresses(found, f"hosts.{each}") for each, found in look.mapping(top.get("hosts"), "hosts").items()
    }
    pods = _pods(look, top.get("pods"), namespaces)
    policies = look.listed(top.get("policies"), "policies")
    return CaseFile(
        probe=_probe(look, top.get("probe"), [*filter(is_host, hosts), *(pod.name for pod in pods)]),
        verdicts={who: _verdict(look, verdicts.get(who), f"verdicts.{who}") for who in WHO},
        namespaces=namespaces,
        pods=pods,
        policies=tuple(_policy(look, each, f"policies[{n}]", namespaces) for n, each in enumerate(policies)),
        hosts=hosts,
        settings=_settings(look, top.get("settings")),
        versions=look.labels(top.get("versions"), "versions"),
        also=look.texts(top.get("also"), "also"),
    )


def parse(text: str, name: str) -> Any:
    """What a file's YAML says.

    Raises:
        Refused: it is none.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that no calendar has
        raise Refused(f"{name}: not YAML: {' '.join(str(error).split())}") from error


class _Reader:
    """Checks values of one file."""

    def __init__(self, name: str) -> None:
        self._name = name

    def refuse(self, where: str, value: Any, allowed: str) -> Refused:
        """The error for a value."""
        return Refused(f"{self._name}: {where}: {reprlib.repr(value)}; allowed: {allowed}")

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

    def one_of(self, value: Any, allowed: Iterable[Any], where: str) -> Any:
        """One of some values, and of their type: ``True`` and ``1.0`` are not 1."""
        found = list(allowed)
        if not any(value == each and type(value) is type(each) for each in found):
            raise self.refuse(where, value, ", ".join(map(str, found)))
        return value

    def whole(self, value: Any, where: str, low: int | None = None, high: int | None = None) -> int:
        """A whole number, within bounds where there are such."""
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or (low is not None and value < low) or (high is not None and value > high):
            bounds = "" if low is None else f" from {low} to {high}"
            raise self.refuse(where, value, f"a whole number{bounds}")
        return int(value)

    def text(self, value: Any, where: str, *, is_needed: bool = True) -> str:
        """Text; not empty where it is needed, and empty where there is nothing."""
        if value is None and not is_needed:
            return ""
        if not isinstance(value, str) or (is_needed and not value):
            raise self.refuse(where, value, "text")
        return value

    def texts(self, value: Any, where: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(self.text(each, f"{where}[{n}]") for n, each in enumerate(self.listed(value, where)))

    def addresses(self, value: Any, where: str) -> tuple[str, ...]:
        """A list of addresses."""
        found = self.texts(value, where)
        for number, each in enumerate(found):
            try:
                parse_address(each)
            except ValueError as error:
                raise self.refuse(f"{where}[{number}]", each, "an IPv4 or IPv6 address") from error
        return found

    def labels(self, value: Any, where: str) -> dict[str, str]:
        """A mapping of texts."""
        found = self.mapping(value, where)
        for key, each in found.items():
            self.text(each, f"{where}.{key}", is_needed=False)
            if each is None:
                raise self.refuse(f"{where}.{key}", each, "text")
        return found


def _probe(look: _Reader, value: Any, there: Sequence[str]) -> Probe:
    body = look.mapping(value, "probe")
    ends = []
    for end in ("source", "destination"):
        name = look.text(body.get(end), f"probe.{end}")
        ends.append(look.one_of(name, sorted(there), f"probe.{end}"))
    port = look.whole(body.get("port", 0), "probe.port", 0, 65535)
    family = look.one_of(body.get("family"), (4, 6), "probe.family")
    return Probe(ends[0], ends[1], family, look.one_of(body.get("protocol"), PROTOCOLS, "probe.protocol"), port)


def _verdict(look: _Reader, value: Any, where: str) -> Verdict:
    body = look.mapping(value, where)
    answer = look.one_of(body.get("answer"), ANSWERS, f"{where}.answer")
    why = look.text(body.get("why"), f"{where}.why", is_needed=False)
    causes, stages = (look.texts(body.get(each), f"{where}.{each}") for each in ("causes", "stages"))
    return Verdict(answer, why, causes, stages)


def _pods(look: _Reader, value: Any, namespaces: Container[str]) -> tuple[CasePod, ...]:
    found: dict[str, CasePod] = {}
    for number, each in enumerate(look.listed(value, "pods")):
        pod = _pod(look, each, f"pods[{number}]", namespaces)
        if pod.name in found:
            raise look.refuse(f"pods[{number}].name", pod.name, "each name once")
        found[pod.name] = pod
    return tuple(found.values())


def _pod(look: _Reader, value: Any, where: str, namespaces: Any) -> CasePod:
    body = look.mapping(value, where)
    name = look.text(body.get("name"), f"{where}.name")
    namespace, *rest = name.split("/")
    if len(rest) != 1 or not rest[0]:
        raise look.refuse(f"{where}.name", name, "NAMESPACE/POD")
    if namespace not in namespaces:
        raise look.refuse(f"{where}.name", name, f"a name in one of the namespaces {', '.join(namespaces)}")
    ports = tuple(
        _port(look, each, f"{where}.ports[{n}]")
        for n, each in enumerate(look.listed(body.get("ports"), f"{where}.ports"))
    )
    labels = look.labels(body.get("labels"), f"{where}.labels")
    addresses = look.addresses(body.get("addresses"), f"{where}.addresses")
    return CasePod(name, labels, ports, look.text(body.get("node"), f"{where}.node", is_needed=False), addresses)


def _port(look: _Reader, value: Any, where: str) -> Json:
    body = look.mapping(value, where)
    look.whole(body.get("containerPort"), f"{where}.containerPort", 1, 65535)
    look.one_of(body.get("protocol", CONTAINER_PROTOCOLS[0]), CONTAINER_PROTOCOLS, f"{where}.protocol")
    return body


def _policy(look: _Reader, value: Any, where: str, namespaces: Mapping[str, Any]) -> Json:
    body = look.mapping(value, where)
    resource = RESOURCES[look.one_of(body.get("kind"), RESOURCES, f"{where}.kind")]
    look.one_of(body.get("apiVersion"), (resource.api_version,), f"{where}.apiVersion")
    meta = look.mapping(body.get("metadata"), f"{where}.metadata")
    look.text(meta.get("name"), f"{where}.metadata.name")
    if resource.namespaced:
        look.one_of(meta.get("namespace"), namespaces, f"{where}.metadata.namespace")
    elif meta.get("namespace"):
        raise look.refuse(f"{where}.metadata.namespace", meta["namespace"], "none, for it has no namespace")
    look.mapping(body.get("spec"), f"{where}.spec")
    return body


def _settings(look: _Reader, value: Any) -> Json:
    body = look.mapping(value, "settings")
    if body.get(_BASELINE) is not None:
        look.one_of(body[_BASELINE], BASELINES, f"settings.{_BASELINE}")
    for name in PRIORITIES._fields:
        if name in body:
            look.whole(body[name], f"settings.{name}")
    return body

"""A case under other names and addresses: everything in its policies that means its pods means the new ones. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from firewall.reading import cidr as read_cidr
from firewall.rules import Cidr, inside
from ipam.address import WIDTH, Address, Prefix, parse_address
from ncp.probe.model import NODE
from ncp.verify.casefile import CaseFile, CasePod

Json = dict[str, Any]
CASE_LABEL: Final = "ncp-verify-case"
"""Label of the namespaces a case is replayed in: policies of the whole cluster are narrowed to them."""
NAME_LABEL: Final = "kubernetes.io/metadata.name"
_NOWHERE: Final = {4: Prefix(4, 0xC6120000, 15), 6: Prefix(6, 0x20010002 << 96, 48)}
"""Networks for tests of devices, which no pod is in (RFC 2544, RFC 5180)."""


@dataclass(frozen=True, slots=True)
class Moves:
    """What becomes what. ``addresses`` are the new ones of pods (by their old names) and hosts."""

    suffix: str
    namespaces: Mapping[str, str]
    nodes: Mapping[str, str]
    addresses: Mapping[str, tuple[Address, ...]]

    def name(self, end: str) -> str:
        """A pod or host under its new name."""
        if end.startswith(NODE):
            node = end.removeprefix(NODE)
            return NODE + self.nodes.get(node, node)
        namespace, _, pod = end.partition("/")
        return f"{self.namespaces[namespace]}/{pod}" if namespace in self.namespaces else end


def stand_ins(names: Iterable[str], suffix: str) -> dict[str, str]:
    """Namespaces to make in place of others: names of at most 63 characters, each another."""
    found: dict[str, str] = {}
    for number, name in enumerate(names):
        new = f"{name[:48]}-case-{suffix}"
        found[name] = f"{new}-{number}" if new in found.values() else new
    return found


Pairs = Sequence[tuple[Address, Address]]
"""An end's address as it was, and as it is."""


def moved(case: CaseFile, moves: Moves) -> CaseFile:
    """The case after the moves; what it expects is the same."""
    probe = case.probe._replace(source=moves.name(case.probe.source), destination=moves.name(case.probe.destination))
    old = {pod.name: pod.addresses for pod in case.pods} | dict(case.hosts)
    pairs = [
        (was, now)
        for name, addresses in old.items()
        for was in map(parse_address, addresses)
        for now in moves.addresses.get(name, ())
        if now.family == was.family
    ]
    return case.replace(
        probe=probe,
        namespaces={
            moves.namespaces[name]: {**labels, CASE_LABEL: moves.suffix} for name, labels in case.namespaces.items()
        },
        pods=tuple(_pod(pod, moves) for pod in case.pods),
        hosts={
            moves.name(name): tuple(map(str, moves.addresses.get(name, map(parse_address, found))))
            for name, found in case.hosts.items()
        },
        policies=tuple(_policy(each, moves, pairs) for each in case.policies),
    )


def _pod(pod: CasePod, moves: Moves) -> CasePod:
    addresses = tuple(map(str, moves.addresses.get(pod.name, ()))) or pod.addresses
    return replace(pod, name=moves.name(pod.name), node=moves.nodes.get(pod.node, pod.node), addresses=addresses)


def _policy(obj: Json, moves: Moves, pairs: Pairs) -> Json:
    meta = dict(obj["metadata"])
    spec = _walk(obj.get("spec") or {}, moves, pairs)
    if meta.get("namespace"):
        meta["namespace"] = moves.namespaces.get(meta["namespace"], meta["namespace"])
    else:
        meta["name"] = f"{meta['name'][:200]}-case-{moves.suffix}"
        spec["subject"] = _narrowed(spec.get("subject") or {}, moves.suffix)
    return {**obj, "metadata": meta, "spec": spec}


def _narrowed(subject: Json, suffix: str) -> Json:
    """A cluster-wide subject, in the case's own namespaces only."""
    ours = {"key": CASE_LABEL, "operator": "In", "values": [suffix]}

    def within(selector: Json | None) -> Json:
        return {**(selector or {}), "matchExpressions": [*((selector or {}).get("matchExpressions") or ()), ours]}

    if subject.get("pods") is not None:
        return {"pods": {**subject["pods"], "namespaceSelector": within(subject["pods"].get("namespaceSelector"))}}
    return {"namespaces": within(subject.get("namespaces"))}


def _walk(value: Any, moves: Moves, pairs: Pairs) -> Any:
    if isinstance(value, list):
        return [new for each in value for new in _items(each, moves, pairs)]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, each in value.items():
        if key == "matchLabels" and isinstance(each, dict):
            found[key] = {k: moves.namespaces.get(v, v) if k == NAME_LABEL else v for k, v in each.items()}
        elif key == "networks" and isinstance(each, list):
            found[key] = [new for one in each for new, _ in move_block(read_cidr(one, key), (), pairs)]
        else:
            found[key] = _walk(each, moves, pairs)
    return found


def _items(value: Any, moves: Moves, pairs: Pairs) -> Iterable[Any]:
    """An item of a list as what it becomes: a block may become several."""
    if not isinstance(value, dict):
        return [value]
    if value.get("key") == NAME_LABEL:
        return [{**value, "values": [moves.namespaces.get(v, v) for v in value.get("values") or ()]}]
    if "cidr" in value:
        return _blocks(value, pairs)
    if isinstance(value.get("ipBlock"), dict):
        return [{**value, "ipBlock": block} for block in _blocks(value["ipBlock"], pairs)]
    return [_walk(value, moves, pairs)]


def _blocks(block: Json, pairs: Pairs) -> list[Json]:
    excepts = tuple(read_cidr(each, "except") for each in block.get("except") or ())
    return [
        {"cidr": outer, **({"except": list(inner)} if inner else {})}
        for outer, inner in move_block(read_cidr(block["cidr"], "cidr"), excepts, pairs)
    ]


def move_block(outer: Cidr, excepts: Sequence[Cidr], pairs: Pairs) -> list[tuple[str, tuple[str, ...]]]:
    """A prefix with its exceptions, moved so that it holds of the new addresses exactly those whose old ones it held."""
    ends = [pair for pair in pairs if pair[0].family == outer[0]]
    inner = [each for was, each in ends if inside(outer, was)]
    beside = [each for was, each in ends if not inside(outer, was)]
    found = _around(outer, inner, beside)
    left_out = [now for was, now in ends if any(inside(each, was) for each in excepts)]
    placed: list[tuple[str, tuple[str, ...]]] = []
    for prefix in found:
        if prefix.length == WIDTH[prefix.family] and any(inside(prefix, now) for now in left_out):
            continue  # one address, and that is an exception: there is no room for both
        kept = []
        for each in excepts:
            excepted = [now for was, now in ends if inside(each, was) and inside(prefix, now)]
            allowed = [now for was, now in ends if not inside(each, was)]
            length = max(each[2], prefix.length + 1)
            if excepted:
                kept += _around((each[0], each[1], length), excepted, allowed)
            elif each[2] > prefix.length and inside(prefix, each[:2]) and not any(inside(each, one) for one in allowed):
                kept.append(Prefix(*each))  # type: ignore[arg-type]
        placed.append((str(prefix), tuple(map(str, kept))))
    return placed or [(str(_NOWHERE[outer[0]]), ())]


def _around(held: Cidr, inner: Sequence[Address], beside: Sequence[Address]) -> list[Prefix]:
    """The prefix itself, or else those of at least its length, that hold the ones and not the others."""
    if all(inside(held, each) for each in inner) and not any(inside(held, each) for each in beside):
        return [Prefix(*held)]  # type: ignore[arg-type]
    if not inner:
        return [_NOWHERE[held[0]]]
    found = []
    for each in inner:
        length = held[2]
        while any(inside(_of(each, length), other) for other in beside if other != each):
            length += 1
        found.append(_of(each, length))
    return list(dict.fromkeys(found))


def _of(address: Address, length: int) -> Prefix:
    shift = WIDTH[address.family] - length
    return Prefix(address.family, address.value >> shift << shift, length)

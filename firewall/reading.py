"""Reading the parts that policy objects share, from decoded JSON, with errors that say where and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import netaddr

from firewall.labels import OPERATORS, Requirement, Selector
from firewall.rules import ESTABLISHED, PROTOCOLS, Cidr, Established, IpBlock, Protocol, Service, Source

Json = Mapping[str, Any]
ESTABLISHED_ANNOTATION = "ncp/established_connections"
Chosen = TypeVar("Chosen", bound=str)
_CIDR = re.compile(r"[0-9A-Fa-f.:]+/(0|[1-9][0-9]{0,2})", re.ASCII)


class Unreadable(ValueError):
    """A policy cannot be understood; the message names field, value and what is allowed."""


def source_of(kind: str, obj: Json) -> Source:
    """The object itself."""
    meta = obj["metadata"]
    return Source(kind, meta.get("namespace", ""), meta["name"], meta.get("uid", ""))


def established_of(obj: Json) -> Established | None:
    """What the object says of established connections; None where it says nothing.

    Raises:
        Unreadable: another value than keep, recheck or cut.
    """
    text = mapping(obj["metadata"].get("annotations"), "metadata.annotations").get(ESTABLISHED_ANNOTATION)
    if text is None:
        return None
    return chosen(text, ESTABLISHED, f"metadata.annotations[{ESTABLISHED_ANNOTATION}]")


def mapping(value: object, where: str) -> Json:
    """A JSON object; None counts as an empty one.

    Raises:
        Unreadable: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Unreadable(f"{where}: {value!r} is not an object")
    return value


def listed(value: object, where: str) -> Sequence[Any]:
    """A JSON list; None counts as an empty one.

    Raises:
        Unreadable: it is something else.
    """
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Unreadable(f"{where}: {value!r} is not a list")
    return value


def whole(value: object, low: int, high: int, where: str) -> int:
    """A whole number.

    Raises:
        Unreadable: it is none, or not within the bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Unreadable(f"{where}: {value!r}; allowed: a whole number from {low} to {high}")
    return value


def chosen(value: object, allowed: Sequence[Chosen], where: str) -> Chosen:
    """One of some words.

    Raises:
        Unreadable: it is none of them.
    """
    for each in allowed:
        if value == each:
            return each
    raise Unreadable(f"{where}: {value!r}; allowed: {', '.join(allowed)}")


def selector(value: object, where: str) -> Selector:
    """A label selector; an empty one selects everything.

    Raises:
        Unreadable: an unknown operator, or values that do not suit it.
    """
    body = mapping(value, where)
    found = [
        Requirement(key, "In", frozenset({_label(label, f"{where}.matchLabels[{key}]")}))
        for key, label in mapping(body.get("matchLabels"), f"{where}.matchLabels").items()
    ]
    for number, expression in enumerate(listed(body.get("matchExpressions"), f"{where}.matchExpressions")):
        here = f"{where}.matchExpressions[{number}]"
        each = mapping(expression, here)
        operator = chosen(each.get("operator"), OPERATORS, f"{here}.operator")
        values = frozenset(_label(label, f"{here}.values") for label in listed(each.get("values"), f"{here}.values"))
        if bool(values) is (operator in ("Exists", "DoesNotExist")):
            wanted = "none" if values else "at least one"
            raise Unreadable(f"{here}.values: {sorted(values)}; allowed with {operator}: {wanted}")
        if not isinstance(each.get("key"), str) or not each["key"]:
            raise Unreadable(f"{here}.key: {each.get('key')!r} is not a label's name")
        found.append(Requirement(each["key"], operator, values))
    return Selector(tuple(sorted(found, key=lambda one: (one.key, one.operator, sorted(one.values)))))


def _label(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise Unreadable(f"{where}: {value!r} is not a label's value; allowed: text")
    return value


def cidr(value: object, where: str) -> Cidr:
    """A prefix. Bits below its length are ignored, as Kubernetes ignores them.

    Raises:
        Unreadable: not an IPv4 or IPv6 prefix.
    """
    try:
        if not isinstance(value, str) or not _CIDR.fullmatch(value):
            raise ValueError
        network = netaddr.IPNetwork(value).cidr
    except (netaddr.AddrFormatError, ValueError) as error:
        raise Unreadable(f"{where}: {value!r} is not a prefix like 10.0.0.0/8 or fd00::/8") from error
    return network.version, network.first, network.prefixlen


def ip_block(value: object, where: str) -> IpBlock:
    """A prefix with exceptions.

    Raises:
        Unreadable: an exception is not a part of the prefix (or is all of it), or something is no prefix.
    """
    body = mapping(value, where)
    outer = cidr(body.get("cidr"), f"{where}.cidr")
    excepts = []
    for number, each in enumerate(listed(body.get("except"), f"{where}.except")):
        inner = cidr(each, f"{where}.except[{number}]")
        if inner[2] <= outer[2] or not IpBlock(outer).contains(inner[:2]):
            raise Unreadable(f"{where}.except[{number}]: {each!r} is not within {body['cidr']}, or all of it")
        excepts.append(inner)
    return IpBlock(outer, tuple(sorted(excepts)))


def protocol(value: object, where: str) -> Protocol:
    """TCP, UDP or SCTP; TCP where nothing is said.

    Raises:
        Unreadable: another protocol.
    """
    if value is None:
        return "tcp"
    if isinstance(value, str) and value.upper() == value:
        for each in PROTOCOLS:
            if each == value.lower():
                return each
    raise Unreadable(f"{where}: {value!r}; allowed: TCP, UDP, SCTP")


def port_range(kind: Protocol, first: object, last: object, where: str) -> Service:
    """Ports from ``first`` to ``last`` (None: that one port).

    Raises:
        Unreadable: a number out of range, or a last port below the first.
    """
    low = whole(first, 1, 65535, f"{where}.port")
    high = low if last is None else whole(last, 1, 65535, f"{where}.endPort")
    if high < low:
        raise Unreadable(f"{where}.endPort: {high} is below port {low}; allowed: {low} to 65535")
    return Service(kind, low, high)

"""Kinds of values in ``ncp.ini``: each reads text, says what it allows, and writes a value back as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations, pairwise
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from ipam import pool
from ipam.address import Address, Prefix, parse_address, parse_prefix
from sdn.model import MAX_DOMAIN

NOTHING: Final = {"", "<none>", "none"}
"""Ways to write an unset option."""
_POOL_NAME: Final = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_NAMESPACE: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
LAST_AS: Final = 2**32 - 2
"""The highest number of an autonomous system (RFC 7300)."""
_TRUE: Final = {"true", "yes", "on", "1"}
_FALSE: Final = {"false", "no", "off", "0"}


class Span(NamedTuple):
    """Numbers from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class AddressPool(NamedTuple):
    """Addresses with a name. A pool that was given none has the text of its one entry as its name."""

    name: str
    ranges: tuple[pool.AddressRange, ...]

    def __str__(self) -> str:
        if re.fullmatch(_POOL_NAME, self.name) and not _is_range(self.name):
            return ", ".join(f"{self.name}={each}" for each in self.ranges)
        return self.name


class PoolAccess(NamedTuple):
    """The namespaces that a pool is for."""

    pool: str
    namespaces: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.pool}={' '.join(self.namespaces)}"


class BgpPeer(NamedTuple):
    """A router to speak BGP with; ``multihop``: it may be on no link of ours."""

    address: Address
    asn: int
    multihop: bool = False

    def __str__(self) -> str:
        return f"{self.address} as {self.asn}" + (" multihop" if self.multihop else "")


class RoutingDomain(NamedTuple):
    """Blocks of pods' addresses that other routing domains may have as well."""

    name: str
    blocks: tuple[Prefix, ...]

    @property
    def number(self) -> int:
        """1 to :data:`~sdn.model.MAX_DOMAIN`, from the name alone: domains that come, go or are listed in another order change no other's."""
        return 1 + int.from_bytes(blake2b(self.name.encode(), digest_size=8).digest(), "big") % MAX_DOMAIN

    def __str__(self) -> str:
        return f"{self.name}={' '.join(map(str, self.blocks))}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value. ``parse`` raises ValueError with the reason; ``allowed`` completes "allowed: ..."."""

    name: str
    allowed: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str]


def _plain(value: Any) -> str:
    return "" if value is None else str(value)


def _listed(values: tuple[Any, ...]) -> str:
    return ", ".join(str(value) for value in values)


def text(pattern: str = "", allowed: str = "any text", *, required: bool = False) -> Kind:
    """Text, matching ``pattern`` as a whole if one is given; empty when unset, unless ``required``."""

    def parse(raw: str) -> str:
        if not required and raw.lower() in NOTHING:
            return ""
        if pattern and not re.fullmatch(pattern, raw):
            raise ValueError("it has another form")
        return raw

    return Kind("text", allowed, parse, _plain)


def boolean() -> Kind:
    """True or False, in the usual spellings."""

    def parse(raw: str) -> bool:
        if raw.lower() in _TRUE:
            return True
        if raw.lower() in _FALSE:
            return False
        raise ValueError("it is neither True nor False")

    return Kind("boolean", "True or False", parse, str)


def integer(low: int, high: int, *, optional: bool = False) -> Kind:
    """A whole number from ``low`` to ``high``; None when unset and ``optional``."""

    def parse(raw: str) -> int | None:
        if optional and raw.lower() in NOTHING:
            return None
        if not re.fullmatch(r"-?[0-9]+", raw):
            raise ValueError("it is not a whole number")
        if not low <= int(raw) <= high:
            raise ValueError("it is out of range")
        return int(raw)

    return Kind("integer", f"{low} to {high}" + (", or nothing" if optional else ""), parse, _plain)


def number(low: float, high: float) -> Kind:
    """A number, with or without a fraction, from ``low`` to ``high``."""

    def parse(raw: str) -> float:
        try:
            value = float(raw)
        except ValueError:
            raise ValueError("it is not a number") from None
        if not low <= value <= high:
            raise ValueError("it is out of range")
        return value

    return Kind("number", f"{low:g} to {high:g}", parse, lambda value: f"{value:g}")


def choice(*words: str, optional: bool = False, refused: Mapping[str, str] = MappingProxyType({})) -> Kind:
    """One of ``words``, in any case; returned as written here. None when unset and ``optional``. ``refused`` are words that others
    know, with the reason why there is no such choice here."""

    def parse(raw: str) -> str | None:
        if optional and raw.lower() in NOTHING:
            return None
        for word in words:
            if raw.lower() == word.lower():
                return word
        raise ValueError(refused.get(raw.upper(), "there is no such choice"))

    return Kind("choice", ", ".join(words) + (", or nothing" if optional else ""), parse, _plain)


def prefix(family: int) -> Kind:
    """One network of a family; None when unset."""

    def parse(raw: str) -> Prefix | None:
        if raw.lower() in NOTHING:
            return None
        found = parse_prefix(raw)
        if found.family != family:
            raise ValueError(f"it is an IPv{found.family} network")
        return found

    return Kind("prefix", f"one IPv{family} network (ADDRESS/LENGTH), or nothing", parse, _plain)


def address(*, optional: bool = True) -> Kind:
    """One IPv4 or IPv6 address; None when unset."""

    def parse(raw: str) -> Address | None:
        return None if optional and raw.lower() in NOTHING else parse_address(raw)

    return Kind("address", "an IPv4 or IPv6 address" + (", or nothing" if optional else ""), parse, _plain)


def texts() -> Kind:
    """A comma-separated list of words."""
    return Kind("list", "words separated by commas", lambda raw: tuple(_items(raw)), _listed)


def choices(*words: str) -> Kind:
    """A comma-separated list of some of ``words``, each once, in any case; returned as written here."""

    def parse(raw: str) -> tuple[str, ...]:
        asked = [item.lower() for item in _items(raw)]
        if unknown := [item for item in asked if item not in words]:
            raise ValueError(f"there is no such choice as {unknown[0]!r}")
        return tuple(word for word in words if word in asked)

    return Kind("list", f"any of {', '.join(words)}, separated by commas", parse, _listed)


def secret(pattern: str, allowed: str) -> Kind:
    """Text that is not shown; empty when unset."""
    return Kind("secret", allowed, text(pattern, allowed).parse, lambda value: "(not shown)" if value else "")


def bgp_peers() -> Kind:
    """A comma-separated list of routers to peer with."""
    return Kind(
        "list of peers",
        f"ADDRESS as NUMBER entries separated by commas, NUMBER being 1 to {LAST_AS}; `multihop` after one says that it "
        "may be on no link of the node; each address once",
        _peers,
        _listed,
    )


def prefixes() -> Kind:
    """A comma-separated list of networks, IPv4 and IPv6 mixed."""
    return Kind(
        "list of prefixes",
        "networks (ADDRESS/LENGTH) of either family, separated by commas",
        lambda raw: tuple(parse_prefix(item) for item in _items(raw)),
        _listed,
    )


def pools() -> Kind:
    """A comma-separated list of named pools of addresses; entries of one name are one pool. No address is in two."""
    return Kind(
        "list of pools",
        "NAME=RANGE entries separated by commas, RANGE being an address, a network (ADDRESS/LENGTH) or FIRST-LAST of either "
        "family; entries of one name are one pool, and one without NAME= is called as it is written",
        _pools,
        _listed,
    )


def pool_access() -> Kind:
    """Which pools are for some namespaces only: POOL=NAMESPACE NAMESPACE, separated by commas."""
    return Kind(
        "list of pools with namespaces",
        "POOL=NAMESPACE NAMESPACE ... entries separated by commas, one for each pool, with names of Kubernetes namespaces",
        _access,
        _listed,
    )


def domains() -> Kind:
    """Routing domains with their blocks: NAME=CIDR CIDR, separated by commas."""
    return Kind(
        "list of routing domains",
        "NAME=CIDR CIDR ... entries separated by commas, one for each domain, with networks (ADDRESS/LENGTH) of either family",
        _domains,
        _listed,
    )


def addresses() -> Kind:
    """A comma-separated list of addresses."""
    return Kind(
        "list of addresses",
        "addresses of either family, separated by commas",
        lambda raw: tuple(parse_address(item) for item in _items(raw)),
        _listed,
    )


def span(low: int, high: int) -> Kind:
    """FIRST-LAST of whole numbers."""

    def parse(raw: str) -> Span:
        found = re.fullmatch(r"([0-9]+)\s*-\s*([0-9]+)", raw)
        if not found:
            raise ValueError("it is not FIRST-LAST")
        first, last = int(found[1]), int(found[2])
        if not low <= first <= last <= high:
            raise ValueError("it is out of range, or runs backwards")
        return Span(first, last)

    return Kind("span", f"FIRST-LAST within {low} to {high}", parse, str)


def _items(raw: str) -> list[str]:
    """NCP writes an empty list as ``[]``."""
    bare = raw[1:-1] if raw.startswith("[") and raw.endswith("]") else raw
    return [] if bare.lower() in NOTHING else [item.strip() for item in bare.split(",") if item.strip()]


def _peers(raw: str) -> tuple[BgpPeer, ...]:
    found: dict[Address, BgpPeer] = {}
    for item in _items(raw):
        said = re.fullmatch(r"(\S+)\s+as\s+([0-9]{1,10})(\s+multihop)?", item)
        if not said or not 1 <= int(said[2]) <= LAST_AS:
            raise ValueError(f"{item!r} is no peer")
        peer = BgpPeer(parse_address(said[1]), int(said[2]), bool(said[3]))
        if peer.address in found:
            raise ValueError(f"{peer.address} is there twice")
        found[peer.address] = peer
    return tuple(found.values())


def _pools(raw: str) -> tuple[AddressPool, ...]:
    found: dict[str, tuple[pool.AddressRange, ...]] = {}
    for item in _items(raw):
        name, equals, text = (part.strip() for part in item.rpartition("="))
        if equals and (not re.fullmatch(_POOL_NAME, name) or _is_range(name)):
            raise ValueError(
                f"{name!r} in {item!r} is no name of a pool: that is 1 to 63 letters, digits, '-', '_' and '.', and no address"
            )
        found[name or text] = (*found.get(name or text, ()), *pool.parse_ranges(text))
    spans = sorted((span, name) for name, ranges in found.items() for span in ranges)
    for (one, first), (other, second) in pairwise(spans):
        if one.family == other.family and other.first <= one.last:
            raise ValueError(f"{one} of pool {first} overlaps {other} of pool {second}")
    return tuple(AddressPool(*each) for each in found.items())


def _access(raw: str) -> tuple[PoolAccess, ...]:
    found: dict[str, PoolAccess] = {}
    for item in _items(raw):
        name, _, text = (part.strip() for part in item.rpartition("="))
        if not name or not text:
            raise ValueError(f"{item!r} is not POOL=NAMESPACE NAMESPACE ...")
        if name in found:
            raise ValueError(f"pool {name} is named twice")
        for namespace in text.split():
            if not re.fullmatch(_NAMESPACE, namespace):
                raise ValueError(f"{namespace!r} in {item!r} is no name of a namespace")
        found[name] = PoolAccess(name, tuple(dict.fromkeys(text.split())))
    return tuple(found.values())


def _domains(raw: str) -> tuple[RoutingDomain, ...]:
    found: dict[int, RoutingDomain] = {}
    for item in _items(raw):
        name, _, text = (part.strip() for part in item.partition("="))
        if not re.fullmatch(_POOL_NAME, name) or not text:
            raise ValueError(
                f"{item!r} is not NAME=CIDR CIDR ..., NAME being 1 to 63 letters, digits, '-', '_' and '.'"
            )
        domain = RoutingDomain(name, tuple(parse_prefix(each) for each in text.split()))
        other = found.setdefault(domain.number, domain)
        if other.name == name and other is not domain:
            raise ValueError(f"domain {name} is named twice")
        if other is not domain:
            raise ValueError(
                f"domains {other.name} and {name} have the same number, {domain.number}; rename one of them"
            )
        for one, two in combinations(domain.blocks, 2):
            if one.overlaps(two):
                raise ValueError(f"{one} of domain {name} overlaps {two} of the same domain")
    return tuple(found.values())


def _is_range(text: str) -> bool:
    try:
        pool.parse_ranges(text)
    except ValueError:
        return False
    return True

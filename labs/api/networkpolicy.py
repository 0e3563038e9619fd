"""Rules on network policies: selectors, peers, address blocks, ports and policy types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labs.api.addresses import prefix
from labs.api.errors import Cause, denied, required, unsupported, wrong
from labs.api.ports import PROTOCOLS, name_faults, number_fault
from labs.api.selectors import selector_faults

Obj = dict[str, Any]
TYPES = ("Ingress", "Egress")
_NO_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def faults(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    """Everything wrong with a defaulted network policy; what it was before does not matter."""
    spec = obj["spec"]
    yield from selector_faults(spec["podSelector"], "spec.podSelector")
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for place, rule in enumerate(spec.get(direction, ())):
            at = f"spec.{direction}[{place}]"
            for number, port in enumerate(rule.get("ports", ())):
                yield from _port(port, f"{at}.ports[{number}]")
            for number, peer in enumerate(rule.get(peers, ())):
                yield from _peer(peer, f"{at}.{peers}[{number}]")
    types = spec.get("policyTypes", ())
    if len(types) > len(TYPES):
        yield wrong("spec.policyTypes", types, "may not specify more than two policyTypes")
        return
    for place, kind in enumerate(types):
        if kind not in TYPES:
            yield unsupported(f"spec.policyTypes[{place}]", kind, TYPES)


def _port(port: Obj, at: str) -> Iterator[Cause]:
    if port["protocol"] not in PROTOCOLS:
        yield unsupported(f"{at}.protocol", port["protocol"], PROTOCOLS)
    first, last = port.get("port"), port.get("endPort")
    if isinstance(first, int):
        if fault := number_fault(first):
            yield wrong(f"{at}.port", first, fault)
        if last is not None and last < first:
            yield wrong(f"{at}.endPort", last, "must be greater than or equal to `port`")
        if last is not None and (fault := number_fault(last)):
            yield wrong(f"{at}.endPort", last, fault)
        return
    if last is not None:
        lacking = "not specified" if first is None else "non-numeric"
        yield wrong(f"{at}.endPort", last, f"may not be specified when `port` is {lacking}")
    if first is not None:
        yield from (wrong(f"{at}.port", first, fault) for fault in name_faults(first))


def _peer(peer: Obj, at: str) -> Iterator[Cause]:
    for field in ("podSelector", "namespaceSelector"):
        if field in peer:
            yield from selector_faults(peer[field], f"{at}.{field}")
    if "ipBlock" in peer:
        yield from _ip_block(peer["ipBlock"], f"{at}.ipBlock")
    if not peer:
        yield required(at, "must specify a peer")
    elif "ipBlock" in peer and len(peer) > 1:
        yield denied(at, "may not specify both ipBlock and another peer")


def _ip_block(block: Obj, at: str) -> Iterator[Cause]:
    cidr = block.get("cidr", "")
    outer = prefix(cidr)
    if not cidr:
        yield required(f"{at}.cidr")
    elif outer is None:
        yield wrong(f"{at}.cidr", cidr, _NO_CIDR)
    if outer is None:
        return
    for place, text in enumerate(block.get("except", ())):
        inner = prefix(text)
        if inner is None:
            yield wrong(f"{at}.except[{place}]", text, _NO_CIDR)
        elif (
            inner.version != outer.version
            or inner.network.prefixlen <= outer.network.prefixlen
            or inner.network.network_address not in outer.network
        ):
            yield wrong(f"{at}.except[{place}]", text, "must be a strict subset of `cidr`")

"""Who a pod is outside: the one answer that flows, logs, probes and tables of translations agree on. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ipam.address import Address
from sdn.compile.delta import Delta
from sdn.model import Intent, LogicalPort, LogicalSwitch, Origin


class Outside(NamedTuple):
    """Whom those outside see of a pod: ``address`` None where nothing of it gets there; ``origin`` says who decided."""

    address: Address | None
    origin: Origin


def outside(intent: Intent, port: LogicalPort, source: Address) -> Outside:
    """Who sees what a pod sends from one of its addresses: its binding, its service's address, its namespace's, or itself.

    Nobody, where it is in a routing domain that has no way out.
    """
    switch = intent.switches.get(port.vni)
    if switch is not None and switch.domain:
        return Outside(None, switch.origin)
    for _, binding in sorted(intent.bindings.items()):
        if binding.port == port.name and (bound := _of_family(binding.external, source)):
            return Outside(bound, binding.origin)
    for name, server in sorted(intent.services.items()):
        if (own := _of_family(server.translated, source)) and _is_member(intent, name, source):
            return Outside(own, server.origin)
    if switch is None or not switch.snat or source.family not in intent.snat_families:
        return Outside(source, port.origin)
    return Outside(_of_family(switch.translated, source), switch.origin)


def addresses_outside(intent: Intent) -> frozenset[Address]:
    """Every address that somebody of ours is outside, virtual servers left aside: what the node that lets out answers for."""
    return frozenset(
        address
        for held in (
            *(each.translated for each in intent.switches.values()),
            *(each.translated for each in intent.services.values()),
            *(each.external for each in intent.bindings.values()),
        )
        for address in held
    )


def changed_outside(before: Intent, after: Intent, delta: Delta) -> frozenset[Address]:
    """Pods' addresses that somebody outside would know by another address now than before."""
    found: set[Address] = set()
    vnis = {
        vni
        for vni in delta.switches
        if (old := before.switches.get(vni)) and not old.domain and _way_out(old) != _way_out(after.switches.get(vni))
    }
    if vnis:
        found |= {address for port in before.ports.values() if port.vni in vnis for address in port.addresses}
    for name in delta.services:
        old_server, new_server = before.services.get(name), after.services.get(name)
        was, now = (each.translated if each else () for each in (old_server, new_server))
        if was or now:
            old_members, new_members = (_members(each, name) for each in (before, after))
            found |= old_members | new_members if was != now else old_members ^ new_members
    for name in delta.bindings:
        found |= {address for each in (before, after) for address in _bound(each, name)}
    return frozenset(found)


def _way_out(switch: LogicalSwitch | None) -> tuple[object, ...]:
    return (switch.snat, switch.translated) if switch else ()


def _members(intent: Intent, service: str) -> set[Address]:
    return {each.address for part in intent.slices.get(service, {}).values() for each in part.endpoints}


def _bound(intent: Intent, binding: str) -> Iterator[Address]:
    held = intent.bindings.get(binding)
    port = intent.ports.get(held.port) if held else None
    yield from port.addresses if port else ()


def _of_family(addresses: tuple[Address, ...], like: Address) -> Address | None:
    return next((each for each in addresses if each.family == like.family), None)


def _is_member(intent: Intent, service: str, address: Address) -> bool:
    return any(each.address == address for part in intent.slices.get(service, {}).values() for each in part.endpoints)

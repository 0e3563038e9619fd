"""Which addresses outside an object may have, and which it is to get, or what is wrong with what it asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ipam.address import Address, Family
from ipam.pool import parse_ranges
from ncp.manager.demand import address_of
from ncp.manager.holdings import Holdings, words
from ncp.manager.outbox import Ref
from ncp.manager.supply import Failure
from ncp.manager.surroundings import Surroundings
from ncp.manager.wishes import SNAT_POOL, STATIC_SNAT_IP, Outward, Space, Wish, parse_static

OPTION: Final = "[nsx_v3] external_ip_pools"


class Choice(NamedTuple):
    """Where an object's addresses may come from.

    ``keeps`` are families it may have; ``wants``, those it is to get; ``addresses``, the very ones it asks for; ``refused``, why
    it gets none of a family that it wants; ``fault``, why it gets nothing more at all. ``is_patient``: until it gets the very one
    it keeps what it has.
    """

    pools: tuple[str, ...] = ()
    keeps: tuple[Family, ...] = ()
    wants: tuple[Family, ...] = ()
    addresses: Mapping[Family, Address] = {}
    refused: Mapping[Family, Failure] = {}
    fault: Failure | None = None
    is_patient: bool = False


NOTHING: Final = Choice()


class Chooser:
    """Says it of each object, by the settings and what is around it."""

    def __init__(self, settings: Outward, holdings: Holdings[Ref], around: Surroundings) -> None:
        self._settings, self._holdings, self._around = settings, holdings, around

    def choice(self, wish: Wish) -> Choice | None:
        """That of one object; None: it is not ours to decide on, or not yet."""
        space = self._around.spaces.get(wish.namespace)
        if wish.is_foreign or space is None or not space.is_ours or not space.has_segments:
            return None
        if wish.ref[0] == "Namespace":
            return self._of_namespace(wish, space)
        return self._of_service(wish, space) if wish.ref[0] == "Service" else self._of_binding(wish, space)

    def _of_namespace(self, wish: Wish, space: Space) -> Choice:
        reason = self._not_translated(space)
        if reason:
            text = f"annotation {STATIC_SNAT_IP} is not followed: {reason}"
            return Choice(fault=Failure("IP_NOT_REALIZED", text) if wish.asked else None)
        pools = self._open_to(wish.namespace)
        families = tuple(f for f in space.families if f in self._families(self._holdings.pools))
        static = parse_static(wish.asked) if wish.asked else {}
        if isinstance(static, Failure):
            return Choice(pools, families, fault=static, is_patient=True)
        refused: dict[Family, Failure] = {}
        for family, address in static.items():
            if family not in space.families:
                text = f"annotation {STATIC_SNAT_IP} {address}: the namespace has no IPv{family} addresses to translate"
                refused[family] = Failure("IP_NOT_REALIZED", text)
            elif failure := self._wrong_place(f"annotation {STATIC_SNAT_IP}", address, wish, pools):
                refused[family] = failure
        for family in families:
            if family not in static and family not in self._families(pools):
                text = f"every pool of {OPTION} with IPv{family} addresses is for other namespaces"
                refused[family] = Failure("POOL_ACCESS_DENIED", f"{text} ([ncp] snat_pool_namespaces)")
        wants = tuple(sorted({*families, *refused}))
        return Choice(pools, families, wants, static, refused, is_patient=True)

    def _not_translated(self, space: Space) -> str:
        """Why pods of a namespace are not translated; empty: they are."""
        if not self._settings.is_snat:
            return "[coe] enable_snat is off"
        if not self._holdings.pools:
            return f"{OPTION} names no pool"
        if space.is_apart:
            return "the namespace is in a routing domain, which has no way out (ncp/routing_domain)"
        return "" if space.is_snat else "the namespace is not translated (ncp/no_snat)"

    def _of_service(self, wish: Wish, space: Space) -> Choice:
        if wish.asked is None:
            return NOTHING
        asked, pools = " ".join(wish.asked), self._holdings.pools
        field = f"annotation {SNAT_POOL} {asked!r}"
        there = f"there are {', '.join(pools)}" if pools else "it names none"
        if not self._settings.is_snat:
            return Choice(fault=Failure("IP_POOL_NOT_FOUND", f"{field} is not followed: [coe] enable_snat is off"))
        if asked not in pools:
            if " " in asked or _is_range(asked):
                what = f"{field} must name one pool of {OPTION}, by its name; {there}"
                return Choice(fault=Failure("IP_POOL_NOT_UNIQUE", what))
            return Choice(fault=Failure("IP_POOL_NOT_FOUND", f"{field} is no pool of {OPTION}; {there}"))
        if asked not in self._open_to(wish.namespace):
            return Choice(fault=_denied(field, asked))
        if rival := self._around.rivals.get(wish.ref):
            what = (
                f"pod {rival.pod} is selected by Service {rival.ref[1][1]} as well, which is older and has {SNAT_POOL}"
            )
            return Choice(fault=Failure("SNAT_RULE_OVERLAPPED", f"{what}; change a selector, or take {SNAT_POOL} away"))
        families = tuple(f for f in space.families if f in pools[asked].families)
        if not families:
            text = f"pool {asked} of {OPTION} has no address of a family that the namespace has to be translated"
            return Choice(fault=Failure("IP_POOL_NOT_FOUND", text))
        return Choice((asked,), families, families)

    def _of_binding(self, wish: Wish, space: Space) -> Choice:
        if space.is_apart:
            text = "the namespace is in a routing domain, which has no way out (ncp/routing_domain)"
            return Choice(fault=Failure("IP_NOT_REALIZED", text))
        (address, pool), pools = wish.asked or ("", ""), self._open_to(wish.namespace)
        if rival := self._around.rivals.get(wish.ref):
            text = f"pod {rival.pod} has AddressBinding {rival.ref[1][1]}, which is older; delete one of them"
            return Choice(fault=Failure("POD_ALREADY_BOUND", text))
        if pool and pool not in self._holdings.pools:
            names = tuple(self._holdings.pools)
            there = f"there are {', '.join(names)}" if names else "it names none"
            return Choice(fault=Failure("IP_POOL_NOT_FOUND", f"spec.pool {pool!r} is no pool of {OPTION}; {there}"))
        if pool and pool not in pools:
            return Choice(fault=_denied(f"spec.pool {pool!r}", pool))
        among = (pool,) if pool else pools
        wanted = address_of(address) if address else None
        if address:
            failure = self._wrong_place("spec.ipAddress", wanted or address, wish, among)
            if failure is not None or wanted is None:
                return Choice(fault=failure)
        addresses: dict[Family, Address] = {wanted.family: wanted} if wanted else {}
        keeps: tuple[Family, ...] = tuple(addresses) or (4, 6)
        pod = self._around.pods.get(wish.namespace, {}).get(wish.pod)
        if pod is None or not pod.families:
            what = (
                "names no pod of the namespace with a port of ours"
                if pod is None
                else "names a pod without an address yet"
            )
            return Choice(
                among, keeps, addresses=addresses, fault=Failure("POD_UNKNOWN", f"spec.podName {wish.pod!r} {what}")
            )
        wants = tuple(f for f in pod.families if f in (tuple(addresses) or self._families(among)))
        if not wants:
            where = f"spec.ipAddress {wanted}" if wanted else f"what {OPTION} has for the namespace"
            text = f"{where} is of another family than the addresses of pod {wish.pod} ({words(pod.families)})"
            return Choice(fault=Failure("IP_NOT_REALIZED", text))
        return Choice(among, wants, wants, addresses)

    def _wrong_place(self, field: str, address: Address | str, wish: Wish, pools: tuple[str, ...]) -> Failure | None:
        """Why an object cannot have an address, by the pool that has it."""
        name = self._holdings.pool_of(address) if isinstance(address, Address) else None
        if name is None:
            names = tuple(self._holdings.pools)
            there = f"there are {', '.join(names)}" if names else "there are none"
            return Failure("IP_NOT_IN_POOL", f"{field} {address} is in no pool of {OPTION}; {there}")
        if name not in self._open_to(wish.namespace):
            return _denied(f"{field} {address}", name)
        if name not in pools:
            return Failure("IP_NOT_IN_POOL", f"{field} {address} is in pool {name}, and not in {', '.join(pools)}")
        return None

    def _open_to(self, namespace: str) -> tuple[str, ...]:
        """Pools that a namespace may have addresses from."""
        access = self._settings.access
        return tuple(name for name in self._holdings.pools if name not in access or namespace in access[name])

    def _families(self, names: Mapping[str, object] | tuple[str, ...]) -> frozenset[Family]:
        return frozenset(family for name in names for family in self._holdings.pools[name].families)


def _denied(field: str, pool: str) -> Failure:
    return Failure(
        "POOL_ACCESS_DENIED",
        f"{field}: pool {pool} is for other namespaces ([ncp] snat_pool_namespaces); ask for another",
    )


def _is_range(text: str) -> bool:
    try:
        parse_ranges(text)
    except ValueError:
        return False
    return True

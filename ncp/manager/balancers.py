"""Which Service of type LoadBalancer gets which virtual addresses: demands in, decisions out. No clock, no I/O, no thread.

:class:`Balancers` can be lost at any moment: given the same services, new ones come to hold what the services' statuses
show. An address counts as free only when no status shows it any more, whatever became of the writes: two services never
show one address because of us. A service keeps the address it holds; among those that want a free one, or show the same
one, the older (creationTimestamp, then uid) comes first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from ipam.address import Address, Family
from ipam.pool import Usage
from ncp.manager.demand import CLASS, ERROR, Demand, LoadBalancing, address_of, demand
from ncp.manager.holdings import Holdings, words
from ncp.manager.outbox import NAMESPACE, Key, Occurrence, Ref
from ncp.manager.quota import VIRTUAL, limits, refusal
from ncp.manager.records import CLUSTER
from ncp.manager.supply import Failure
from ncp.translate.objects import Object

SERVICES: Final = "Service"
ASSIGNED: Final = "IP_ASSIGNED"
OPTION: Final = "[nsx_v3] external_ip_pools_lb"


class Verdict(NamedTuple):
    """What is to be written on one very Service, known by its uid.

    ``annotations``: None takes one away. ``ingress``: all addresses its status is to show; None: the status stays.
    """

    key: Key
    uid: str
    annotations: dict[str, str | None]
    ingress: tuple[Address, ...] | None = None
    event: Occurrence | None = None

    @property
    def ref(self) -> Ref:
        """The object's kind and key."""
        return SERVICES, self.key


class Choice(NamedTuple):
    """Where a service's addresses may come from: the first of these pools that has one; ``address``: the very one."""

    pools: tuple[str, ...]
    families: tuple[Family, ...]
    address: Address | None = None


class Balancers:
    """Every virtual address of the cluster, and the services they are for."""

    def __init__(self, settings: LoadBalancing):
        self._cluster, self._by_default = settings.cluster, settings.by_default
        self.holdings: Holdings[Key] = Holdings(settings.pools, settings.rest, "/".join)
        self.failures: dict[Key, Failure] = {}  # of services that wait for an address
        self._demands: dict[Key, Demand] = {}
        self._limits: dict[str, dict[str, str]] = {}  # of namespaces that have some
        self._dirty: set[Key] = set()

    def see(self, ref: Ref, obj: Object | None) -> None:
        """A service, or a namespace, is as it is; None: it is gone."""
        kind, key = ref
        if kind == NAMESPACE:
            self._see_limits(key[1], limits(obj["metadata"].get("annotations") or {}) if obj else {})
        else:
            self._see_service(key, demand(obj) if obj else None)

    def _see_limits(self, namespace: str, new: dict[str, str]) -> None:
        if self._limits.get(namespace, {}) == new:
            return
        self._limits[namespace] = new
        if not new:
            del self._limits[namespace]
        self._dirty |= {key for key in self.failures if key[0] == namespace}

    def _see_service(self, key: Key, new: Demand | None) -> None:
        old = self._demands.get(key)
        if old == new:
            return
        self.holdings.see(key, self._used(old), self._used(new))
        if new is None:
            del self._demands[key]
        else:
            self._demands[key] = new
        self._dirty.add(key)

    def look_again(self, ref: Ref) -> None:
        """What was decided on a service could not be written: decide on it once more."""
        self._dirty.add(ref[1])

    def set_rest(self, seconds: float) -> None:
        """For how long others are given before an address that is released from now on."""
        self.holdings.rest = seconds

    def decisions(self, now: float) -> list[Verdict]:
        """What has to be written, after everything seen so far. ``now`` is in epoch seconds."""
        dirty, self._dirty = self._dirty, set()
        self.holdings.expire(now)
        for key in sorted(dirty):
            self._release(key, now)
        for key in self._by_age(dirty):
            self._adopt(key)
        self.holdings.follow_shown(now)
        wanting = self._by_age(dirty | self.failures.keys() if self.holdings.freed else dirty)
        self.holdings.freed = False
        for key in wanting:
            self._give(key)
        return [verdict for key in wanting if (verdict := self._verdict(key)) is not None]

    def usage(self) -> list[tuple[str, Family, Usage]]:
        """Addresses of each pool and family, counted."""
        return self.holdings.usage()

    # -- whose they are -----------------------------------------------------------------------------------------------

    def _serves(self, found: Demand | None) -> bool:
        """Whether a service's addresses are for us to give: one that somebody else gave an address is not."""
        if found is None or not found.is_balanced or found.cluster not in (None, self._cluster):
            return False
        if found.balancer_class != CLASS and (found.balancer_class or not self._by_default):
            return False
        return found.cluster is not None or not found.shown or bool(self._ours(found))

    def _ours(self, found: Demand | None) -> list[Address]:
        """Addresses of our pools that a status shows."""
        return self.holdings.ours(found.shown) if found else []

    def _used(self, found: Demand | None) -> list[Address]:
        """Addresses of our pools that a service is at: those its status shows, and those it took by itself (externalIPs)."""
        return self.holdings.ours((*found.shown, *found.external)) if found else []

    def _may_write(self, found: Demand) -> bool:
        """Whether a service's status is ours to write: that of one we serve, and what we left in that of one we served. By
        now another class may have taken over; it has written something else then."""
        if self._serves(found):
            return True
        theirs = found.is_balanced and found.balancer_class and len(self._ours(found)) < len(found.shown)
        return found.cluster == self._cluster and not theirs

    def _by_age(self, keys: Iterable[Key]) -> list[Key]:
        found = [(each.created, each.uid, key) for key in keys if (each := self._demands.get(key))]
        return [key for _, _, key in sorted(found)]

    # -- decisions ----------------------------------------------------------------------------------------------------

    def _choice(self, found: Demand) -> Choice | Failure:
        """Where a service wants its addresses from, or what is wrong with that."""
        names, address = tuple(self.holdings.pools), address_of(found.asked)
        field = f"spec.loadBalancerIP {found.asked!r}"
        if address is not None:
            name = self.holdings.pool_of(address)
            if name is None:
                where = f"there are {', '.join(names)}" if names else "there are none"
                return Failure("IP_NOT_IN_POOL", f"{field} is in no pool of {OPTION}; {where}")
            if address.family not in found.families:
                which = words(found.families)
                return Failure("IP_INVALID", f"{field} is of another family than spec.ipFamilies, which has {which}")
            names = (name,)
        elif found.asked:
            if found.asked not in self.holdings.pools:
                where = f"there are {', '.join(names)}" if names else "it names none"
                return Failure("IP_POOL_NOT_FOUND", f"{field} is no address and no pool of {OPTION}; {where}")
            names = (found.asked,)
        families = tuple(f for f in found.families if any(f in self.holdings.pools[name].families for name in names))
        if not families:
            where = f"pool {names[0]} of {OPTION} has" if found.asked else f"{OPTION} has"
            return Failure("IP_POOL_NOT_FOUND", f"{where} no {words(found.families)} address")
        return Choice(names, families, address)

    def _release(self, key: Key, now: float) -> None:
        """Take back what a service must not have any more."""
        found = self._demands.get(key)
        is_same = found is not None and found.uid == self.holdings.uid(key)
        choice = self._choice(found) if found and is_same and self._serves(found) else None
        for address in self.holdings.held(key).values():
            if not isinstance(choice, Choice) or not self._allows(choice, address):
                self.holdings.release(key, address, now)
        if not self._serves(found):
            self.failures.pop(key, None)

    def _allows(self, choice: Choice, address: Address) -> bool:
        if choice.address is not None and choice.address.family == address.family:
            return choice.address == address
        return address.family in choice.families and self.holdings.pool_of(address) in choice.pools

    def _adopt(self, key: Key) -> None:
        """Hold what a service shows, as far as it may and nobody else has it."""
        found = self._demands[key]
        choice = self._choice(found) if self._serves(found) else None
        if not isinstance(choice, Choice):
            return
        for address in self._ours(found):
            has, free = self.holdings.held(key), self.holdings.holder(address) is None
            if address.family not in has and self._allows(choice, address) and free:
                self.holdings.hold(key, found.uid, address)

    def _give(self, key: Key) -> None:
        """Give a service what it lacks, or say why not."""
        self.failures.pop(key, None)
        found = self._demands[key]
        if not self._serves(found) or found.deleting:
            return
        choice = self._choice(found)
        if isinstance(choice, Failure):
            self.failures[key] = choice
            return
        lacking = [f for f in choice.families if f not in self.holdings.held(key)]
        missing: list[Family] = []
        for family in lacking:
            refused = self._refusal(key[0])
            if refused is not None:
                self.failures[key] = refused
                return
            if choice.address is not None and choice.address.family == family:
                self._claim(key, choice.address)
            elif not self.holdings.allocate(key, found.uid, family, choice.pools):
                missing.append(family)
        if missing and key not in self.failures:
            where = f"pool{'s' if len(choice.pools) > 1 else ''} {', '.join(choice.pools)} of {OPTION}"
            self.failures[key] = Failure("IP_POOL_EXHAUSTED", f"no {words(missing)} address is free in {where}")

    def _refusal(self, namespace: str) -> Failure | None:
        """Why a namespace may not have one address more."""
        found = self._limits.get(namespace)
        if not found:
            return None
        used = sum(len(held) for key, (_, held) in self.holdings.given.items() if key[0] == namespace)
        return refusal(VIRTUAL, found, used, 1)

    def _claim(self, key: Key, address: Address) -> None:
        """Give the very address asked for, unless another has it or still shows it."""
        holder, others = self.holdings.holder(address), self.holdings.others_at(address, key)
        if holder is None and not others:
            self.holdings.hold(key, self._demands[key].uid, address)
            return
        other = holder or others[0]
        text = f"spec.loadBalancerIP {address} is in use by Service {other}"
        self.failures[key] = Failure("IP_ALREADY_ALLOCATED", text)

    # -- output -------------------------------------------------------------------------------------------------------

    def _verdict(self, key: Key) -> Verdict | None:
        """What brings a service from what it shows to what it should."""
        found = self._demands[key]
        held = self.holdings.held(key)
        wanted = tuple(held[family] for family in found.families if family in held)
        failure = self.failures.get(key)
        if found.cluster not in (None, self._cluster):
            return None
        annotations = {CLUSTER: self._cluster if held else None, ERROR: str(failure) if failure else None}
        shown = {CLUSTER: found.cluster, ERROR: found.error}
        changed = {name: text for name, text in annotations.items() if shown[name] != text}
        ingress = wanted if found.shown != wanted and self._may_write(found) else None
        if not changed and ingress is None:
            return None
        return Verdict(key, found.uid, changed, ingress, self._event(wanted if ingress else (), failure, changed))

    def _event(
        self, assigned: tuple[Address, ...], failure: Failure | None, changed: dict[str, str | None]
    ) -> Occurrence | None:
        if failure is not None and ERROR in changed:
            return Occurrence(True, *failure)
        if not assigned:
            return None
        text = ", ".join(f"{address} of pool {self.holdings.pool_of(address)}" for address in assigned)
        return Occurrence(False, ASSIGNED, text)

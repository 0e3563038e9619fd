"""Who has which address outside: of namespaces (SNAT), of services' members, of single pods. Objects in, decisions out.

No clock, no I/O, no thread. :class:`Outside` can be lost at any moment: given the same objects, new books come to hold what
the objects show. Who has an address keeps it; among those that want a free one, or show the same one, the older comes first.
A namespace that asks for a very address keeps what it has until it gets that one, and one that has none gets nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ipam.address import Address, Family
from ipam.pool import Usage
from ncp.manager import wishes
from ncp.manager.choices import NOTHING, OPTION, Choice, Chooser
from ncp.manager.holdings import Holdings
from ncp.manager.outbox import NAMESPACE, POD, Occurrence, Ref, named
from ncp.manager.quota import SNAT, refusal
from ncp.manager.supply import Failure
from ncp.manager.surroundings import Surroundings
from ncp.manager.wishes import ERROR_SNAT, READY, SNAT_STATUS, Outward, Wish
from ncp.translate.objects import SNAT_IP, Object

SERVICE: Final = "Service"
BINDING: Final = "AddressBinding"
READERS: Final = {NAMESPACE: wishes.of_namespace, SERVICE: wishes.of_service, BINDING: wishes.of_binding}
ASSIGNED: Final = "IP_ASSIGNED"
ALLOCATED: Final = "IP_ALLOCATED_SUCCESSFULLY"


class Verdict(NamedTuple):
    """What is to be written on one very object, known by its uid: annotations (None takes one away), or the status.

    The status has ``ipAddresses``, and as :data:`~ncp.manager.wishes.READY` the condition of that type without its time.
    """

    ref: Ref
    uid: str
    annotations: dict[str, str | None]
    status: dict[str, Any]
    event: Occurrence | None = None


class Outside:
    """Every address of ``external_ip_pools``, and the objects they are for."""

    def __init__(self, settings: Outward) -> None:
        self._cluster: Final = settings.cluster
        self.holdings: Holdings[Ref] = Holdings(settings.pools, settings.rest, lambda ref: " ".join(named(ref)))
        self.failures: dict[Ref, Failure] = {}  # of objects that lack something
        self._around = Surroundings()
        self._chooser = Chooser(settings, self.holdings, self._around)
        self._wishes: dict[Ref, Wish] = {}
        self._unwanted: dict[Ref, frozenset[Address]] = {}  # asked for by name once, and no longer: to be exchanged
        self._dirty: set[Ref] = set()
        self._released = False

    def see(self, ref: Ref, obj: Object | None) -> None:
        """A namespace, pod, service or binding is as it is; None: it is gone."""
        kind, key = ref
        if kind == POD:
            self._dirty |= self._around.see_pod(key, wishes.pod(obj) if obj else None)
            return
        if kind == NAMESPACE:
            self._dirty |= self._around.see_space(key[1], wishes.space(obj, self._cluster) if obj else None)
        self._see_wish(ref, READERS[kind](obj, self._cluster) if obj else None)

    def _see_wish(self, ref: Ref, new: Wish | None) -> None:
        if new is not None and new.asked is None and not new.shown and not self.holdings.ours(new.at):
            new = None  # most services: they have nothing to do with this
        old = self._wishes.pop(ref, None)
        if new is not None:
            self._wishes[ref] = new
        if old == new:
            return
        self.holdings.see(ref, self.holdings.ours(old.at) if old else (), self.holdings.ours(new.at) if new else ())
        if old and new and old.uid == new.uid and ref[0] == NAMESPACE:
            dropped = self._unwanted.get(ref, frozenset()) | _static(old)
            self._unwanted[ref] = (dropped - _static(new)) & frozenset(self.holdings.held(ref).values())
        self._dirty |= {ref} | self._around.see_wish(old, new)

    def look_again(self, ref: Ref) -> None:
        """What was decided on an object could not be written: decide on it once more."""
        self._dirty.add(ref)

    def set_rest(self, seconds: float) -> None:
        """For how long others are given before an address that is released from now on."""
        self.holdings.rest = seconds

    def usage(self) -> list[tuple[str, Family, Usage]]:
        """Addresses of each pool and family, counted."""
        return self.holdings.usage()

    def decisions(self, now: float) -> list[Verdict]:
        """What has to be written, after everything seen so far. ``now`` is in epoch seconds."""
        dirty, self._dirty = self._dirty, set()
        self.holdings.expire(now)
        for ref in sorted(dirty):
            self._release(ref, now)
        for ref in self._by_age(dirty):
            self._adopt(ref)
        self.holdings.follow_shown(now)
        wanting = self._by_age(dirty | self.failures.keys() if self.holdings.freed or self._released else dirty)
        self.holdings.freed = self._released = False
        for ref in wanting:
            self._give(ref, now)
        return [verdict for ref in wanting if (verdict := self._verdict(self._wishes[ref])) is not None]

    def _by_age(self, refs: Iterable[Ref]) -> list[Ref]:
        found = [wish for ref in refs if (wish := self._wishes.get(ref))]
        return [wish.ref for wish in sorted(found, key=lambda wish: wish.age)]

    # -- decisions ----------------------------------------------------------------------------------------------------

    def _release(self, ref: Ref, now: float) -> None:
        """Take back what an object must not have any more."""
        wish = self._wishes.get(ref)
        choice = self._chooser.choice(wish) if wish and wish.uid == self.holdings.uid(ref) else None
        for address in self.holdings.held(ref).values():
            if not self._allows(choice or NOTHING, address):
                self.holdings.release(ref, address, now)
                self._released = True
        if wish is None:
            self.failures.pop(ref, None)
            self._unwanted.pop(ref, None)

    def _allows(self, choice: Choice, address: Address) -> bool:
        if address.family not in choice.keeps or self.holdings.pool_of(address) not in choice.pools:
            return False
        return choice.is_patient or choice.addresses.get(address.family, address) == address

    def _adopt(self, ref: Ref) -> None:
        """Hold what an object shows, as far as it may and nobody else has it."""
        wish = self._wishes[ref]
        choice = self._chooser.choice(wish) or NOTHING
        for address in self.holdings.ours(wish.decided):
            has, is_free = self.holdings.held(ref), self.holdings.holder(address) is None
            if address.family not in has and self._allows(choice, address) and is_free:
                self.holdings.hold(ref, wish.uid, address)

    def _give(self, ref: Ref, now: float) -> None:
        """Give an object what it lacks, or say why not."""
        self.failures.pop(ref, None)
        wish = self._wishes[ref]
        choice = self._chooser.choice(wish) or NOTHING
        if wish.deleting:
            return
        failure = choice.fault
        for family in choice.wants:
            refused = choice.refused.get(family) or self._give_family(wish, choice, family, now)
            failure = failure or refused
        if failure is not None:
            self.failures[ref] = failure

    def _give_family(self, wish: Wish, choice: Choice, family: Family, now: float) -> Failure | None:
        held, asked = self.holdings.held(wish.ref).get(family), choice.addresses.get(family)
        unwanted = self._unwanted.get(wish.ref, frozenset())
        if held is not None and (asked == held or (asked is None and held not in unwanted)):
            return None
        if asked is not None and (other := self._user(asked, wish.ref)):
            return Failure("IP_ALREADY_ALLOCATED", f"address {asked} is in use by {other}; ask for another")
        if held is None and (failure := self._refusal(wish.namespace)):
            return failure
        if held is not None:
            self.holdings.release(wish.ref, held, now)
            self._unwanted[wish.ref] = unwanted - {held}
        if asked is not None:
            self.holdings.hold(wish.ref, wish.uid, asked)
        elif not self.holdings.allocate(wish.ref, wish.uid, family, choice.pools):
            if held is None:
                where = f"pool{'s' if len(choice.pools) > 1 else ''} {', '.join(choice.pools)} of {OPTION}"
                text = f"no IPv{family} address is free in {where}; widen it, or delete what has one"
                return Failure("IP_POOL_EXHAUSTED", text)
            self.holdings.hold(wish.ref, wish.uid, held)
        return None

    def _user(self, address: Address, ref: Ref) -> str:
        """What another object is called that has an address, or is at it without."""
        return self.holdings.holder(address) or next(iter(self.holdings.others_at(address, ref)), "")

    def _refusal(self, namespace: str) -> Failure | None:
        """Why a namespace may not have one address more."""
        space = self._around.spaces.get(namespace)
        if space is None or SNAT.annotation not in space.limits:
            return None
        used = sum(len(self.holdings.held(ref)) for ref in self._around.members(namespace))
        return refusal(SNAT, space.limits, used, 1)

    # -- output -------------------------------------------------------------------------------------------------------

    def _verdict(self, wish: Wish) -> Verdict | None:
        """What brings an object from what it shows to what it should."""
        if self._chooser.choice(wish) is None:
            return None
        held = tuple(address for _, address in sorted(self.holdings.held(wish.ref).items()))
        failure = self.failures.get(wish.ref)
        event = self._event(wish, held, failure)
        if wish.ref[0] == BINDING:
            status = _status(wish, held, failure)
            same = wish.shown["ipAddresses"] == tuple(status["ipAddresses"])
            if same and status[READY].items() <= wish.shown[READY].items():
                return None
            return Verdict(wish.ref, wish.uid, {}, status, event)
        wanted: dict[str, str | None] = {SNAT_IP: ",".join(map(str, held)) or None}
        said = str(failure) if failure else None
        if wish.ref[0] == NAMESPACE:
            wanted[SNAT_STATUS] = said or (ALLOCATED if wish.asked and held else None)
        else:
            wanted[ERROR_SNAT] = said
        changed = {name: text for name, text in wanted.items() if wish.shown.get(name) != text}
        return Verdict(wish.ref, wish.uid, changed, {}, event) if changed else None

    def _event(self, wish: Wish, held: tuple[Address, ...], failure: Failure | None) -> Occurrence | None:
        """What is new in it for people."""
        if failure is not None and not _says(wish, failure):
            return Occurrence(True, *failure)
        if held and failure is None and held != wish.decided:
            text = ", ".join(f"{address} of pool {self.holdings.pool_of(address)}" for address in held)
            return Occurrence(False, ASSIGNED, text)
        return None


def _static(wish: Wish) -> frozenset[Address]:
    """The very addresses that a namespace asks for."""
    found = wishes.parse_static(wish.asked) if wish.asked else {}
    return frozenset() if isinstance(found, Failure) else frozenset(found.values())


def _says(wish: Wish, failure: Failure) -> bool:
    """Whether an object shows a failure already."""
    if wish.ref[0] == BINDING:
        return tuple(wish.shown[READY].get(each) for each in ("reason", "message")) == failure
    return wish.shown.get(SNAT_STATUS if wish.ref[0] == NAMESPACE else ERROR_SNAT) == str(failure)


def _status(wish: Wish, held: tuple[Address, ...], failure: Failure | None) -> dict[str, Any]:
    """The status of a binding."""
    addresses = [str(each) for each in held]
    said = failure or Failure(ALLOCATED, f"pod {wish.pod} is {', '.join(addresses)} outside")
    condition = {
        "type": READY,
        "status": "False" if failure else "True",
        "reason": said.code,
        "message": said.message,
        "observedGeneration": wish.generation,
    }
    return {"ipAddresses": addresses, READY: condition}

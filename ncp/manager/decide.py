"""Who gets which segment, subnet and address: objects in, annotations out. No clock, no I/O, no thread.

:class:`Books` hold what the objects of the cluster show plus what is decided and not yet written. They can be lost at
any moment: :meth:`Books.rebuild` makes the same books from the objects. The same calls in the same order give the same
decisions, and a rebuild does not depend on the order in which objects are listed.

**What a crash can lose.** A decision is written on its object before anybody can act on it, so an address is never held
twice. The rest of a released address is written on the namespace within milliseconds of the pod's end. Pods that end
while no manager runs, or in those milliseconds, leave no trace; their addresses count as free afterwards. Because
addresses are given in turn, and because rebuilt books go on some way behind the youngest address they see, these are
among the last to be used again, but if a subnet is nearly full they may be given before their rest time is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from ipam.chain import Grant
from ncp.manager import records as r
from ncp.manager.accounts import Accounts
from ncp.manager.layout import Layout
from ncp.manager.outbox import NAMESPACE, POD, Decision, Key, Note, Outbox, Ref
from ncp.manager.quota import CODES, PODS, limits, refusal
from ncp.manager.records import NamespaceRecord, PodRecord, Port
from ncp.manager.routers import Routers
from ncp.manager.supply import Failure
from ncp.manager.tenant import Tenant, owner_of

__all__ = ["NAMESPACE", "POD", "Books", "Decision", "Note"]


_OF_NAMESPACE: Final = (r.ERROR_SUBNETS, r.ERROR_DOMAIN, r.ERROR_ROUTER, r.ERROR_NETWORK, r.ERROR_NO_SNAT)
"""Annotations that say what is wrong with a namespace, in the order in which they keep its pods waiting."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A pod's port as long as it holds it."""

    uid: str
    port: Port


class Books:
    """Every decision of the cluster, and the objects they are about. :func:`ncp.manager.rebuild.rebuild` fills them."""

    def __init__(self, layout: Layout):
        self._outbox = Outbox()
        self.accounts = Accounts(layout, lambda name, *note: self._outbox.note((NAMESPACE, ("", name)), *note))
        self.layout = layout
        self.tenants = self.accounts.tenants
        self.namespaces: dict[str, NamespaceRecord] = {}
        self.pods: dict[Key, PodRecord] = {}
        self.ports: dict[Key, Holding] = {}
        self.failures: dict[Key, tuple[str, Failure]] = {}  # pods without a port: (annotation, why)
        self._members: dict[str, set[str]] = {}  # pods by namespace
        self._dirty: dict[Ref, None] = {}

    def see_namespace(self, name: str, record: NamespaceRecord | None) -> None:
        """A namespace is as it is; None: it is gone."""
        old = self.namespaces.get(name)
        if old == record:
            return
        if record is None:
            del self.namespaces[name]
        else:
            self.namespaces[name] = record
        self._seen((NAMESPACE, ("", name)), replaced=old is not None and (record is None or record.uid != old.uid))

    def see_pod(self, key: Key, record: PodRecord | None) -> None:
        """A pod is as it is; None: it is gone."""
        old = self.pods.get(key)
        if old == record:
            return
        members = self._members.setdefault(key[0], set())
        if record is None:
            del self.pods[key]
            members.discard(key[1])
        else:
            self.pods[key] = record
            members.add(key[1])
        self._seen((POD, key), replaced=old is not None and (record is None or record.uid != old.uid))

    def see_routers(self, routers: Routers) -> None:
        """The Routers that people made are these."""
        for name in self.accounts.see_routers(routers):
            self._dirty[(NAMESPACE, ("", name))] = None

    def _seen(self, ref: Ref, *, replaced: bool) -> None:
        self._dirty[ref] = None
        if replaced:
            self._outbox.close(ref)

    def set_rest(self, seconds: float) -> None:
        """How long addresses rest that are released from now on; those that rest keep the end they were given."""
        self.layout = self.accounts.layout = replace(self.layout, rest=seconds)

    def written(self, kind: str, key: Key) -> None:
        """Everything given out for an object was written, or refused: from now on what it shows counts."""
        if self._outbox.close((kind, key)):
            self._dirty[(kind, key)] = None

    def next_due(self) -> float | None:
        """When the next rest ends: :meth:`decisions` should be asked then."""
        return self.accounts.next_due()

    def decisions(self, now: float) -> list[Decision]:
        """What has to be written, after everything seen so far. ``now`` is in epoch seconds."""
        dirty, self._dirty = self._dirty, {}
        names = sorted((key[1] for kind, key in dirty if kind == NAMESPACE), key=lambda n: age(self.namespaces.get(n)))
        keys = dict.fromkeys(key for kind, key in dirty if kind == POD)
        self.accounts.expire(now)
        for name in names:
            keys |= self._close_account(name, now)
        for key in keys:
            self._drop_pod(key, now)
        for name in names:
            keys |= self._settle_namespace(name)
        ordered = sorted(keys, key=lambda key: age(self.pods.get(key)))
        for key in ordered:
            self._set_range(key)
        for key in ordered:
            self._settle_pod(key, now)
        touched = [*((NAMESPACE, ("", name)) for name in names), *((POD, key) for key in ordered)]
        touched += self._retry_waiting(now)
        touched += self._look_at_namespaces({key[1] if kind == NAMESPACE else key[0] for kind, key in touched})
        return self._emit(dict.fromkeys(touched))

    # -- namespaces ---------------------------------------------------------------------------------------------------

    def _close_account(self, name: str, now: float) -> dict[Key, None]:
        """Forget what was decided for a namespace that is gone or another one now; its pods."""
        if not self.accounts.close(name, self.namespaces.get(name), now):
            return {}
        for key in [key for key in self.ports if key[0] == name]:
            del self.ports[key]
            self._outbox.close((POD, key))
        return self._pods_of(name)

    def _settle_namespace(self, name: str) -> dict[Key, None]:
        """Decide on a namespace; its pods, if it is new."""
        record, is_new = self.namespaces.get(name), name not in self.tenants
        tenant = self.accounts.open(record) if record is not None else None
        if record is None or tenant is None:
            return {}
        if limits(tenant.record.annotations) != limits(record.annotations):
            self.accounts.retry.add(name)
        tenant.record = record
        self.accounts.settle(tenant)
        return self._pods_of(name) if is_new else {}

    def _pods_of(self, name: str) -> dict[Key, None]:
        return {(name, pod): None for pod in sorted(self._members.get(name, ()))}

    def _look_at_namespaces(self, names: set[str]) -> list[Ref]:
        """Namespaces to be written: besides those touched, what changed with their pods."""
        accounts, found = self.accounts, set()
        for name in accounts.rested & self.tenants.keys():
            self.tenants[name].note_rests()
            found.add(name)
        found |= accounts.changed
        for name in (names | found) & self.tenants.keys():
            waits = any(_lacks_address(*self.failures[(name, pod)]) for pod in self.tenants[name].waiting)
            if accounts.clear_errors(self.tenants[name], waits):
                found.add(name)
        accounts.rested, accounts.changed = set(), set()
        return [(NAMESPACE, ("", name)) for name in sorted(found)]

    # -- pods ---------------------------------------------------------------------------------------------------------

    def _drop_pod(self, key: Key, now: float) -> None:
        """Let the addresses rest of a pod that is gone, replaced or finished."""
        record, holding, tenant = self.pods.get(key), self.ports.get(key), self.tenants.get(key[0])
        if record is None or not record.wants_port:
            self.failures.pop(key, None)
            if tenant is not None:
                tenant.waiting.discard(key[1])
        if holding is None or (record is not None and record.uid == holding.uid and record.wants_port):
            return
        del self.ports[key]
        if tenant is not None:
            self.accounts.release(tenant, f"{key[0]}/{key[1]}", holding.port, now)

    def _set_range(self, key: Key) -> None:
        tenant, record = self.tenants.get(key[0]), self.pods.get(key)
        if tenant is None:
            return
        shown = record.annotations.get(r.IP_RANGE) if record is not None and self._wants_fixed(record) else None
        if tenant.set_range(key[1], shown):
            self.accounts.retry.add(key[0])

    def _settle_pod(self, key: Key, now: float) -> None:
        record, tenant = self.pods.get(key), self.tenants.get(key[0])
        self.failures.pop(key, None)
        if tenant is not None:
            tenant.waiting.discard(key[1])
        if record is None or tenant is None or not record.wants_port or key in self.ports:
            return
        shown = record.annotations.get(r.PORT)
        if shown is not None and self.adopt(record, tenant, shown):
            return
        if record.deleting or not self.accounts.is_ours(record):
            return
        failure = self._grant(record, tenant, now)
        if failure is not None:
            self.failures[key] = failure
            tenant.waiting.add(key[1])

    def adopt(self, record: PodRecord, tenant: Tenant, shown: str, *, note: bool = True) -> bool:
        """Hold what a pod's ``ncp/port`` shows, if that can be; otherwise say why not."""
        key = (record.namespace, record.name)
        try:
            self.ports[key] = Holding(record.uid, tenant.adopt(record, shown))
        except ValueError as error:
            if note and self.accounts.is_ours(record):
                self._outbox.note((POD, key), "PORT_CONFLICT", f"annotation {r.PORT}: {error}; it is decided anew")
            return False
        return True

    def _grant(self, record: PodRecord, tenant: Tenant, now: float) -> tuple[str, Failure] | None:
        """Give a pod its port, or say why not: (annotation, failure)."""
        if not tenant.segments:
            default = Failure("NAMESPACE_WITHOUT_NETWORK", f"namespace {record.namespace} has no subnet")
            errors = tenant.errors
            said = (errors[name] for name in _OF_NAMESPACE if name in errors)
            return r.ERROR_NETWORK, next(said, default)
        used = sum(ledger.held for ledger in tenant.chain.ledgers())
        refused = refusal(PODS, tenant.record.annotations, used, len(tenant.segments[0].gateways))
        if refused is not None:
            return r.ERROR_NETWORK, refused
        given: Grant | Failure | None
        if r.IP_RANGE in record.annotations and self._wants_fixed(record):
            given = tenant.give_fixed(record, now)
            if isinstance(given, Failure):
                return r.ERROR_IP_RANGE, given
            self.accounts.rested.add(record.namespace)  # it may have ended a rest
        else:
            given, tenant.chain = tenant.chain.allocate(owner_of(record), now)
            if given is None:
                failure = self.accounts.extend(tenant)
                if failure is not None:
                    return r.ERROR_NETWORK, failure
                given, tenant.chain = tenant.chain.allocate(owner_of(record), now)
            if given is None:
                text = f"every free address of namespace {record.namespace} rests until it may be reused"
                return r.ERROR_NETWORK, Failure("ADDRESSES_RESTING", text)
        self.ports[(record.namespace, record.name)] = Holding(record.uid, tenant.port(given))
        return None

    def _retry_waiting(self, now: float) -> list[Ref]:
        """Try again for objects that wait, where something came back; the objects to look at."""
        touched: list[Ref] = []
        names = self.tenants.keys() if self.accounts.freed else self.accounts.retry & self.tenants.keys()
        tenants = sorted((self.tenants[name] for name in names), key=lambda tenant: age(tenant.record))
        self.accounts.retry, self.accounts.freed = set(), False
        for tenant in tenants:
            touched += self._retry_tenant(tenant, now)
        return touched

    def _retry_tenant(self, tenant: Tenant, now: float) -> list[Ref]:
        name = tenant.record.name
        touched: list[Ref] = []
        if not tenant.segments and not tenant.record.deleting:
            self.accounts.found(tenant)
            touched.append((NAMESPACE, ("", name)))
        full = False
        for key in sorted(((name, pod) for pod in tenant.waiting), key=lambda key: age(self.pods.get(key))):
            annotation, _ = self.failures[key]
            if full and annotation == r.ERROR_NETWORK:
                continue
            self._settle_pod(key, now)
            touched.append((POD, key))
            full |= self.failures.get(key, ("", None))[0] == r.ERROR_NETWORK
        return touched

    # -- output -------------------------------------------------------------------------------------------------------

    def _emit(self, touched: Iterable[Ref]) -> list[Decision]:
        wanted = [(self._want_namespace if ref[0] == NAMESPACE else self._want_pod)(ref) for ref in touched]
        self._outbox.drop_notes()
        found = [decision for decision in wanted if decision is not None]
        return sorted(found, key=lambda decision: decision.kind)  # namespaces first; otherwise in order

    def _want_namespace(self, ref: Ref) -> Decision | None:
        tenant = self.tenants.get(ref[1][1])
        if tenant is None:
            return None
        want: dict[str, str | None] = {
            r.CLUSTER: self.layout.cluster,
            r.SEGMENTS: r.render_segments(tenant.segments) if tenant.segments else None,
            r.RESTING: tenant.resting,
        }
        for name in _OF_NAMESPACE:
            want[name] = str(tenant.errors[name]) if name in tenant.errors else None
        return self._outbox.decision(ref, tenant.record.uid, tenant.record.annotations, want)

    def _want_pod(self, ref: Ref) -> Decision | None:
        record, holding, failure = self.pods.get(ref[1]), self.ports.get(ref[1]), self.failures.get(ref[1])
        if record is None or (holding is None and failure is None) or not self.accounts.is_ours(record):
            return None
        want: dict[str, str | None] = {
            r.CLUSTER: self.layout.cluster,
            r.PORT: None,
            r.ERROR_NETWORK: None,
            r.ERROR_IP_RANGE: None,
        }
        if holding is not None:
            want[r.PORT] = r.render_port(holding.port)
            self._note_edit(ref, record, holding)
        if failure is not None:
            want[failure[0]] = str(failure[1])
        tenant = self.tenants[record.namespace]
        written = tenant.record.annotations.get(r.SEGMENTS) == r.render_segments(tenant.segments)
        after = "" if written else record.namespace
        return self._outbox.decision(ref, record.uid, record.annotations, want, after)

    def _note_edit(self, ref: Ref, record: PodRecord, holding: Holding) -> None:
        """Say that somebody changed a decision that stands."""
        shown = record.annotations.get(r.PORT)
        if shown is None or self._outbox.is_open(ref) or self._outbox.has_note(ref):
            return
        try:
            same = r.parse_port(shown) == holding.port
        except ValueError:
            same = False
        if not same:
            self._outbox.note(ref, "PORT_CONFLICT", f"annotation {r.PORT} was changed; the decision is restored")

    def _wants_fixed(self, record: PodRecord) -> bool:
        return self.layout.statefulset_ranges and record.ordinal is not None and record.wants_port


def _lacks_address(annotation: str, failure: Failure) -> bool:
    """Whether a pod waits because its namespace has no address left, and not because it may have no more."""
    return annotation == r.ERROR_NETWORK and failure.code not in CODES


def age(record: NamespaceRecord | PodRecord | None) -> tuple[str, str, str]:
    """What objects are sorted by: oldest first."""
    return ("", "", "") if record is None else (record.created, record.uid, record.name)

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

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ipam.address import Address, parse_prefix
from ipam.chain import Grant
from ncp.manager import records as r
from ncp.manager.layout import Layout
from ncp.manager.outbox import NAMESPACE, POD, Decision, Key, Note, Outbox, Ref
from ncp.manager.records import NamespaceRecord, PodRecord, Port, Segment
from ncp.manager.supply import Failure, Supply
from ncp.manager.tenant import Tenant, owner_of

__all__ = ["NAMESPACE", "POD", "Books", "Decision", "Note"]


@dataclass(frozen=True, slots=True)
class Holding:
    """A pod's port as long as it holds it."""

    uid: str
    port: Port


class Books:
    """Every decision of the cluster, and the objects they are about. :func:`ncp.manager.rebuild.rebuild` fills them."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.supply = Supply.of(layout)
        self.namespaces: dict[str, NamespaceRecord] = {}
        self.pods: dict[Key, PodRecord] = {}
        self.tenants: dict[str, Tenant] = {}
        self.ports: dict[Key, Holding] = {}
        self.failures: dict[Key, tuple[str, Failure]] = {}  # pods without a port: (annotation, why)
        self.foreign: dict[str, tuple[Segment, ...]] = {}  # of namespaces with another cluster's decisions
        self._members: dict[str, set[str]] = {}  # pods by namespace
        self._dirty: dict[Ref, None] = {}
        self._outbox = Outbox()
        self._due: list[tuple[float, str]] = []  # heap: when a rest ends, in which namespace
        self._retry: set[str] = set()  # tenants whose waiting pods may find an address now
        self._rested: set[str] = set()  # tenants whose ncp/resting changed
        self._echoes: dict[Address, float] = {}  # rests of namespaces that are gone
        self._freed = False  # a VNI or subnet came back

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

    def _seen(self, ref: Ref, *, replaced: bool) -> None:
        self._dirty[ref] = None
        if replaced:
            self._outbox.close(ref)

    def written(self, kind: str, key: Key) -> None:
        """Everything given out for an object was written, or refused: from now on what it shows counts."""
        if self._outbox.close((kind, key)):
            self._dirty[(kind, key)] = None

    def next_due(self) -> float | None:
        """When the next rest ends: :meth:`decisions` should be asked then."""
        return self._due[0][0] if self._due else None

    def decisions(self, now: float) -> list[Decision]:
        """What has to be written, after everything seen so far. ``now`` is in epoch seconds."""
        dirty, self._dirty = self._dirty, {}
        names = sorted((key[1] for kind, key in dirty if kind == NAMESPACE), key=lambda n: age(self.namespaces.get(n)))
        keys = [key for kind, key in dirty if kind == POD]
        self._expire(now)
        for name in names:
            self._drop_namespace(name, now)
        for key in keys:
            self._drop_pod(key, now)
        for name in names:
            self._settle_namespace(name)
        keys += [key for kind, key in self._dirty if kind == POD and (kind, key) not in dirty]
        self._dirty = {}
        keys.sort(key=lambda key: age(self.pods.get(key)))
        for key in keys:
            self._set_range(key)
        for key in keys:
            self._settle_pod(key, now)
        touched = [*((NAMESPACE, ("", name)) for name in names), *((POD, key) for key in keys)]
        touched += self._retry_waiting(now)
        return self._emit(dict.fromkeys(touched))

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, name = heapq.heappop(self._due)
            tenant = self.tenants.get(name)
            if tenant is None or tenant.chain.soonest > now:
                continue
            tenant.chain = tenant.chain.expire(now)
            self._retry.add(name)
            if not any(ledger.resting for ledger in tenant.chain.ledgers()):
                self._rested.add(name)

    def _drop_namespace(self, name: str, now: float) -> None:
        """Take back what a namespace had that is gone, replaced, or not ours any more."""
        record, tenant = self.namespaces.get(name), self.tenants.get(name)
        for segment in self.foreign.pop(name, ()):
            self.supply, self._freed = self.supply.give_back(segment), True
        if tenant is None or (record is not None and record.uid == tenant.record.uid and self._is_ours(record)):
            return
        until = now + self.layout.rest
        self._echoes = {address: end for address, end in self._echoes.items() if end > now}
        for ledger in tenant.chain.ledgers():
            self._echoes |= {address: rest.until for address, rest in ledger.rests().items()}
            self._echoes |= dict.fromkeys(ledger.holders(), until)
        for segment in tenant.segments:
            self.supply = self.supply.give_back(segment)
        del self.tenants[name]
        self._freed = True
        for pod in self._members.get(name, ()):
            self._dirty[(POD, (name, pod))] = None
        for key in [key for key in self.ports if key[0] == name]:
            del self.ports[key]
            self._outbox.close((POD, key))

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
            until = now + self.layout.rest
            tenant.release(f"{key[0]}/{key[1]}", holding.port, until)
            self._retry.add(key[0])
            if until > now:
                heapq.heappush(self._due, (until, key[0]))
                self._rested.add(key[0])
            else:
                tenant.chain = tenant.chain.expire(now)

    # -- namespaces ---------------------------------------------------------------------------------------------------

    def _settle_namespace(self, name: str) -> None:
        record = self.namespaces.get(name)
        if record is None:
            return
        tenant = self.open_account(record)
        if tenant is None:
            return
        tenant.record = record
        if not tenant.segments and not record.deleting:
            self._found(tenant)
            self._retry.add(name)
        self._check_inputs(tenant)

    def open_account(self, record: NamespaceRecord) -> Tenant | None:
        """The tenant of a namespace, new or known, with the segments it shows; None: it is another cluster's."""
        if not self._is_ours(record):
            if record.name not in self.foreign:
                self.foreign[record.name] = tuple(self._claimed(record, note=False))
            return None
        tenant = self.tenants.get(record.name)
        if tenant is None:
            tenant = self.tenants[record.name] = Tenant(record)
            for segment in self._claimed(record, note=True):
                self.add_segment(tenant, segment)
            for pod in self._members.get(record.name, ()):
                self._dirty[(POD, (record.name, pod))] = None
        return tenant

    def recover(self, tenant: Tenant, segment: Segment) -> None:
        """Take up a segment that a namespace should show and does not.

        Raises:
            ValueError: somebody else has what it says.
        """
        self.supply = self.supply.claim(segment)
        self.add_segment(tenant, segment)

    def _claimed(self, record: NamespaceRecord, *, note: bool) -> Iterator[Segment]:
        """The segments a namespace shows, as far as nobody else has what they say."""
        text = record.annotations.get(r.SEGMENTS)
        if text is None:
            return
        try:
            shown = r.parse_segments(text)
        except ValueError as error:
            if note:
                self.malformed((NAMESPACE, ("", record.name)), r.SEGMENTS, error)
            return
        for segment in shown:
            try:
                self.supply = self.supply.claim(segment)
                yield segment
            except ValueError as error:
                if note:
                    self._outbox.note(
                        (NAMESPACE, ("", record.name)), "SEGMENT_CONFLICT", f"annotation {r.SEGMENTS}: {error}"
                    )

    def _found(self, tenant: Tenant) -> None:
        """The first segments of a namespace."""
        annotations = tenant.record.annotations
        no_snat = wants_no_snat(tenant.record)
        asked = annotations.get(r.SUBNETS)
        tenant.errors.clear()
        if asked is not None and self.layout.namespace_subnets:
            found, self.supply = self.supply.custom(asked, no_snat=no_snat)
            if isinstance(found, Failure):
                tenant.errors[r.ERROR_SUBNETS] = found
                return
            tenant.custom = True
            for segment in found:
                self.add_segment(tenant, segment)
            return
        if asked is not None:
            text = f"annotation {r.SUBNETS} is not followed: [nsx_v3] enable_namespace_subnets is off"
            self._outbox.note((NAMESPACE, ("", tenant.record.name)), "SUBNETS_IGNORED", text)
        failure = self._cut_segment(tenant, no_snat=no_snat)
        if failure is not None:
            tenant.errors[r.ERROR_NETWORK] = failure

    def _check_inputs(self, tenant: Tenant) -> None:
        """Say so where a namespace asks for what can only be given at its creation."""
        if not tenant.segments:
            return
        asked = tenant.record.annotations.get(r.SUBNETS) if self.layout.namespace_subnets else None
        have = ",".join(str(gateway.prefix) for segment in tenant.segments for gateway in segment.gateways)
        tenant.custom = asked is not None and _same_subnets(asked, have)
        if asked is not None and not tenant.custom:
            text = f"the namespace has {have}; subnets are chosen when it is created"
            tenant.errors[r.ERROR_SUBNETS] = Failure("SUBNETS_ON_EXISTING_NAMESPACE_NOT_SUPPORTED", text)
        elif tenant.errors.get(r.ERROR_SUBNETS, Failure("", "")).code != "NAMESPACE_SUBNETS_EXHAUSTED":
            tenant.errors.pop(r.ERROR_SUBNETS, None)
        is_no_snat = self.supply.is_no_snat(tenant.segments[0])
        if is_no_snat is None or is_no_snat == wants_no_snat(tenant.record):
            tenant.errors.pop(r.ERROR_NO_SNAT, None)
        else:
            text = f"the namespace has {have}; {r.NO_SNAT} is followed when it is created"
            tenant.errors[r.ERROR_NO_SNAT] = Failure("NO_SNAT_ON_EXISTING_NAMESPACE_NOT_SUPPORTED", text)

    def _cut_segment(self, tenant: Tenant, *, no_snat: bool) -> Failure | None:
        router = tenant.segments[0].router if tenant.segments else None
        segment, self.supply = self.supply.cut(no_snat=no_snat, router=router)
        if isinstance(segment, Failure):
            return segment
        self.add_segment(tenant, segment)
        return None

    def add_segment(self, tenant: Tenant, segment: Segment) -> None:
        """Open a segment for a namespace; addresses that still rest go on resting."""
        tenant.add(segment)
        tenant.keep_ranges()
        inside = [
            (address, until)
            for address, until in self._echoes.items()
            if any(gateway.prefix.covers(address) for gateway in segment.gateways)
        ]
        for address, until in inside:
            del self._echoes[address]
            self.lay_to_rest(tenant, address, until)

    def lay_to_rest(self, tenant: Tenant, address: Address, until: float) -> None:
        """A free address of a namespace rests; who had it is not known."""
        tenant.chain = tenant.chain.rest(address, until)
        heapq.heappush(self._due, (until, tenant.record.name))
        self._rested.add(tenant.record.name)

    # -- pods ---------------------------------------------------------------------------------------------------------

    def _set_range(self, key: Key) -> None:
        tenant, record = self.tenants.get(key[0]), self.pods.get(key)
        if tenant is None:
            return
        shown = record.annotations.get(r.IP_RANGE) if record is not None and self._wants_fixed(record) else None
        if tenant.set_range(key[1], shown):
            self._retry.add(key[0])

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
        if record.deleting or not self._is_ours(record):
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
            if note and self._is_ours(record):
                self._outbox.note((POD, key), "PORT_CONFLICT", f"annotation {r.PORT}: {error}; it is decided anew")
            return False
        return True

    def _grant(self, record: PodRecord, tenant: Tenant, now: float) -> tuple[str, Failure] | None:
        """Give a pod its port, or say why not: (annotation, failure)."""
        if not tenant.segments:
            default = Failure("NAMESPACE_WITHOUT_NETWORK", f"namespace {record.namespace} has no subnet")
            errors = tenant.errors
            return r.ERROR_NETWORK, errors.get(r.ERROR_SUBNETS) or errors.get(r.ERROR_NETWORK) or default
        given: Grant | Failure | None
        if r.IP_RANGE in record.annotations and self._wants_fixed(record):
            given = tenant.give_fixed(record, now)
            if isinstance(given, Failure):
                return r.ERROR_IP_RANGE, given
            self._rested.add(record.namespace)  # it may have ended a rest
        else:
            given, tenant.chain = tenant.chain.allocate(owner_of(record), now)
            if given is None:
                failure = self._extend(tenant)
                if failure is not None:
                    return r.ERROR_NETWORK, failure
                given, tenant.chain = tenant.chain.allocate(owner_of(record), now)
            if given is None:
                text = f"every free address of namespace {record.namespace} rests until it may be reused"
                return r.ERROR_NETWORK, Failure("ADDRESSES_RESTING", text)
        self.ports[(record.namespace, record.name)] = Holding(record.uid, tenant.port(given))
        return None

    def _extend(self, tenant: Tenant) -> Failure | None:
        """A further segment for a namespace that is full."""
        name = tenant.record.name
        if tenant.custom:
            text = (
                f"every address of the subnets of namespace {name} is in use; delete pods, or make a larger namespace"
            )
            failure: Failure | None = Failure("NAMESPACE_SUBNETS_EXHAUSTED", text)
            annotation = r.ERROR_SUBNETS
        else:
            no_snat = self.supply.is_no_snat(tenant.segments[0])
            if no_snat is None:
                no_snat = wants_no_snat(tenant.record)
            failure = self._cut_segment(tenant, no_snat=no_snat)
            annotation = r.ERROR_NETWORK
        if failure is not None:
            tenant.errors[annotation] = failure
        self._dirty[(NAMESPACE, ("", name))] = None
        return failure

    def _retry_waiting(self, now: float) -> list[Ref]:
        """Try again for objects that wait, where something came back; the objects to look at."""
        touched: list[Ref] = []
        everywhere, self._freed = self._freed, False
        names = sorted(self.tenants if everywhere else self._retry & self.tenants.keys())
        self._retry = set()
        for tenant in sorted((self.tenants[name] for name in names), key=lambda t: age(t.record)):
            touched += self._retry_tenant(tenant, now)
        for name in sorted(self._rested & self.tenants.keys()):
            self.tenants[name].note_rests()
            touched.append((NAMESPACE, ("", name)))
        self._rested = set()
        touched += self._dirty  # namespaces that got a further segment or an error while pods were settled
        self._dirty = {}
        for name in sorted({key[1] if kind == NAMESPACE else key[0] for kind, key in touched} & self.tenants.keys()):
            if self._clear_errors(self.tenants[name]):
                touched.append((NAMESPACE, ("", name)))
        return touched

    def _retry_tenant(self, tenant: Tenant, now: float) -> list[Ref]:
        name = tenant.record.name
        touched: list[Ref] = []
        if not tenant.segments and not tenant.record.deleting:
            self._found(tenant)
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

    def _clear_errors(self, tenant: Tenant) -> bool:
        """Forget that addresses were exhausted once no pod waits for one any more."""
        if not tenant.segments:
            return False
        waits = any(self.failures[(tenant.record.name, pod)][0] == r.ERROR_NETWORK for pod in tenant.waiting)
        if waits:
            return False
        gone = tenant.errors.pop(r.ERROR_NETWORK, None)
        if tenant.errors.get(r.ERROR_SUBNETS, Failure("", "")).code == "NAMESPACE_SUBNETS_EXHAUSTED":
            gone = tenant.errors.pop(r.ERROR_SUBNETS)
        return gone is not None

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
        for name in (r.ERROR_SUBNETS, r.ERROR_NO_SNAT, r.ERROR_NETWORK):
            want[name] = str(tenant.errors[name]) if name in tenant.errors else None
        return self._outbox.decision(ref, tenant.record.uid, tenant.record.annotations, want)

    def _want_pod(self, ref: Ref) -> Decision | None:
        record, holding, failure = self.pods.get(ref[1]), self.ports.get(ref[1]), self.failures.get(ref[1])
        if record is None or (holding is None and failure is None) or not self._is_ours(record):
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

    def _is_ours(self, record: NamespaceRecord | PodRecord) -> bool:
        return record.annotations.get(r.CLUSTER) in (None, self.layout.cluster)

    def _wants_fixed(self, record: PodRecord) -> bool:
        return self.layout.statefulset_ranges and record.ordinal is not None and record.wants_port

    def malformed(self, ref: Ref, name: str, error: Exception) -> None:
        """Say that an annotation of an object cannot be read."""
        self._outbox.note(
            ref, "MALFORMED_ANNOTATION", f"annotation {name} cannot be read ({error}); it is decided anew"
        )


def wants_no_snat(record: NamespaceRecord) -> bool:
    """Whether a namespace asks for addresses that are not translated."""
    return record.annotations.get(r.NO_SNAT, "").strip().lower() == "true"


def _same_subnets(asked: str, have: str) -> bool:
    try:
        return {parse_prefix(part) for part in asked.split(",") if part.strip()} == {
            parse_prefix(part) for part in have.split(",")
        }
    except ValueError:
        return False


def age(record: NamespaceRecord | PodRecord | None) -> tuple[str, str, str]:
    """What objects are sorted by: oldest first."""
    return ("", "", "") if record is None else (record.created, record.uid, record.name)

"""The accounts of namespaces: which segments each has, what it may still get, what rests after it is gone.

Kept by :class:`ncp.manager.decide.Books`, which adds the pods. No clock, no I/O.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from ipam.address import Address, parse_prefix
from ncp.manager import records as r
from ncp.manager.layout import Layout
from ncp.manager.records import NamespaceRecord, PodRecord, Port, Segment
from ncp.manager.routers import Routers
from ncp.manager.supply import Failure, Supply
from ncp.manager.tenant import Tenant

NoteOn = Callable[[str, str, str], None]
"""Records an event on a namespace: its name, the reason, the message."""


class Accounts:
    """Tenants and the supply they draw from.

    ``retry``: tenants whose waiting pods may find an address now. ``rested``: tenants whose ``ncp/resting`` changed.
    ``changed``: namespaces to be looked at. ``freed``: a VNI or subnet came back. Whoever reads these empties them.
    """

    def __init__(self, layout: Layout, note: NoteOn):
        self.layout = layout
        self.supply = Supply.of(layout)
        self.tenants: dict[str, Tenant] = {}
        self.foreign: dict[str, tuple[Segment, ...]] = {}  # of namespaces with another cluster's decisions
        self.retry: set[str] = set()
        self.rested: set[str] = set()
        self.changed: set[str] = set()
        self.freed = False
        self.routers: Routers = {}  # those people made
        self._note = note
        self._due: list[tuple[float, str]] = []  # heap: when a rest ends, in which namespace
        self._echoes: dict[
            tuple[int, Address], float
        ] = {}  # rests of namespaces that are gone, by routing domain and address

    def is_ours(self, record: NamespaceRecord | PodRecord) -> bool:
        """Whether no other cluster decides on an object."""
        return record.annotations.get(r.CLUSTER) in (None, self.layout.cluster)

    def next_due(self) -> float | None:
        """When the next rest ends."""
        return self._due[0][0] if self._due else None

    def expire(self, now: float) -> None:
        """End the rests that are over."""
        while self._due and self._due[0][0] <= now:
            _, name = heapq.heappop(self._due)
            tenant = self.tenants.get(name)
            if tenant is None or tenant.chain.soonest > now:
                continue
            tenant.chain = tenant.chain.expire(now)
            self.retry.add(name)
            if not any(ledger.resting for ledger in tenant.chain.ledgers()):
                self.rested.add(name)

    def open(self, record: NamespaceRecord) -> Tenant | None:
        """The tenant of a namespace, new or known, with the segments it shows; None: it is another cluster's."""
        if not self.is_ours(record):
            if record.name not in self.foreign:
                self.foreign[record.name] = tuple(self._claimed(record, note=False))
            return None
        tenant = self.tenants.get(record.name)
        if tenant is None:
            tenant = self.tenants[record.name] = Tenant(record)
            for segment in self._claimed(record, note=True):
                self.add_segment(tenant, segment)
        return tenant

    def settle(self, tenant: Tenant) -> None:
        """Give a namespace its first segments if it has none, and check what it asks for."""
        if not tenant.segments and not tenant.record.deleting:
            self.found(tenant)
            self.retry.add(tenant.record.name)
        self._check_inputs(tenant)

    def close(self, name: str, record: NamespaceRecord | None, now: float) -> bool:
        """Take back what a namespace had that is gone, replaced, or not ours any more; whether it had an account."""
        tenant = self.tenants.get(name)
        for segment in self.foreign.pop(name, ()):
            self.supply, self.freed = self.supply.give_back(segment), True
        if tenant is None or (record is not None and record.uid == tenant.record.uid and self.is_ours(record)):
            return False
        until = now + self.layout.rest
        self._echoes = {place: end for place, end in self._echoes.items() if end > now}
        for ledger in tenant.chain.ledgers():
            self._echoes |= {(tenant.domain, address): rest.until for address, rest in ledger.rests().items()}
            self._echoes |= {(tenant.domain, address): until for address in ledger.holders()}
        for segment in tenant.segments:
            self.supply = self.supply.give_back(segment)
        del self.tenants[name]
        self.freed = True
        return True

    def release(self, tenant: Tenant, owner: str, port: Port, now: float) -> None:
        """A pod's addresses rest."""
        until, name = now + self.layout.rest, tenant.record.name
        tenant.release(owner, port, until)
        self.retry.add(name)
        if until > now:
            heapq.heappush(self._due, (until, name))
            self.rested.add(name)
        else:
            tenant.chain = tenant.chain.expire(now)

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
                self.malformed(record.name, r.SEGMENTS, error)
            return
        for segment in shown:
            try:
                self.supply = self.supply.claim(segment)
                yield segment
            except ValueError as error:
                if note:
                    self._note(record.name, "SEGMENT_CONFLICT", f"annotation {r.SEGMENTS}: {error}")

    def found(self, tenant: Tenant) -> None:
        """The first segments of a namespace."""
        annotations = tenant.record.annotations
        no_snat = wants_no_snat(tenant.record)
        asked = annotations.get(r.SUBNETS)
        tenant.errors.clear()
        domain, router = self.domain_asked(tenant.record), self.router_asked(tenant.record)
        if isinstance(domain, Failure):
            tenant.errors[r.ERROR_DOMAIN] = domain
        if isinstance(router, Failure):
            tenant.errors[r.ERROR_ROUTER] = router
        if isinstance(domain, Failure) or isinstance(router, Failure):
            return
        if asked is not None and self.layout.namespace_subnets:
            found, self.supply = self.supply.custom(asked, no_snat=no_snat, router=router, domain=domain)
            if isinstance(found, Failure):
                tenant.errors[r.ERROR_SUBNETS] = found
                return
            tenant.custom = True
            for segment in found:
                self.add_segment(tenant, segment)
            return
        if asked is not None:
            text = f"annotation {r.SUBNETS} is not followed: [nsx_v3] enable_namespace_subnets is off"
            self._note(tenant.record.name, "SUBNETS_IGNORED", text)
        failure = self._cut_segment(tenant, no_snat=no_snat, router=router, domain=domain)
        if failure is not None:
            tenant.errors[r.ERROR_NETWORK] = failure

    def domain_asked(self, record: NamespaceRecord) -> int | Failure:
        """The number of the routing domain that a namespace asks for."""
        name = record.annotations.get(r.ROUTING_DOMAIN, "").strip()
        if not name:
            return 0
        domain = self.layout.domain(name)
        if domain is not None:
            return domain.number
        names = ", ".join(each.name for each in self.layout.domains) or "nothing, as it names none"
        text = f"annotation {r.ROUTING_DOMAIN} {name!r} is no domain of [ncp] routing_domains; allowed: {names}"
        return Failure("ROUTING_DOMAIN_NOT_FOUND", text)

    def router_asked(self, record: NamespaceRecord) -> int | Failure | None:
        """The number of the router that a namespace asks to hang off, or that the settings say; None: it is to have its own."""
        asked = record.annotations.get(r.ROUTER, "").strip()
        name = asked or self.layout.top_router
        if not name:
            return None
        found = self.routers.get(name)
        if found is not None:
            return found
        said = f"annotation {r.ROUTER}" if asked else "[nsx_v3] top_tier_router"
        names = ", ".join(sorted(self.routers)) or "nothing, as there is none"
        return Failure("ROUTER_NOT_FOUND", f"{said} {name!r} is no Router; allowed: {names}")

    def see_routers(self, routers: Routers) -> set[str]:
        """The Routers are these; the namespaces it may matter to."""
        self.routers = routers
        found = set()
        for name, tenant in self.tenants.items():
            if r.ERROR_ROUTER in tenant.errors or r.ROUTER in tenant.record.annotations:
                found.add(name)
        return found

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
        self._check_placed(tenant)
        is_no_snat = self.supply.is_no_snat(tenant.segments[0])
        if is_no_snat is None or is_no_snat == wants_no_snat(tenant.record):
            tenant.errors.pop(r.ERROR_NO_SNAT, None)
        else:
            text = f"the namespace has {have}; {r.NO_SNAT} is followed when it is created"
            tenant.errors[r.ERROR_NO_SNAT] = Failure("NO_SNAT_ON_EXISTING_NAMESPACE_NOT_SUPPORTED", text)

    def _check_placed(self, tenant: Tenant) -> None:
        """Say so where a namespace asks for another routing domain or router than it has."""
        have, domain, router = tenant.segments[0], self.domain_asked(tenant.record), self.router_asked(tenant.record)
        tenant.errors.pop(r.ERROR_DOMAIN, None)
        tenant.errors.pop(r.ERROR_ROUTER, None)
        if isinstance(domain, Failure):
            tenant.errors[r.ERROR_DOMAIN] = domain
        elif domain != have.domain:
            name = next((each.name for each in self.layout.domains if each.number == have.domain), "")
            place = f"in routing domain {name or have.domain}" if have.domain else "in no routing domain of its own"
            text = f"the namespace is {place}; {r.ROUTING_DOMAIN} is followed when it is created"
            tenant.errors[r.ERROR_DOMAIN] = Failure("ROUTING_DOMAIN_ON_EXISTING_NAMESPACE_NOT_SUPPORTED", text)
        if tenant.record.annotations.get(r.ROUTER) and not isinstance(router, Failure) and router != have.router:
            text = f"the namespace hangs off router {have.router}; {r.ROUTER} is followed when it is created"
            tenant.errors[r.ERROR_ROUTER] = Failure("ROUTER_ON_EXISTING_NAMESPACE_NOT_SUPPORTED", text)

    def _cut_segment(self, tenant: Tenant, *, no_snat: bool, router: int | None, domain: int) -> Failure | None:
        segment, self.supply = self.supply.cut(no_snat=no_snat, router=router, domain=domain)
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
            for (domain, address), until in self._echoes.items()
            if domain == segment.domain and any(gateway.prefix.covers(address) for gateway in segment.gateways)
        ]
        for address, until in inside:
            del self._echoes[segment.domain, address]
            self.lay_to_rest(tenant, address, until)

    def lay_to_rest(self, tenant: Tenant, address: Address, until: float) -> None:
        """A free address of a namespace rests; who had it is not known."""
        tenant.chain = tenant.chain.rest(address, until)
        heapq.heappush(self._due, (until, tenant.record.name))
        self.rested.add(tenant.record.name)

    def extend(self, tenant: Tenant) -> Failure | None:
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
            first = tenant.segments[0]
            failure = self._cut_segment(tenant, no_snat=no_snat, router=first.router, domain=first.domain)
            annotation = r.ERROR_NETWORK
        if failure is not None:
            tenant.errors[annotation] = failure
        self.changed.add(name)
        return failure

    def clear_errors(self, tenant: Tenant, waits: bool) -> bool:
        """Forget that addresses were exhausted once no pod waits for one any more."""
        if not tenant.segments or waits:
            return False
        gone = tenant.errors.pop(r.ERROR_NETWORK, None)
        if tenant.errors.get(r.ERROR_SUBNETS, Failure("", "")).code == "NAMESPACE_SUBNETS_EXHAUSTED":
            gone = tenant.errors.pop(r.ERROR_SUBNETS)
        return gone is not None

    def malformed(self, namespace: str, annotation: str, error: Exception) -> None:
        """Say that an annotation of a namespace cannot be read."""
        self._note(
            namespace, "MALFORMED_ANNOTATION", f"annotation {annotation} cannot be read ({error}); it is decided anew"
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

"""Books from objects alone, after a start or a change of leader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from ipam.address import Address, Prefix
from ncp.manager import records as r
from ncp.manager.accounts import wants_no_snat
from ncp.manager.decide import Books, age
from ncp.manager.layout import SHARED_ROUTER, Layout
from ncp.manager.records import NamespaceRecord, PodRecord, Port, Segment
from ncp.manager.routers import Routers
from ncp.manager.supply import Failure, first_host
from ncp.manager.tenant import Tenant

LEAP = 24
"""How far rebuilt books go on behind the youngest address they see: pods made after it may have come and gone."""


def rebuild(
    layout: Layout,
    namespaces: Iterable[NamespaceRecord],
    pods: Iterable[PodRecord],
    now: float,
    routers: Routers = MappingProxyType({}),
) -> Books:
    """The books that a cluster's objects show. Their first decisions are what the objects lack.

    Where two objects claim the same thing, the older one (creationTimestamp, then uid) keeps it.

    Raises:
        BlockError: the configured blocks do not fit together.
    """
    books = Books(layout)
    books.see_routers(routers)
    _read(books, sorted(namespaces, key=age), sorted(pods, key=age), now)
    return books


def _read(books: Books, namespaces: Sequence[NamespaceRecord], pods: Sequence[PodRecord], now: float) -> None:
    for namespace in namespaces:
        books.see_namespace(namespace.name, namespace)
    for pod in pods:
        books.see_pod((pod.namespace, pod.name), pod)
    for namespace in namespaces:
        books.accounts.open(namespace)
    _recover_segments(books, pods)
    for pod in pods:
        shown, tenant = pod.annotations.get(r.PORT), books.tenants.get(pod.namespace)
        if shown is not None and tenant is not None and pod.wants_port:
            books.adopt(pod, tenant, shown, note=False)
    for tenant in books.tenants.values():
        _rest_shown(books, tenant, now)
    _rest_finished(books, pods, now)
    _go_on(books)


def _recover_segments(books: Books, pods: Iterable[PodRecord]) -> None:
    """Segments of a namespace that shows none, as its pods' ports show them: running pods keep their addresses."""
    found: dict[tuple[str, int], Port] = {}
    bare = {name for name, tenant in books.tenants.items() if not tenant.segments}
    for pod in pods:
        text = pod.annotations.get(r.PORT)
        if text is None or pod.namespace not in bare or not pod.wants_port:
            continue
        try:
            port = r.parse_port(text)
        except ValueError:
            continue  # it is decided anew, with an event
        found.setdefault((pod.namespace, port.vni), port)
    for (name, vni), port in sorted(found.items()):
        tenant = books.tenants[name]
        no_snat = wants_no_snat(tenant.record)
        domain, asked = books.accounts.domain_asked(tenant.record), books.accounts.router_asked(tenant.record)
        if isinstance(domain, Failure) or isinstance(asked, Failure):
            continue  # the namespace waits
        subnets = [each.prefix for each in port.addresses]
        if not _are_cut(books.layout, subnets, no_snat=no_snat, domain=domain):
            continue
        own = asked or (SHARED_ROUTER if books.layout.single_tier else vni)
        router = tenant.segments[0].router if tenant.segments else own
        gateways = tuple(first_host(subnet) for subnet in subnets)
        try:
            snat = books.layout.enable_snat and not no_snat and not domain
            books.accounts.recover(tenant, Segment(vni, router, gateways, snat, domain))
        except ValueError:
            continue  # somebody else has it: the pods' ports are decided anew, with events


def _are_cut(layout: Layout, subnets: Sequence[Prefix], *, no_snat: bool, domain: int) -> bool:
    """Whether subnets could have been cut together from the blocks."""
    blocks, lengths = layout.blocks_for(no_snat=no_snat, domain=domain), dict(layout.lengths)
    return {subnet.family for subnet in subnets} == {block.family for block in blocks} and all(
        subnet.length == lengths[subnet.family] and any(block.covers(subnet) for block in blocks) for subnet in subnets
    )


def _rest_shown(books: Books, tenant: Tenant, now: float) -> None:
    """What ``ncp/resting`` says. No rest is longer than the rest time: a clock or an edit was wrong then."""
    text = tenant.record.annotations.get(r.RESTING)
    if text is None:
        return
    try:
        shown = r.parse_resting(text)
    except ValueError as error:
        books.accounts.malformed(tenant.record.name, r.RESTING, error)
        return
    for address, until in sorted(shown.items()):
        if until > now:
            books.accounts.lay_to_rest(tenant, address, min(until, now + books.layout.rest))


def _rest_finished(books: Books, pods: Iterable[PodRecord], now: float) -> None:
    """Pods that finished while nobody looked still show their port: their addresses rest from their end on."""
    for pod in pods:
        text, tenant = pod.annotations.get(r.PORT), books.tenants.get(pod.namespace)
        if text is None or tenant is None or not pod.terminal:
            continue
        until = (now if pod.ended is None else pod.ended) + books.layout.rest
        try:
            addresses = [each.address for each in r.parse_port(text).addresses]
        except ValueError:
            continue  # it never was a port
        for address in addresses:
            if until > now and not any(ledger.rest_of(address) for ledger in tenant.chain.ledgers()):
                books.accounts.lay_to_rest(tenant, address, min(until, now + books.layout.rest))


def _go_on(books: Books) -> None:
    """Let each subnet's search go on a little way behind the address of its youngest pod."""
    youngest: dict[tuple[str, Prefix], tuple[str, Address]] = {}
    for key, holding in books.ports.items():
        for each in holding.port.addresses:
            place = (key[0], each.prefix)
            youngest[place] = max(youngest.get(place, ("", each.address)), (books.pods[key].created, each.address))
    for (name, _), (_, address) in youngest.items():
        tenant = books.tenants[name]
        tenant.chain = tenant.chain.go_on(address, LEAP)

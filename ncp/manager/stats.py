"""Figures about the books."""

from __future__ import annotations

from ncp.manager.decide import Books
from ncp.manager.metrics import BlockUsage, Stats, Usage


def stats_of(books: Books) -> Stats:
    """What the books hold now."""
    usages = []
    for name, tenant in sorted(books.tenants.items()):
        for family in (4, 6):
            ledgers = [ledger for ledger in tenant.chain.ledgers() if ledger.subnet.family == family]
            if ledgers:
                free, held = sum(x.free for x in ledgers), sum(x.held for x in ledgers)
                usages.append(Usage(name, family, free, held, sum(x.resting for x in ledgers)))
    supply = books.accounts.supply
    blocks = [BlockUsage(str(each.prefix), each.capacity, len(each.used)) for each in supply.blocks.blocks]
    for domain in books.layout.domains:
        own = supply.of_domain(domain.number).blocks
        blocks += [BlockUsage(f"{domain.name}={each.prefix}", each.capacity, len(each.used)) for each in own]
    return Stats(tuple(usages), tuple(blocks), len(books.ports), len(books.failures), len(books.accounts.supply.vnis))

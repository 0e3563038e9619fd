import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ipam.address import Address, parse_address, parse_prefix
from ipam.chain import Chain
from ipam.ledger import Ledger, Rest
from ipam.pool import AddressHeld, parse_ranges

SMALL = parse_prefix("10.4.0.0/28")  # 13 usable addresses


def take(ledger: Ledger, *owners: str, now: float = 0.0) -> tuple[list[str], Ledger]:
    found = []
    for owner in owners:
        address, ledger = ledger.allocate(owner, now)
        found.append(str(address))
    return found, ledger


@pytest.mark.parametrize(
    ("subnet", "usable", "gateway", "first", "last"),
    [
        ("10.4.0.0/24", 253, "10.4.0.1/24", "10.4.0.2", "10.4.0.254"),
        ("10.4.0.0/30", 1, "10.4.0.1/30", "10.4.0.2", "10.4.0.2"),
        ("fd00::/126", 2, "fd00::1/126", "fd00::2", "fd00::3"),
        ("fd00::/64", 2**64 - 2, "fd00::1/64", "fd00::2", None),
    ],
)
def test_network_gateway_and_broadcast_are_never_given(subnet, usable, gateway, first, last):
    ledger = Ledger.of(parse_prefix(subnet))
    assert (ledger.usable, str(ledger.gateway)) == (usable, gateway)
    if last is None:
        found, _ = take(ledger, "a")
    else:
        found, ledger = take(ledger, *(f"p{n}" for n in range(usable)))
        assert found[-1] == last
        assert ledger.allocate("more", 0.0) == (None, ledger)
    assert found[0] == first


@pytest.mark.parametrize("subnet", ["10.4.0.0/31", "10.4.0.0/32", "fd00::/127", "fd00::/128"])
def test_a_subnet_without_room_for_a_pod_is_refused(subnet):
    with pytest.raises(ValueError, match="too small"):
        Ledger.of(parse_prefix(subnet))


def test_an_address_is_not_reused_inside_the_rest_time_and_is_after_it():
    _, ledger = take(Ledger.of(parse_prefix("10.4.0.0/29")), *"abcde")
    ledger = ledger.release("c", until=60.0)
    assert ledger.allocate("f", 59.9)[0] is None
    address, ledger = ledger.allocate("f", 60.0)
    assert str(address) == "10.4.0.4"


def test_a_released_address_is_the_last_to_come_back_even_without_rest():
    found, ledger = take(Ledger.of(SMALL), "a", "b")
    ledger = ledger.release("a", until=0.0)
    names = [f"p{n}" for n in range(12)]
    later, ledger = take(ledger, *names, now=1.0)
    assert later[0] == "10.4.0.4"
    assert later[-1] == found[0]


def test_an_owner_has_one_address_and_an_address_one_owner():
    found, ledger = take(Ledger.of(SMALL), "a", "a")
    assert found == ["10.4.0.2", "10.4.0.2"]
    with pytest.raises(AddressHeld):
        ledger.claim(parse_address("10.4.0.2"), "b")
    with pytest.raises(ValueError, match=r"holds 10\.4\.0\.2 already"):
        ledger.claim(parse_address("10.4.0.3"), "a")
    for outside in ("10.4.0.0", "10.4.0.1", "10.4.0.15", "10.4.1.2", "fd00::2"):
        with pytest.raises(ValueError, match="cannot be given"):
            ledger.claim(parse_address(outside), "b")


def test_addresses_set_aside_are_only_given_when_claimed():
    ledger = Ledger.of(SMALL).set_aside(parse_ranges("10.4.0.2-10.4.0.13, fd00::/64"))
    found, ledger = take(ledger, "a", "b")
    assert found == ["10.4.0.14", "None"]
    ledger = ledger.claim(parse_address("10.4.0.5"), "b")
    assert (ledger.held, ledger.free) == (2, 11)
    assert take(ledger.set_aside(()), "c")[0] == ["10.4.0.2"]


def test_a_huge_range_set_aside_costs_nothing():
    ledger = Ledger.of(parse_prefix("fd00::/64")).set_aside(parse_ranges("fd00::2-fd00::ffff:ffff:ffff"))
    assert take(ledger, "a")[0] == ["fd00::1:0:0:0"]


class LedgerMachine(RuleBasedStateMachine):
    """Any sequence of allocations, claims, releases and hours passing."""

    def __init__(self):
        super().__init__()
        self.ledger = Ledger.of(SMALL)
        self.now = 0.0
        self.held: dict[str, Address] = {}
        self.rests: dict[Address, float] = {}
        self.last: Address | None = None
        self.history: list[tuple[str, object]] = []

    @rule(owner=st.sampled_from([f"p{n}" for n in range(20)]))
    def allocate(self, owner):
        address, self.ledger = self.ledger.allocate(owner, self.now)
        if owner in self.held:
            assert address == self.held[owner]
            return
        self.rests = {a: until for a, until in self.rests.items() if until > self.now}
        if address is None:
            assert len(self.held) + len(self.rests) == self.ledger.usable
            return
        assert address not in self.held.values()
        assert address not in self.rests
        self.last = self.held[owner] = address

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 100), seconds=st.integers(0, 50))
    def release(self, pick, seconds):
        owner = sorted(self.held)[pick % len(self.held)]
        self.ledger = self.ledger.release(owner, self.now + seconds)
        self.rests[self.held.pop(owner)] = self.now + seconds

    @rule(offset=st.integers(0, 15), owner=st.sampled_from(["x", "y"]))
    def claim(self, offset, owner):
        address = Address(4, SMALL.value + offset)
        try:
            self.ledger = self.ledger.claim(address, owner)
        except ValueError:
            assert offset in (0, 1, 15) or owner in self.held or address in self.held.values()
            return
        self.held[owner] = address
        self.rests.pop(address, None)

    @rule(seconds=st.integers(1, 40))
    def pass_time(self, seconds):
        self.now += seconds
        self.ledger = self.ledger.expire(self.now)
        self.rests = {a: until for a, until in self.rests.items() if until > self.now}

    @invariant()
    def every_usable_address_is_held_or_rests_or_is_free(self):
        assert self.ledger.held + self.ledger.resting + self.ledger.free == self.ledger.usable == 13
        assert self.ledger.holders() == {a: owner for owner, a in sorted(self.held.items(), key=lambda i: i[1])}
        assert {a: rest.until for a, rest in self.ledger.rests().items()} == dict(sorted(self.rests.items()))

    @invariant()
    def what_is_shown_rebuilds_the_same_ledger_in_any_order(self):
        held = list(self.held.items())
        rests = list(self.ledger.rests().items())
        random.Random(len(held)).shuffle(held)
        random.Random(len(rests)).shuffle(rests)
        rebuilt = Ledger.rebuild(SMALL, dict(held), dict(rests), self.last)
        assert (rebuilt.holders(), rebuilt.rests()) == (self.ledger.holders(), self.ledger.rests())
        assert rebuilt.allocate("next", self.now)[0] == self.ledger.allocate("next", self.now)[0]


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def link(*subnets: str) -> tuple[Ledger, ...]:
    return tuple(Ledger.of(parse_prefix(subnet)) for subnet in subnets)


def test_a_further_link_is_used_when_those_before_it_are_full_in_any_family():
    chain = Chain().extend(link("10.4.0.0/30", "fd00::/64"))
    first, chain = chain.allocate("a", 0.0)
    full, chain = chain.allocate("b", 0.0)
    assert (full, first.link) == (None, 0)
    chain = chain.extend(link("10.4.1.0/24", "fd00:0:0:1::/64"))
    second, chain = chain.allocate("b", 0.0)
    assert (second.link, *map(str, second.addresses)) == (1, "10.4.1.2", "fd00:0:0:1::2")
    assert [ledger.held for ledger in chain.ledgers()] == [1, 1, 1, 1]


def test_a_claim_in_a_chain_is_for_all_addresses_or_none():
    chain = Chain().extend(link("10.4.0.0/24", "fd00::/64"))
    chain = chain.claim(0, "a", [parse_address("10.4.0.9"), parse_address("fd00::9")])
    with pytest.raises(AddressHeld):
        chain.claim(0, "b", [parse_address("10.4.0.8"), parse_address("fd00::9")])
    assert chain.holder(parse_address("10.4.0.8")) is None
    assert chain.holder(parse_address("fd00::9")) == "a"


@given(st.data())
def test_the_same_calls_give_the_same_addresses(data):
    steps = data.draw(st.lists(st.tuples(st.sampled_from("ar"), st.integers(0, 9)), max_size=30))

    def play() -> list[str]:
        ledger, found = Ledger.of(SMALL), []
        for now, (what, who) in enumerate(steps):
            if what == "a":
                address, ledger = ledger.allocate(f"p{who}", now)
                found.append(str(address))
            else:
                ledger = ledger.release(f"p{who}", now + 5.0)
        return found

    assert play() == play()


def test_a_rest_laid_on_a_held_address_does_nothing():
    _, ledger = take(Ledger.of(SMALL), "a")
    assert ledger.rest(parse_address("10.4.0.2"), 99.0) is ledger
    assert ledger.rest(parse_address("10.4.0.1"), 99.0) is ledger
    assert ledger.rest(parse_address("10.4.0.3"), 99.0).rest_of(parse_address("10.4.0.3")) == Rest(99.0)


def test_an_allocation_among_ten_thousand_costs_about_as_much_as_the_first():
    def cost(held: int) -> float:
        _, ledger = take(Ledger.of(parse_prefix("10.4.0.0/16")), *(f"p{n}" for n in range(held)))
        best = 1.0
        for _ in range(200):
            began = time.perf_counter()
            ledger.allocate("one", 0.0)
            best = min(best, time.perf_counter() - began)
        return best

    assert cost(10_000) < 12 * cost(10)

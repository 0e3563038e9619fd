"""Real FRR daemons in two namespaces: what they learn, lose, and say of each other."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ipam.address import parse_prefix
from ncp.frr.daemons import Daemons, stop
from ncp.frr.render import render
from ncp.frr.vty import FrrError
from tests.frr.routers import routers, wait

pytestmark = pytest.mark.switch

FOUR, SIX = "172.16.1.1/32", "fd77::1/128"


def test_neighbors_learn_exactly_what_is_announced_and_lose_it_when_withdrawn(tmp_path):
    with routers(tmp_path) as (one, two):
        wait(lambda: one.up() and two.up(), "sessions")
        one.announce(FOUR, "10.4.0.0/24", SIX)
        wait(lambda: two.learned() == {FOUR, "10.4.0.0/24", SIX}, "announced")
        wait(lambda: "172.16.1.1 " in two.kernel() and "fd77::1 " in two.kernel("-6"), "in the kernel")
        assert one.learned() == set()
        started = time.monotonic()
        one.announce("10.4.0.0/24")
        wait(lambda: two.learned() == {"10.4.0.0/24"}, "withdrawn")
        wait(lambda: "172.16.1.1 " not in two.kernel() and not two.kernel("-6"), "gone from the kernel")
        assert time.monotonic() - started < 0.5
        assert two.peers()["10.9.0.1"].received == 1
        assert one.peers()["10.9.0.2"].sent == 1


def test_what_was_learned_is_not_passed_on_nor_taken_where_it_is_our_own(tmp_path):
    with routers(tmp_path) as (one, two):
        two.tell(own=(parse_prefix("10.4.0.0/16"), parse_prefix("fd10::/16")))
        one.announce("10.4.0.0/24", "10.5.7.0/24", "fd10:1::/64", "fd11::/64")
        wait(lambda: two.learned() == {"10.5.7.0/24", "fd11::/64"}, "learned but for our own")
        assert two.peers()["10.9.0.1"].sent == 0
        assert two.peers()["fd09:1::1"].sent == 0


def test_a_router_that_is_not_to_learn_takes_nothing(tmp_path):
    with routers(tmp_path) as (one, two):
        two.tell(learn=False)
        one.announce(FOUR)
        wait(lambda: one.up() and one.peers()["10.9.0.2"].sent == 1, "announced")
        assert two.learned() == set()
        assert not two.kernel()
        two.tell(learn=True)
        wait(lambda: two.learned() == {FOUR}, "learned now")


def test_bfd_notices_a_dead_link_long_before_bgp_does(tmp_path):
    with routers(tmp_path, keepalive=30, hold=90) as (one, two):
        one.announce(FOUR)
        wait(lambda: two.kernel() and all(each.bfd == "up" for each in two.daemons.peers()), "sessions and BFD")
        one.cut()
        started = time.monotonic()
        wait(lambda: not two.kernel(), "the route gone")
        assert time.monotonic() - started < 1.5
        assert "BFD" in wait(lambda: two.peers()["10.9.0.1"].reason, "a reason")
        assert two.peers()["10.9.0.1"].bfd == "down"


@pytest.mark.parametrize("name", ["zebra", "bfdd", "bgpd"])
def test_a_daemon_that_was_killed_is_started_again_and_knows_everything(tmp_path, name):
    with routers(tmp_path) as (one, two):
        one.announce(FOUR, SIX)
        wait(lambda: two.learned() == {FOUR, SIX} and all(each.bfd == "up" for each in one.daemons.peers()), "first")
        pid = one.daemons.pid(name)
        os.kill(pid, signal.SIGKILL)
        wait(lambda: one.daemons.pid(name) is None, "dead")
        one.speaker = replace(one.speaker, prefixes=(one.speaker.prefixes[0],))  # and something changed meanwhile
        assert one.daemons.ensure(render(one.speaker)) == (name,)
        assert one.daemons.pid(name) not in (None, pid)
        wait(lambda: two.learned() == {FOUR} and "172.16.1.1 " in two.kernel(), "only what is announced now")
        wait(lambda: all(each.up and each.bfd == "up" for each in one.daemons.peers()), "all well")
        two.announce("192.0.2.0/24")
        wait(lambda: "192.0.2.0/24" in one.kernel(), "learns too, into the kernel")


def test_the_next_process_goes_on_with_the_same_daemons_and_sessions(tmp_path):
    with routers(tmp_path) as (one, two):
        one.announce(FOUR)
        wait(lambda: two.learned() == {FOUR} and two.up(), "learned")
        before = [one.daemons.pid(name) for name in ("zebra", "bfdd", "bgpd")]
        next_one = Daemons(one.daemons.rundir, one.netns)
        assert next_one.ensure(render(replace(one.speaker, prefixes=()))) == ()
        wait(lambda: two.learned() == set(), "withdrawn by the next")
        assert [next_one.pid(name) for name in ("zebra", "bfdd", "bgpd")] == before
        assert two.up()


def test_a_neighbor_of_another_as_is_told_with_its_reason_and_put_right(tmp_path):
    with routers(tmp_path) as (one, two):
        wait(lambda: one.up() and two.up(), "sessions")
        right = one.speaker.neighbors
        one.tell(neighbors=tuple(replace(each, asn=64999) for each in right))
        reason = wait(lambda: (peer := one.peers()["10.9.0.2"]).asn == 64999 and not peer.up and peer.reason, "refused")
        wait(lambda: "Bad Peer AS" in one.peers()["10.9.0.2"].reason, f"the reason, not {reason}")
        one.tell(neighbors=right)
        wait(lambda: one.up() and two.up(), "right again")


def test_a_wrong_password_keeps_a_neighbor_away_and_is_in_no_message(tmp_path):
    with routers(tmp_path, password="sesame") as (one, two):
        wait(lambda: one.up() and two.up(), "sessions")
        one.tell(neighbors=tuple(replace(each, password="other") for each in one.speaker.neighbors))
        wait(lambda: not any(each.up for each in one.daemons.peers()), "away")
        with pytest.raises(FrrError) as refused:
            one.tell(neighbors=(replace(one.speaker.neighbors[0], password="x " * 200),))
        assert "password …" in str(refused.value)
        assert "x x" not in str(refused.value)


def test_two_cables_are_used_both_and_one_is_lost_in_bfd_time(tmp_path):
    with routers(tmp_path, cables=2) as (one, two):
        one.announce(FOUR, SIX)

        def both():
            return all(two.kernel(family).count(" via ") == 2 for family in ("-4", "-6"))

        wait(lambda: both() and all(each.bfd == "up" for each in one.daemons.peers()), "two next hops in each family")
        assert {len(each.next_hops) for each in two.daemons.learned()} == {2}
        one.cut(0)
        started = time.monotonic()
        wait(lambda: all(two.kernel(family).count(" via ") == 1 for family in ("-4", "-6")), "the other cable alone")
        assert time.monotonic() - started < 1.5
        one.mend(0)
        wait(both, "both again")


def test_without_the_package_it_says_what_to_install(tmp_path):
    with pytest.raises(FrrError, match=r"zebra is not there; install the package frr"):
        Daemons(tmp_path / "run", programs=tmp_path / "none").ensure("")


def test_stopping_ends_exactly_the_daemons_of_the_directory(tmp_path):
    with routers(tmp_path) as (one, two):
        pids = [one.daemons.pid(name) for name in ("bgpd", "bfdd", "zebra")]
        assert stop(one.daemons.rundir) == ("bgpd", "bfdd", "zebra")
        assert not one.daemons.rundir.exists()
        assert not any(os.path.exists(f"/proc/{pid}") and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)
        assert two.daemons.pid("bgpd") is not None
        assert stop(one.daemons.rundir) == ()

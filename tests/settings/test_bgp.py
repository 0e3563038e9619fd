"""Section ``[bgp]`` of ``ncp.ini``."""

from __future__ import annotations

import pytest

from ncp.settings import SettingsError, effective, parse


def test_peers_are_read_with_their_as_and_written_back():
    peers = parse("[bgp]\nlocal_as = 65000\npeers = 192.168.10.1 as 65100, fd00::1  as 4200000000 multihop").bgp.peers
    assert [(str(each.address), each.asn, each.multihop) for each in peers] == [
        ("192.168.10.1", 65100, False), ("fd00::1", 4200000000, True),
    ]  # fmt: skip
    assert ", ".join(map(str, peers)) == "192.168.10.1 as 65100, fd00::1 as 4200000000 multihop"


def test_kinds_that_are_announced_are_in_one_order():
    assert parse("").bgp.announce == ("vips", "snat", "no_snat")
    assert parse("[bgp]\nannounce = SEGMENTS, vips").bgp.announce == ("vips", "segments")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("peers = 192.168.10.1", "'192.168.10.1' is no peer"),
        ("peers = 192.168.10.1 as 0", "is no peer"),
        ("peers = 192.168.10.300 as 7", "is not an IPv4 or IPv6 address"),
        ("peers = 10.0.0.1 as 7, 10.0.0.1 as 8", "10.0.0.1 is there twice"),
        ("announce = vips, pods", "no such choice as 'pods'"),
        ("bfd_interval_ms = 50", "out of range"),
        ("password = two words", "another form"),
        ("keepalive = 2", "[bgp] hold 3 is less than three times keepalive 2"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(line, said):
    with pytest.raises(SettingsError) as wrong:
        parse(f"[bgp]\nlocal_as = 65000\n{line}")
    assert said in str(wrong.value)
    assert "allowed:" in str(wrong.value)


def test_peers_without_an_as_of_our_own_are_a_contradiction():
    with pytest.raises(SettingsError, match=r"\[bgp\] peers 10.0.0.1 as 7 has no local_as"):
        parse("[bgp]\npeers = 10.0.0.1 as 7")


def test_the_password_is_not_shown():
    shown = {each.option.name: each.text for each in effective(parse("[bgp]\npassword = sesame"))}
    assert shown["password"] == "(not shown)"

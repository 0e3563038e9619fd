"""Underlays built for real: packets pass, and nothing stays."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from ipam.address import parse_prefix
from topologies import build, catalog, netns
from topologies.plan import namespace

pytestmark = pytest.mark.switch
BLOCKS = (parse_prefix("10.4.0.0/16"), parse_prefix("fd00:10:4::/48"))


@pytest.fixture(name="lab")
def lab_id():
    name = f"t{os.getpid():x}"
    yield name
    build.remove(name)


def ping(lab, owner, address):
    command = ["ip", "netns", "exec", namespace(lab, owner), "ping", "-c1", "-W2", "-n", address]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_hosts_reach_the_outside_through_the_router_and_nothing_stays(lab):
    with ExitStack() as undo:
        build.build(catalog.two_racks(), lab, undo, BLOCKS)
        assert ping(lab, "r", "192.168.59.250")
        assert ping(lab, "r", "fd59::250")
        assert ping(lab, "ext", "192.168.52.1"), "the external host routes to the racks"
        assert ping(lab, "r", "203.0.113.1"), "the router's default route leads to the external host"
        assert ping(lab, "r", "2001:db8:113::1")
        assert netns.ip("-n", namespace(lab, "ext"), "route", "get", "10.4.0.9").split()[2] == "192.168.59.1"
        assert netns.ip("-n", namespace(lab, "r"), "route", "get", "10.4.0.9").split()[2] == "192.168.51.11"
        assert len(netns.with_prefix(f"ncp{lab}-")) == 7
    assert netns.with_prefix(f"ncp{lab}-") == ()


def test_a_failure_half_way_removes_what_was_made(lab):
    netns.create(namespace(lab, "node2"))
    with pytest.raises(netns.NamespaceError, match="node2"), ExitStack() as undo:
        build.build(catalog.three_nodes(), lab, undo)
    assert netns.with_prefix(f"ncp{lab}-") == ()


def test_what_a_killed_builder_left_is_removed_by_the_labs_id(lab):
    code = f"""
import time
from contextlib import ExitStack
from topologies import build, catalog
build.build(catalog.three_nodes(), {lab!r}, ExitStack())
print("built", flush=True)
time.sleep(600)
"""
    builder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert builder.stdout.readline() == "built\n"
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    builder.stdout.close()
    assert len(netns.with_prefix(f"ncp{lab}-")) == 5
    assert set(build.remove(lab)) == {f"ncp{lab}-{one}" for one in ("ul", "ext", "node1", "node2", "node3")}
    assert netns.with_prefix(f"ncp{lab}-") == ()


def test_a_dead_name_from_before_a_reboot_is_taken_over(lab):
    netns.RUN.mkdir(exist_ok=True)
    netns.path(namespace(lab, "ul")).touch()
    assert not netns.exists(namespace(lab, "ul"))
    with ExitStack() as undo:
        build.build(catalog.one_node(), lab, undo)
        assert netns.exists(namespace(lab, "ul"))

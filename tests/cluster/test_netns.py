from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable

import pytest

from labs.kubelet import netns


def test_namespace_is_one_that_ip_netns_can_enter_with_loopback_up(new_netns: Callable[[], str]) -> None:
    name = new_netns()
    command = ["ip", "netns", "exec", name, "ip", "-o", "addr", "show", "lo"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "127.0.0.1/8" in shown


def test_caller_stays_where_it_was(new_netns: Callable[[], str]) -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    inside = netns.run_in(new_netns(), lambda: os.stat("/proc/thread-self/ns/net").st_ino)
    assert inside != before
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


def test_many_namespaces_add_one_mount_each(new_netns: Callable[[], str]) -> None:
    def mounts() -> int:
        with open("/proc/self/mountinfo") as table:
            return sum("/run/netns" in line for line in table)

    new_netns()
    before = mounts()
    for _ in range(5):
        new_netns()
    assert mounts() - before <= 10  # 5, and room for other tests of this machine; doubling would give 32 times


def test_a_name_is_taken_once(new_netns: Callable[[], str]) -> None:
    name = new_netns()
    with pytest.raises(FileExistsError):
        netns.create(name)
    assert netns.exists(name)


def test_a_leftover_file_is_no_namespace_and_does_not_hinder_a_new_one(new_netns: Callable[[], str]) -> None:
    name = new_netns()
    netns.delete(name)
    netns.path(name).touch()
    assert not netns.exists(name)
    netns.create(name)
    assert netns.exists(name)


def test_deleting_twice_is_fine(new_netns: Callable[[], str]) -> None:
    name = new_netns()
    netns.delete(name)
    netns.delete(name)
    assert not netns.path(name).exists()


def test_what_the_call_raises_reaches_the_caller(new_netns: Callable[[], str]) -> None:
    with pytest.raises(ZeroDivisionError):
        netns.run_in(new_netns(), lambda: 1 // 0)
    with pytest.raises(FileNotFoundError):
        netns.run_in("ncptest-nowhere", lambda: None)


def test_sockets_made_inside_stay_inside(new_netns: Callable[[], str]) -> None:
    name = new_netns()
    with netns.run_in(name, lambda: socket.create_server(("127.0.0.1", 4242))):
        with netns.run_in(name, socket.socket) as client:
            client.connect(("127.0.0.1", 4242))
        with socket.socket() as outside, pytest.raises(ConnectionRefusedError):
            outside.connect(("127.0.0.1", 4242))

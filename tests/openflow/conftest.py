"""A switch without devices for these tests, and sessions that are ended when a test is."""

from __future__ import annotations

import itertools
import os
import queue
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import pytest

from sdn.openflow.session import Switch
from sdn.openflow.values import PacketIn
from tests.support.ovs import PrivateOvs

OWNER = 0x2A
SECONDS = 8.0


class Watched:
    """A started session and everything it said."""

    def __init__(self, place: Path, bridge: str) -> None:
        self.up: queue.Queue[Switch] = queue.Queue()
        self.down: queue.Queue[str] = queue.Queue()
        self.packets: queue.Queue[PacketIn] = queue.Queue()
        self.switch = Switch(
            place,
            bridge,
            owner=OWNER,
            on_connected=self.up.put,
            on_disconnected=lambda _, reason: self.down.put(reason),
            on_packet_in=lambda _, packet: self.packets.put(packet),
        )

    def __enter__(self) -> Watched:
        self.switch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.switch.stop()


@pytest.fixture(scope="session")
def shared_ovs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateOvs]:
    """One private Open vSwitch for all tests that only need a bridge of their own."""
    if shutil.which("ovs-vswitchd") is None:
        pytest.fail("Open vSwitch is not installed: apt-get install openvswitch-switch")
    with PrivateOvs(tmp_path_factory.mktemp(f"of{os.getpid()}")) as ovs:
        yield ovs


_numbers = itertools.count()


@pytest.fixture
def bridge(shared_ovs: PrivateOvs) -> Iterator[str]:
    """A bridge of the test's own."""
    name = f"br{next(_numbers)}"
    shared_ovs.add_bridge(name)
    yield name
    shared_ovs.vsctl("del-br", name)


@pytest.fixture
def watched(shared_ovs: PrivateOvs, bridge: str) -> Iterator[Watched]:
    """A connected session with the test's bridge."""
    with Watched(shared_ovs.rundir, bridge) as session:
        session.up.get(timeout=SECONDS)
        yield session


@pytest.fixture
def switch(watched: Watched) -> Switch:
    """The same, for tests that only apply and read."""
    return watched.switch


@pytest.fixture
def watch() -> Iterator[Callable[[Path, str], Watched]]:
    """Start sessions that end with the test."""
    started: list[Watched] = []

    def start(place: Path, bridge: str = "br-int") -> Watched:
        started.append(Watched(place, bridge).__enter__())
        return started[-1]

    yield start
    for one in started:
        one.switch.stop()

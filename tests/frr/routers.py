"""Two routers in two network namespaces, joined by a cable or two."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ipam.address import parse_address, parse_prefix
from ncp.frr.daemons import Daemons, stop
from ncp.frr.model import Neighbor, Peer, Speaker
from ncp.frr.render import render
from tests.support.netns import ip, namespace, run_in

T = TypeVar("T")


def wait(condition: Callable[[], T], what: str, seconds: float = 15.0) -> T:
    """What a condition gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.01)
    return found


@dataclass
class Router:
    """One of the two, with what it was last told."""

    netns: str
    middle: str
    daemons: Daemons
    speaker: Speaker

    def tell(self, **changes: object) -> tuple[str, ...]:
        """Change what it says; who had to be started."""
        self.speaker = replace(self.speaker, **changes)
        return self.daemons.ensure(render(self.speaker))

    def announce(self, *prefixes: str) -> None:
        self.tell(prefixes=tuple(parse_prefix(each) for each in prefixes))

    def peers(self) -> dict[str, Peer]:
        return {str(each.address): each for each in self.daemons.peers()}

    def cut(self, cable: int = 0) -> None:
        """Lose every packet of a cable, while both ends see the link up."""
        ip("link", "set", f"r1c{cable}", "nomaster", netns=self.middle)

    def mend(self, cable: int = 0) -> None:
        """Undo :meth:`cut`."""
        ip("link", "set", f"r1c{cable}", "master", f"sw{cable}", netns=self.middle)

    def up(self) -> bool:
        return all(each.up for each in self.daemons.peers())

    def learned(self) -> set[str]:
        return {str(each.prefix) for each in self.daemons.learned()}

    def kernel(self, family: str = "-4") -> str:
        """Routes of FRR in the kernel, as ip(8) has them."""
        return ip(family, "route", "show", "proto", "bgp", netns=self.netns)


@contextlib.contextmanager
def routers(directory: Path, cables: int = 1, **neighbor: object) -> Iterator[tuple[Router, Router]]:
    """AS 65001 and AS 65002, started and peering over each cable in both families."""
    with contextlib.ExitStack() as stack:
        *names, middle = (stack.enter_context(namespace("frr")) for _ in range(3))
        made = []
        for number, netns in enumerate(names, 1):
            ip("link", "set", "lo", "up", netns=netns)
            # A link-local address that is still tried for two seconds would keep IPv6 sessions waiting.
            run_in(netns, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
            rundir = directory / f"r{number}"
            stack.callback(stop, rundir)
            made.append(
                Router(netns, middle, Daemons(rundir, netns), Speaker(65000 + number, parse_address(f"1.1.1.{number}")))
            )
        for cable in range(cables):
            _connect(names, middle, cable)
        for number, router in enumerate(made, 1):
            peers = tuple(
                Neighbor(parse_address(address), 65000 + 3 - number, **neighbor)
                for cable in range(cables)
                for address in (f"10.9.{cable}.{3 - number}", f"fd09:{cable + 1}::{3 - number}")
            )
            router.tell(neighbors=peers, hostname=f"r{number}")
        yield made[0], made[1]


def _connect(names: list[str], middle: str, cable: int) -> None:
    ip("link", "add", f"sw{cable}", "up", "type", "bridge", netns=middle)
    for number, netns in enumerate(names, 1):
        far = f"r{number}c{cable}"
        ip("link", "add", f"up{cable}", "netns", netns, "type", "veth", "peer", far, "netns", middle)
        ip("link", "set", far, "up", "master", f"sw{cable}", netns=middle)
        ip("addr", "add", f"10.9.{cable}.{number}/24", "dev", f"up{cable}", netns=netns)
        ip("addr", "add", f"fd09:{cable + 1}::{number}/64", "dev", f"up{cable}", "nodad", netns=netns)
        ip("link", "set", f"up{cable}", "up", netns=netns)

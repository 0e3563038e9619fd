"""The node's loop on a switch of its own, given a world as from a cluster, and how long it takes to enforce policies."""

from __future__ import annotations

import gc
import queue
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import timed
from benchmarks.policies import mixed
from benchmarks.world import FABRIC, Change, attachments, translated, world
from ncp.node.loop import Loop, Outcome
from ncp.node.seats import Seat
from ncp.translate.intent import KINDS, apply_all
from sdn.openflow.session import Switch
from sdn.ovsdb.appctl import Appctl
from tests.support.ovs import PrivateOvs

OWNER = 7
PATIENCE = 120.0


class Node:
    """A loop, its switch, and what it told."""

    def __init__(self, rundir: Path) -> None:
        self.connections: Callable[[], str] = lambda: Appctl(rundir).call("dpctl/dump-conntrack")
        self.measured: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.outcomes: list[Outcome] = []
        self.attached: dict[str, int] = {}
        self.switch = Switch(
            rundir,
            owner=OWNER,
            on_connected=lambda switch: self.loop.connected(),
            on_disconnected=lambda switch, why: None,
            on_packet_in=lambda switch, packet: None,
        )
        self.loop = Loop(
            "node1",
            OWNER,
            FABRIC,
            self.switch,
            audit_interval=3600.0,
            appctl=Appctl(rundir),
            connections=lambda: self.connections(),
            on_outcome=self.outcomes.append,
            on_measured=lambda policy, seconds: self.measured.put(policy),
        )

    def fill(self, objects: Iterable[Change], attached: dict[str, int]) -> None:
        """Take a world in, as from a cluster that is there."""
        for change in objects:
            self.loop.changed(*change)
        for kind in KINDS:
            self.loop.synced(kind)
        self.attached = attached
        self.loop.attached({name: Seat(ofport, "") for name, ofport in attached.items()})
        self.settled()

    def settled(self) -> None:
        """Wait until everything given is on the switch.

        Raises:
            RuntimeError: it is not, in reasonable time.
        """
        if not self.loop.wait_idle(time.monotonic() + PATIENCE):
            raise RuntimeError(f"the switch was not in step within {PATIENCE:g} s: {self.loop.fault}")

    def enforce(self, *policies: Change) -> float:
        """Seconds until policies are enforced, from when they were seen."""
        while not self.measured.empty():
            self.measured.get()
        waiting = {f"{kind}/{space}/{name}" for kind, (space, name), _ in policies}
        started = time.perf_counter()
        for each in policies:
            self.loop.changed(*each)
        while waiting:
            waiting.discard(self.measured.get(timeout=PATIENCE))
        return time.perf_counter() - started

    def forget(self, *policies: Change) -> float:
        """Seconds until policies are gone."""
        return timed(lambda: self._forget(policies))

    def _forget(self, policies: Sequence[Change]) -> None:
        for kind, key, _ in policies:
            self.loop.changed(kind, key, None)
        self.settled()


@contextmanager
def running(namespaces: int, pods: int, policies: int, extra: Sequence[Change] = ()) -> Iterator[Node]:
    """A node that holds every pod of a world with policies, and whatever else is given."""
    objects = [*world(namespaces, pods), *mixed(namespaces, policies), *extra]
    state, _ = apply_all(translated(namespaces, pods), extra)
    with tempfile.TemporaryDirectory() as directory, PrivateOvs(directory) as ovs:
        ovs.add_bridge()
        node = Node(ovs.rundir)
        node.loop.start()
        node.switch.start()
        try:
            node.fill(objects, attachments(state))
            gc.collect()
            gc.freeze()
            yield node
        finally:
            gc.unfreeze()
            node.loop.stop()
            node.switch.stop()

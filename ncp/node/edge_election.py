"""Stands for the lease of the active edge where this node is an edge, and tells the node who the active edge is.

One thread decides (:mod:`sdn.edge`), whenever something changed and, on an edge, ten times in two seconds; what it decides to write is
written by another, so that a server that does not answer keeps nobody from stopping. Each write names the version it was decided
on, and is refused where somebody else wrote meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from ncp.kube.client import Kube
from ncp.kube.errors import ApiError
from ncp.kube.resources import LEASES, NODES
from ncp.node import edges
from ncp.node.edge_health import Signs, Watch
from ncp.node.edges import Edge, Json, edge_of, lease_of
from ncp.translate.objects import annotation
from sdn.edge import Held, Mode, Own, Peer, Times, Verdict, decide

log = logging.getLogger(__name__)

NOTE_SECONDS: Final = 0.5
"""Between writes of what the edge says of itself on its Node: the first is at once, a flapping link must not become a flood."""


class Counts(Protocol):
    """What the election counts."""

    def edge(self, active: bool, peers: tuple[Peer, ...]) -> None:
        """How this edge is."""

    def took_over(self) -> None:
        """This edge has become the active one."""


class EdgeElection:
    """``signs`` gives what is to be seen of this node; ``on_exit`` gets the lease whenever another edge is active than before, as this node
    sees it (None: none, or it stopped being it because it is cut off)."""

    def __init__(
        self,
        kube: Kube,
        node: str,
        mode: Mode,
        times: Times,
        signs: Callable[[], Signs],
        on_exit: Callable[[Json | None], None],
        counts: Counts,
    ) -> None:
        self._kube, self._node, self._mode, self._times = kube, node, mode, times
        self._signs, self._on_exit, self._counts = signs, on_exit, counts
        self._lock = threading.RLock()
        self._edges: dict[str, Edge] = {}
        self._here: Json | None = None  # this node
        self._lease: Json | None = None
        self._looked = False  # the lease has been asked for
        self._changed_at = self._renewed_at = (
            0.0  # time.monotonic(): last seen to change; last write of ours begun that succeeded
        )
        self._stopped = False
        self._told = ""  # who is active, as on_exit was told last
        self._watch = Watch(time.monotonic())
        self._peers: tuple[Peer, ...] = ()
        self._own = Own(node, is_edge=False, state="starting")
        self._verdict = Verdict("wait")
        self._writing: Future[None] | None = None
        self._noting: Future[None] | None = None
        self._writers = ThreadPoolExecutor(3, thread_name_prefix="edge-writer")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-election", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; the lease is kept, as the switch goes on without its agent."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._writers.shutdown(wait=False, cancel_futures=True)

    # -- what comes in, from any thread -----------------------------------------------------------------------------

    def wake(self) -> None:
        """Something it decides by may have changed."""
        self._wake.set()

    def node_changed(self, name: str, obj: Json | None) -> None:
        """A node is now this (None: gone)."""
        edge = edge_of(obj) if obj is not None else None
        with self._lock:
            if name == self._node:
                self._here = obj
            if self._edges.get(name) == edge:
                return
            if edge is None:
                self._edges.pop(name)
            else:
                self._edges[name] = edge
        self._wake.set()

    def lease_changed(self, obj: Json | None) -> None:
        """The lease is now this (None: there is none)."""
        with self._lock:
            old, new = lease_of(self._lease), lease_of(obj)
            if obj is not None and new.version < old.version:
                return  # the answer to our own write came before the watch
            self._lease = obj
            if (old.holder, old.renewed) != (new.holder, new.renewed) or not self._looked:
                self._changed_at = time.monotonic()
            if new.holder == self._node and (old.holder != new.holder or not self._looked):
                self._renewed_at, self._stopped = self._changed_at, False
                if self._looked:
                    self._took_over(obj or {})
            self._looked = True
            self._tell()
        if old.holder != new.holder or new.holder == "":
            self._wake.set()

    def synced(self) -> None:
        """The lease has been asked for: if none was given, there is none."""
        with self._lock:
            if not self._looked:
                self._looked, self._changed_at = True, time.monotonic()
        self._wake.set()

    # -- what others ask ----------------------------------------------------------------------------------------------

    def watched(self) -> dict[str, str]:
        """Tunnel endpoints of the nodes whose ways an edge watches: all other edges; of nodes that are no edges, none."""
        with self._lock:
            if self._node not in self._edges:
                return {}
            return {name: edge.tep for name, edge in self._edges.items() if name != self._node}

    def status(self) -> dict[str, Any]:
        """How this node stands, as plain values."""
        with self._lock:
            bfd = {peer.name: {True: "up", False: "down", None: "unknown"}[peer.near] for peer in self._peers}
            return {
                "edge": self._node in self._edges,
                "active": self._verdict.active,
                "state": self._own.state,
                "why": self._own.why,
                "bfd": bfd if self._own.is_edge else {},
            }

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                concerned = self._look()
            except Exception:
                log.exception(
                    "node %s: what to do about the active edge could not be found out; trying again", self._node
                )
                concerned = True
            self._wake.wait(self._times.lease / 10 if concerned else None)
            self._wake.clear()

    def _look(self) -> bool:
        """Decide; whether this node has a part in it at all."""
        signs, now = self._signs(), time.monotonic()
        with self._lock:
            lease, here = lease_of(self._lease), self._edges.get(self._node)
            if here is None and lease.holder != self._node:
                self._verdict, self._own, self._peers = Verdict("wait"), self._own._replace(is_edge=False), ()
                self._note(None)
                return False
            self._peers = self._watch.peers((e for name, e in self._edges.items() if name != self._node), signs, now)
            state, why = self._watch.state(signs, now)
            self._own = Own(
                self._node,
                here.priority if here else 0,
                here is not None,
                state,
                why,
                now - self._renewed_at,
                self._stopped,
            )
            held = Held(lease.holder, now - self._changed_at, lease.left) if self._looked else None
            found = self._verdict = decide(self._own, self._peers, held, self._mode, self._times)
            self._stopped = lease.holder == self._node and not found.active
            self._tell()
            if found.act != "wait":
                self._write(found, self._lease)
            self._note({"well": "yes", "ill": f"no: {why}"}.get(state) if here else None)
        self._counts.edge(found.active, self._peers)
        return True

    def _tell(self) -> None:
        """Say who is active, if it is another than before. Within the lock, so that it is said in order."""
        lease = None if self._stopped else self._lease
        if (holder := lease_of(lease).holder) != self._told:
            self._told = holder
            log.info("node %s: the active edge is %s", self._node, holder or "nobody")
            self._on_exit(lease)

    # -- writing --------------------------------------------------------------------------------------------------------

    def _write(self, found: Verdict, lease: Json | None) -> None:
        if self._writing is None or self._writing.done():
            self._writing = self._writers.submit(self._do, found, lease)

    def _do(self, found: Verdict, lease: Json | None) -> None:
        began, now, lasts = time.monotonic(), _now(), self._times.lease
        try:
            if lease is None:
                wanted = edges.taken(None, self._node, now, found.why, lasts)
                answer = self._kube.create(LEASES, wanted, timeout=lasts / 2)
            else:
                answer = self._kube.replace(LEASES, self._wanted(found, lease, now), timeout=lasts / 2)
        except ApiError as error:  # a conflict among them: somebody wrote in between, and the watch will tell what
            log.log(logging.DEBUG if found.act == "renew" else logging.INFO, "lease of the edges: %s", error)
            if not error.status and found.act in ("hand over", "release"):
                with self._lock:  # it may have been written all the same
                    self._stopped = True
                    self._tell()
            return
        with self._lock:
            if lease_of(answer).holder == self._node:
                self._renewed_at, self._stopped = began, False
            self.lease_changed(answer)
        if found.act != "renew":
            log.warning("node %s: %s the lease of the edges: %s", self._node, found.act, found.why)

    def _wanted(self, found: Verdict, lease: Json, now: str) -> Json:
        match found.act:
            case "take":
                return edges.taken(lease, self._node, now, found.why, self._times.lease)
            case "hand over":
                return edges.taken(lease, found.to, now, found.why, self._times.lease)
            case "release":
                return edges.released(lease, self._node, now, found.why)
        return edges.renewed(lease, now)

    def _took_over(self, lease: Json) -> None:
        self._counts.took_over()
        node, why = self._here, annotation(lease, edges.WHY) or ""
        if node is not None:
            self._writers.submit(_say, self._kube, node, f"{self._node} is the active edge: {why}")

    def _note(self, text: str | None) -> None:
        """Write what this edge says of itself, unless it is written. None: nothing, as it starts or is no edge."""
        node = self._here
        if node is None or text == annotation(node, edges.READY) or (self._noting and not self._noting.done()):
            return
        if text is None and self._node in self._edges:
            return  # as it starts, what it said last stands
        self._noting = self._writers.submit(self._write_note, text)

    def _write_note(self, text: str | None) -> None:
        try:
            self._kube.patch(NODES, self._node, body={"metadata": {"annotations": {edges.READY: text}}})
        except ApiError as error:
            log.info("node %s: could not write %s: %s; trying again", self._node, edges.READY, error)
        self._stopping.wait(NOTE_SECONDS)


def _say(kube: Kube, node: Json, message: str) -> None:
    try:
        kube.event(node, reason="EDGE_ACTIVE", message=message, component="ncp-node")
    except ApiError as error:
        log.info("an event was not written: %s: %s", message, error)


def _now() -> str:
    """A MicroTime as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

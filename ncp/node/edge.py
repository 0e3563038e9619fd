"""An edge node's router, kept in step with the network: a thread that tells FRR what to announce and tells of what FRR says."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from ipam.address import Prefix
from ncp.frr.daemons import Daemons, stop
from ncp.frr.model import Speaker
from ncp.frr.render import render
from ncp.frr.vty import FrrError
from ncp.kube.client import Kube
from ncp.kube.errors import ApiError
from ncp.kube.reflector import Json
from ncp.kube.resources import NODES
from ncp.node.bgp import BGP, RouterState, annotation_of, is_edge, speaker_of
from ncp.node.static import StaticRoutes
from ncp.plumbing.namespace import Namespace, NamespaceMissing, sysctl
from ncp.plumbing.netlink import links
from ncp.plumbing.routes import Route, routes
from ncp.settings import Settings
from ncp.translate.objects import annotation
from sdn.model import Intent

log = logging.getLogger(__name__)

LOOK: Final = 0.5
"""Seconds between looks at the daemons and their sessions."""
PATIENCE: Final = 5.0
"""Seconds that sessions get to come up after daemons were started, before they are said to be down."""
OVERLAY: Final = "ncp-node0"
"""The device into the overlay, on which there are no routers of the physical network."""


class Edge:
    """The thread, and what it found out last (:attr:`state`).

    ``intent`` gives the network, or None as long as not all of it is known; ``wait`` waits until it is another than the one given,
    at most so many seconds. ``node`` gives the node's object. ``on_state`` is told every state.
    """

    def __init__(
        self,
        settings: Settings,
        me: str,
        rundir: Path,
        netns: str,
        kube: Kube,
        *,
        intent: Callable[[], Intent | None],
        wait: Callable[[Intent, float], object],
        node: Callable[[], Json | None],
        on_state: Callable[[RouterState], None] = lambda state: None,
    ) -> None:
        self.state = RouterState()
        self.is_edge = False
        self._settings = settings
        self._me = me
        self._rundir = rundir
        self._daemons = Daemons(rundir, netns)
        self._namespace = Namespace(netns, threads=1)
        self._kube = kube
        self._intent = intent
        self._wait = wait
        self._node = node
        self._on_state = on_state
        self._static = StaticRoutes(kube, me, self._namespace)
        self._told = RouterState()
        self._patient_until = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._static.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop; the daemons go on, for the next agent to find."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._static.stop()
        self._namespace.close()

    def routes(self) -> tuple[Route, ...]:
        """The node's routes as the kernel has them.

        Raises:
            OSError: the kernel refused.
        """
        return self._namespace.call(lambda ipr: routes())

    def _run(self) -> None:
        while not self._stopping.is_set():
            if (intent := self._intent()) is None:
                self._stopping.wait(LOOK)
                continue
            try:
                self._keep(intent)
            except Exception:
                log.exception("the router of node %s could not be kept; trying again", self._me)
            self._wait(intent, LOOK)

    def _keep(self, intent: Intent) -> None:
        speaker = None
        if edge := is_edge(self._node(), intent, self._me):
            try:
                links, running = self._namespace.call(lambda ipr: self._links())
            except (NamespaceMissing, OSError) as error:
                self._now(replace(self.state, fault=f"the node's links cannot be read: {error}"))
                return
            self._static.keep(intent, links, running)
            speaker = speaker_of(self._settings, intent, self._me, links)
        else:
            self._static.withdraw()
        self.is_edge = edge
        self._speak(speaker)

    def _speak(self, speaker: Speaker | None) -> None:
        if speaker is None:
            if self._rundir.exists():
                log.info("node %s speaks BGP no more; ending %s", self._me, ", ".join(stop(self._rundir)) or "nothing")
            self._now(RouterState())
            return
        restarts = self.state.restarts
        try:
            if started := self._daemons.ensure(render(speaker)):
                known = self.state.speaker is not None
                (log.warning if known else log.info)("node %s: started %s", self._me, ", ".join(started))
                restarts += len(started) if known else 0
                self._patient_until = time.monotonic() + PATIENCE
            found = RouterState(speaker, self._daemons.peers(), self._daemons.learned(), restarts=restarts)
        except FrrError as error:
            found = RouterState(speaker, fault=str(error), restarts=restarts)
        self._now(found)

    def _links(self) -> tuple[tuple[Prefix, ...], tuple[Prefix, ...]]:
        """Networks on the node's links, and on those that work. Packets of a connection take one way of several, so that they are
        not reordered."""
        for family in ("ipv4", "ipv6"):
            sysctl(f"net/{family}/fib_multipath_hash_policy", "1")
        return links(without=OVERLAY), links(without=OVERLAY, running=True)

    def _now(self, state: RouterState) -> None:
        """Note what is so now, and tell what others should know."""
        self.state = state
        self._on_state(state)
        coming = time.monotonic() < self._patient_until and not state.fault and not all(each.up for each in state.peers)
        if coming or not state.tells_other(self._told):
            return
        node = self._node()
        if node is None:
            return
        try:
            self._write(node, state)
        except ApiError as error:
            log.warning("node %s: could not write %s: %s; trying again", self._me, BGP, error)
            return
        self._told = state

    def _write(self, node: Json, state: RouterState) -> None:
        said = annotation_of(state)
        if annotation(node, BGP) != said:
            self._kube.patch(NODES, self._me, body={"metadata": {"annotations": {BGP: said}}})
        node = {"kind": "Node", "apiVersion": "v1", **node}
        if state.fault and state.fault != self._told.fault:
            log.warning("node %s: %s", self._me, state.fault)
            self._event(node, "FRR_FAILED", state.fault, "Warning")
        was = {each.address: each for each in self._told.peers}
        for peer in state.peers:
            before = was.get(peer.address)
            if peer.up and (before is None or not before.up):
                self._event(node, "BGP_PEER_UP", f"peer {peer.address} (AS {peer.asn}) is up", "Normal")
            elif not peer.up and (before is None or before.up or before.reason != peer.reason):
                said = f"peer {peer.address} (AS {peer.asn}) is down: {peer.reason}"
                log.warning("node %s: %s", self._me, said)
                self._event(node, "BGP_PEER_DOWN", said, "Warning")

    def _event(self, node: Json, reason: str, message: str, kind: str) -> None:
        self._kube.event(node, reason=reason, message=message, type=kind, component="ncp-node")

"""StaticRoutes on an edge node: routes in its main table, and what became of each on the object."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ipam.address import WIDTH, Prefix
from ncp.kube.client import Kube
from ncp.kube.custom import CustomReflector
from ncp.kube.errors import ApiError, NotFound
from ncp.kube.reflector import Json
from ncp.kube.resources import STATIC_ROUTES
from ncp.plumbing.namespace import Namespace
from ncp.plumbing.routes import ensure
from ncp.translate.routes import Name, Verdict, static_routes
from sdn.model import Intent

log = logging.getLogger(__name__)

READY: Final = "Ready"


class StaticRoutes:
    """Keeps the routes of one node. But for the reflector's, all calls are on one thread."""

    def __init__(self, kube: Kube, me: str, namespace: Namespace) -> None:
        self._kube = kube
        self._me = me
        self._namespace = namespace
        self._objects = CustomReflector(kube, STATIC_ROUTES, lambda key, old, new: None)
        self._withdrawn = False

    def start(self) -> None:
        """Begin to watch the objects."""
        self._objects.start()

    def stop(self) -> None:
        """End; routes stay."""
        self._objects.stop()

    def keep(self, intent: Intent, links: tuple[Prefix, ...], running: tuple[Prefix, ...]) -> None:
        """Make the routes as the objects ask; the node that traffic leaves by writes on them what became of it.

        ``links`` are the networks on the node's links, ``running`` those on links that work. As long as not all objects are known, routes stay as they are.

        Raises:
            OSError: the kernel refused to list its routes.
        """
        if not self._objects.synced.is_set():
            return
        self._withdrawn = False
        objects = dict(self._objects.store)
        nodes = (address for node in intent.nodes.values() for address in node.addresses)
        taken = {
            "of pods": intent.blocks,
            "of the transit segment": [gateway.prefix for gateway in intent.tier0.gateways],
            "on a link of this node": links,
            "of a node": [Prefix(each.family, each.value, WIDTH[each.family]) for each in nodes],
        }
        wanted, verdicts = static_routes(objects.values(), taken, running, self._me)
        refused = self._namespace.call(lambda ipr: ensure(ipr, wanted))
        if intent.tier0.exit_node == self._me:
            for name, verdict in verdicts.items():
                self._write(name, objects[name], _after(verdict, objects[name], refused, self._me))

    def withdraw(self) -> None:
        """Remove every route of ours, once: the node is no edge."""
        if not self._withdrawn:
            self._namespace.call(lambda ipr: ensure(ipr, {}))
            self._withdrawn = True

    def _write(self, name: Name, obj: Json, verdict: Verdict) -> None:
        """Write the condition where the object says another."""
        generation = obj["metadata"].get("generation", 0)
        wanted: dict[str, Any] = {
            "type": READY,
            "status": "True" if verdict.ready else "False",
            "reason": verdict.reason,
            "message": verdict.message,
            "observedGeneration": generation,
        }
        conditions = (obj.get("status") or {}).get("conditions") or ()
        held = next((each for each in conditions if each.get("type") == READY), {})
        if all(held.get(field) == value for field, value in wanted.items()):
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        wanted["lastTransitionTime"] = held.get("lastTransitionTime", now) if _same(held, wanted) else now
        others = [each for each in conditions if each.get("type") != READY]
        try:
            body = {"status": {"conditions": [*others, wanted]}}
            self._kube.patch(STATIC_ROUTES, name[1], name[0], body=body, subresource="status")
        except NotFound:
            log.debug("StaticRoute %s/%s is gone", *name)
        except ApiError as error:
            log.warning("StaticRoute %s/%s: its condition could not be written: %s; trying again", *name, error)
            return
        if not verdict.ready and held.get("reason") != verdict.reason:
            log.warning("StaticRoute %s/%s: %s: %s", *name, verdict.reason, verdict.message)


def _after(verdict: Verdict, obj: Json, refused: Mapping[Prefix, str], me: str) -> Verdict:
    """What is to be said once the kernel was asked."""
    network = (obj.get("spec") or {}).get("network")
    why = next((why for prefix, why in refused.items() if str(prefix) == network), None)
    if why is None or not verdict.ready:
        return verdict
    return Verdict(False, "NEXT_HOP_UNREACHABLE", f"the kernel of node {me} refused the route: {why}")


def _same(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return held.get("status") == wanted["status"]

"""What a node says of itself to all others, on its Node object: the networks on its link."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from ipam.address import Prefix, parse_prefix
from ncp.kube.client import Kube
from ncp.kube.errors import ApiError
from ncp.kube.resources import NODES
from ncp.translate.objects import Object, annotation
from sdn.announce import Standing

log = logging.getLogger(__name__)

NETWORKS: Final = "ncp/networks"


def standing(node: Object) -> Standing:
    """A node's readiness, and the networks it says it is on. None that cannot be read: its agent writes them anew."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    try:
        networks = tuple(parse_prefix(each) for each in (annotation(node, NETWORKS) or "").split(",") if each.strip())
    except ValueError:
        networks = ()
    return Standing(ready, networks)


def keep_networks(kube: Kube, node: Object, networks: Iterable[Prefix]) -> None:
    """Write the networks where the Node object says others. A refusal is logged, and tried again at the next call."""
    wanted = ",".join(str(each) for each in networks)
    if annotation(node, NETWORKS) in (wanted, wanted or None):
        return
    name = node["metadata"]["name"]
    try:
        kube.patch(NODES, name, body={"metadata": {"annotations": {NETWORKS: wanted or None}}})
    except ApiError as error:
        log.warning("node %s: could not write %s: %s; trying again", name, NETWORKS, error)

"""Whether exactly what a preview foretold has happened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ncp.probe.site import BRIDGE, Site
from ncp.translate.intent import Translation, apply_all
from ncp.verify.policies import RESOURCES, key_of
from ncp.verify.preview import Preview, tracked
from sdn.openflow.dump import dump_flows
from sdn.openflow.pack import OWNER_MASK, OWNER_SHIFT, installed_key_bytes, owner_of
from sdn.program import build

Held = Mapping[bytes, int]
"""Flows of a switch: their cookies by key."""


def departures(site: Site, foreseen: Preview) -> list[str]:
    """What did not happen as foreseen, in words; ``site`` is the cluster after the change. Empty: exactly that happened.

    Raises:
        AppctlError, SwitchGone, SwitchTimeout: a switch does not answer.
    """
    found, after = [], made(site, foreseen)
    for node, attached in foreseen.attached.items():
        program = build(after.intent, node, owner_of(after.cluster), attached)
        wanted, held = {entry.key: entry.cookie for entry in program.entries()}, installed(site, node)
        lacks = sum(held.get(key) != cookie for key, cookie in wanted.items())
        more = sum(key not in wanted for key in held)
        if lacks or more:
            found.append(f"{node} lacks {lacks} flows that were foreseen and has {more} that were not")
        now = set(tracked(site, node))
        found += [
            f"{node} still tracks {each.forbidden.tracked}, which was to be cut off"
            for each in foreseen.connections
            if each.node == node and each.ends and each.forbidden.tracked in now
        ]
    return found


def made(site: Site, foreseen: Preview) -> Translation:
    """The cluster as it was foreseen, with the uids that policies got when they were made: flows are known by them, and the API
    server gives another to a new policy every time it is asked what would become of it."""
    uids = {
        key_of(each): each["metadata"].get("uid") for kind in RESOURCES for each in site.objects.get(kind, ())
    }  # fmt: skip
    changes = []
    for key, policy in foreseen.policies.items():
        kind, space, name = key.split("/")
        uid = uids.get(key, policy["metadata"].get("uid"))
        changes.append((kind, (space, name), policy | {"metadata": policy["metadata"] | {"uid": uid}}))
    return apply_all(foreseen.after, changes)[0]


def installed(site: Site, node: str) -> Held:
    """What a node's switch holds of ours.

    Raises:
        SwitchGone, SwitchTimeout: it does not answer.
    """
    owner = owner_of(site.translation.cluster)
    socket = Path(site.switches.rundirs[node], f"{BRIDGE}.mgmt")
    flows = dump_flows(socket, cookie=owner << OWNER_SHIFT, cookie_mask=OWNER_MASK)
    return {installed_key_bytes(flow.table, flow.priority, flow.match): flow.cookie for flow in flows}

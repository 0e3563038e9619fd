"""One look at everything the network follows from."""

from __future__ import annotations

from typing import Any

from ncp.kube.client import Kube
from ncp.kube.errors import NotFound
from ncp.kube.resources import EDGE_LEASE, INSTEAD, INTENT, INTENT_CUSTOM, LEASES, OPTIONAL

Json = dict[str, Any]


def everything(kube: Kube) -> dict[str, list[Json]]:
    """All objects by kind; a resource that is not served has none, and what says the same instead is there. Of leases, that of the
    active edge.

    Raises:
        ApiError: the server does not answer, or refuses.
    """
    found = {each.kind: kube.list(each)[0] for each in INTENT if each not in OPTIONAL}
    for each in (*OPTIONAL, *INTENT_CUSTOM):
        try:
            found[each.kind] = kube.list(each)[0]
        except NotFound:
            found[each.kind] = []
            if (other := INSTEAD.get(each.kind)) is not None:
                found[other.kind] = kube.list(other)[0]
    try:
        found[LEASES.kind] = [kube.get(LEASES, EDGE_LEASE[1], EDGE_LEASE[0])]
    except NotFound:
        found[LEASES.kind] = []
    return found

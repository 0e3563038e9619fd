"""One look at everything the network follows from."""

from __future__ import annotations

from typing import Any

from ncp.kube.client import Kube
from ncp.kube.errors import NotFound
from ncp.kube.resources import INTENT, INTENT_CUSTOM, OPTIONAL, Resource

Json = dict[str, Any]


def everything(kube: Kube) -> dict[str, list[Json]]:
    """All objects by kind; a resource that is not served has none.

    Raises:
        ApiError: the server does not answer, or refuses.
    """
    found = {each.kind: kube.list(each)[0] for each in INTENT if each not in OPTIONAL}
    return found | {each.kind: _served(kube, each) for each in (*OPTIONAL, *INTENT_CUSTOM)}


def _served(kube: Kube, resource: Resource) -> list[Json]:
    try:
        return kube.list(resource)[0]
    except NotFound:
        return []

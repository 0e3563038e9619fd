"""How many addresses a namespace may have: what its annotations say, and what is told where that is used up. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from ncp.manager.supply import Failure


class Quota(NamedTuple):
    """One limit of a namespace. ``gives_back`` says what sets addresses free."""

    annotation: str
    addresses: str
    gives_back: str


PODS: Final = Quota("ncp/max_pod_addresses", "addresses of pods", "delete a pod")
VIRTUAL: Final = Quota("ncp/max_virtual_addresses", "addresses of load balancers", "delete a service that has one")
SNAT: Final = Quota("ncp/max_snat_addresses", "addresses outside", "delete a service's or a binding's")
QUOTAS: Final = (PODS, VIRTUAL, SNAT)
CODES: Final = frozenset({"QUOTA_EXCEEDED", "QUOTA_INVALID"})
"""What :func:`refusal` says."""


def refusal(quota: Quota, annotations: Mapping[str, str], used: int, more: int) -> Failure | None:
    """Why a namespace that has ``used`` addresses may not have so many more; None: it may.

    A limit that cannot be read lets nobody have more: a guard with a mistake in it must not stand open.
    """
    text = annotations.get(quota.annotation)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        what = f"annotation {quota.annotation} {text!r} of the namespace is no number; allowed: 0 or more. Correct it"
        return Failure("QUOTA_INVALID", what)
    if used + more <= int(text):
        return None
    what = (
        f"the namespace has {used} of the {int(text)} {quota.addresses} that its annotation {quota.annotation} allows, and "
        f"this takes {more} more; {quota.gives_back}, or allow more"
    )
    return Failure("QUOTA_EXCEEDED", what)


def limits(annotations: Mapping[str, str]) -> dict[str, str]:
    """Those annotations that are limits."""
    return {each.annotation: annotations[each.annotation] for each in QUOTAS if each.annotation in annotations}

"""What Services ask of the pools of virtual addresses, and what the settings say of those. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ipam.address import Address, Family, parse_address
from ncp.manager.records import CLUSTER
from ncp.settings_types import AddressPool
from ncp.translate.objects import Object, annotation

CLASS: Final = "ncp/native"
"""``spec.loadBalancerClass`` of services that are ours even where another implementation serves those without a class."""
ERROR: Final = "ncp/error.loadbalancer"
FAMILIES: Final[dict[str, Family]] = {"IPv4": 4, "IPv6": 6}


class LoadBalancing(NamedTuple):
    """The settings that virtual addresses depend on.

    ``by_default``: services that name no class are ours as well. ``rest``: seconds others are given before an address
    that was released.
    """

    cluster: str
    pools: tuple[AddressPool, ...] = ()
    by_default: bool = True
    rest: float = 60.0


def load_balancing(settings: Any) -> LoadBalancing:
    """That of loaded settings (:mod:`ncp.settings`)."""
    nsx = settings.nsx_v3
    return LoadBalancing(
        settings.coe.cluster, nsx.external_ip_pools_lb, nsx.use_native_loadbalancer, float(nsx.ip_reallocation_time)
    )


class Demand(NamedTuple):
    """A Service as far as its virtual addresses depend on it.

    ``shown`` are the entries of ``status.loadBalancer.ingress``, None for one that is no address. ``created`` is the
    API's text, which sorts by time.
    """

    namespace: str
    name: str
    uid: str
    created: str
    deleting: bool
    is_balanced: bool  # of type LoadBalancer
    balancer_class: str
    families: tuple[Family, ...]
    asked: str  # spec.loadBalancerIP
    shown: tuple[Address | None, ...]
    cluster: str | None
    error: str | None
    external: tuple[Address, ...] = ()  # spec.externalIPs


def demand(service: Object) -> Demand:
    """The demand of a Service object."""
    meta, spec = service["metadata"], service.get("spec") or {}
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return Demand(
        meta.get("namespace", ""),
        meta["name"],
        meta.get("uid", ""),
        meta.get("creationTimestamp") or "",
        "deletionTimestamp" in meta,
        spec.get("type") == "LoadBalancer",
        spec.get("loadBalancerClass") or "",
        _families(spec),
        (spec.get("loadBalancerIP") or "").strip(),
        tuple(address_of(each.get("ip") or "") for each in ingress),
        annotation(service, CLUSTER),
        annotation(service, ERROR),
        tuple(found for each in spec.get("externalIPs") or () if (found := address_of(each))),
    )


def address_of(text: str) -> Address | None:
    """The address a text is, if it is one."""
    try:
        return parse_address(text)
    except ValueError:
        return None


def _families(spec: Mapping[str, Any]) -> tuple[Family, ...]:
    """Those named, in their order; API servers before 1.20 name none, and tell by the cluster address."""
    named = tuple(FAMILIES[each] for each in spec.get("ipFamilies") or () if each in FAMILIES)
    address = address_of(spec.get("clusterIP") or "")
    return named or (address.family if address else 4,)

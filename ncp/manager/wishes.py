"""What namespaces, services and bindings ask of the pools of addresses outside, and what the settings say of those. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from firewall.labels import Labels, labels_of
from ipam.address import Address, Family, parse_address
from ncp.manager import records as r
from ncp.manager.demand import address_of
from ncp.manager.outbox import Ref
from ncp.manager.quota import limits
from ncp.manager.supply import Failure
from ncp.settings_types import AddressPool
from ncp.translate.objects import SNAT_IP, Object, annotation

SNAT_STATUS: Final = "ncp/snat_ip_status"
STATIC_SNAT_IP: Final = "ncp/static_snat_ip"
SNAT_POOL: Final = "ncp/snat_pool"
ERROR_SNAT: Final = "ncp/error.snat"
READY: Final = "Ready"
"""The condition of a binding."""

Texts = Mapping[str, Any]


class Outward(NamedTuple):
    """The settings that addresses outside depend on.

    ``is_snat``: pods are translated at all. ``access``: namespaces by the pool that is for them only. ``rest``: seconds others
    are given before an address that was released.
    """

    cluster: str
    pools: tuple[AddressPool, ...] = ()
    is_snat: bool = True
    access: Mapping[str, tuple[str, ...]] = {}
    rest: float = 60.0


def outward(settings: Any) -> Outward:
    """That of loaded settings (:mod:`ncp.settings`)."""
    nsx, access = settings.nsx_v3, settings.ncp.snat_pool_namespaces
    return Outward(
        settings.coe.cluster,
        nsx.external_ip_pools,
        settings.coe.enable_snat,
        {each.pool: each.namespaces for each in access},
        float(nsx.ip_reallocation_time),
    )


class Space(NamedTuple):
    """A namespace as far as it matters to all that is in it. ``families``: those of its addresses that are to be translated."""

    is_ours: bool
    has_segments: bool
    is_snat: bool
    families: tuple[Family, ...]
    limits: Mapping[str, str]
    is_apart: bool = False  # in a routing domain, which has no way out


class Pod(NamedTuple):
    """A pod that may have a port. ``families`` are those of its addresses, none before it has any."""

    labels: Labels
    families: tuple[Family, ...]


class Wish(NamedTuple):
    """An object as far as its addresses outside depend on it.

    ``asked`` is what it asks for, as it says it: a namespace's addresses, a service's pool, a binding's address or pool; None: it
    asks for nothing. ``shown`` are the texts it shows of our decision, ``at`` the addresses it is at, by our decision or not.
    ``created`` is the API's text, which sorts by time.
    """

    ref: Ref
    namespace: str
    uid: str
    created: str
    deleting: bool
    is_foreign: bool  # another cluster's
    asked: tuple[str, ...] | None
    shown: Texts
    decided: tuple[Address, ...]
    at: tuple[Address, ...]
    pod: str = ""
    selector: Labels = ()
    generation: int = 0

    @property
    def age(self) -> tuple[str, str, Ref]:
        """What objects are sorted by: oldest first."""
        return self.created, self.uid, self.ref


def space(namespace: Object, cluster: str) -> Space:
    """What a Namespace object says."""
    text, families, is_snat, has_segments = annotation(namespace, r.SEGMENTS), set[Family](), False, False
    try:
        segments = r.parse_segments(text) if text is not None else ()
    except ValueError:
        segments = ()  # they are decided anew
    for segment in segments:
        has_segments = True
        is_snat |= segment.snat
        families |= {gateway.family for gateway in segment.gateways if segment.snat}
    is_ours = annotation(namespace, r.CLUSTER) == cluster
    found = limits(namespace["metadata"].get("annotations") or {})
    is_apart = any(segment.domain for segment in segments)
    return Space(is_ours, has_segments, is_snat, tuple(sorted(families)), found, is_apart)


def pod(obj: Object) -> Pod | None:
    """A Pod that has a port, or is to get one; None for others."""
    record = r.pod_record(obj)
    if not record.wants_port:
        return None
    try:
        port = r.parse_port(record.annotations[r.PORT])
    except (KeyError, ValueError):
        return Pod(labels_of(obj["metadata"].get("labels")), ())
    return Pod(labels_of(obj["metadata"].get("labels")), tuple(sorted({each.family for each in port.addresses})))


def of_namespace(obj: Object, cluster: str) -> Wish:
    """A namespace asks for addresses without saying so; by ``ncp/static_snat_ip`` for very ones."""
    shown = {name: text for name in (SNAT_IP, SNAT_STATUS) if (text := annotation(obj, name)) is not None}
    static = annotation(obj, STATIC_SNAT_IP)
    asked = _items(static) if static is not None else ()
    decided = _decided(shown.get(SNAT_IP))
    name = obj["metadata"]["name"]
    return _wish(obj, "Namespace", cluster, asked=asked, shown=shown, decided=decided, at=decided)._replace(
        namespace=name
    )


def of_service(obj: Object, cluster: str) -> Wish:
    """A service asks for its members, by ``ncp/snat_pool``."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    shown = {name: text for name in (SNAT_IP, ERROR_SNAT) if (text := annotation(obj, name)) is not None}
    pool = annotation(obj, SNAT_POOL)
    decided = _decided(shown.get(SNAT_IP))
    ingress = ((status.get("loadBalancer") or {}).get("ingress")) or ()
    others = (
        address_of(each) for each in (*(spec.get("externalIPs") or ()), *(each.get("ip") or "" for each in ingress))
    )
    at = (*decided, *(each for each in others if each))
    found = _wish(obj, "Service", cluster, asked=_items(pool) or None, shown=shown, decided=decided, at=at)
    return found._replace(selector=labels_of(spec.get("selector")))


def of_binding(obj: Object, cluster: str) -> Wish:
    """An AddressBinding asks for a pod of its namespace; for an address, and from a pool, where it says so."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    addresses = tuple(str(each) for each in status.get("ipAddresses") or ())
    conditions = {each.get("type"): each for each in status.get("conditions") or ()}
    decided = tuple(found for each in addresses if (found := address_of(each)))
    asked = (str(spec.get("ipAddress") or ""), str(spec.get("pool") or ""))
    shown = {"ipAddresses": addresses, READY: conditions.get(READY) or {}}
    wish = _wish(obj, "AddressBinding", cluster, asked=asked, shown=shown, decided=decided, at=decided)
    generation = int(obj["metadata"].get("generation") or 0)
    return wish._replace(pod=str(spec.get("podName") or ""), generation=generation)


def _wish(obj: Object, kind: str, cluster: str, **more: Any) -> Wish:
    meta = obj["metadata"]
    namespace = meta.get("namespace", "")
    return Wish(
        ref=(kind, (namespace, meta["name"])),
        namespace=namespace,
        uid=meta.get("uid", ""),
        created=meta.get("creationTimestamp") or "",
        deleting="deletionTimestamp" in meta,
        is_foreign=annotation(obj, r.CLUSTER) not in (None, cluster),
        **more,
    )


def parse_static(items: tuple[str, ...]) -> dict[Family, Address] | Failure:
    """The addresses that ``ncp/static_snat_ip`` names, at most one a family."""
    field, found = f"annotation {STATIC_SNAT_IP} {','.join(items)!r}", dict[Family, Address]()
    for item in items or ("",):
        try:
            address = parse_address(item)
        except ValueError as error:
            text = f"{field}: {error}; allowed: one address of a family, separated by a comma where it is two"
            return Failure("SNAT_PROCESS_FAILED", text)
        if address.family in found:
            text = f"{field} names two IPv{address.family} addresses; allowed: one of each family"
            return Failure("SNAT_PROCESS_FAILED", text)
        found[address.family] = address
    return found


def _decided(text: str | None) -> tuple[Address, ...]:
    return tuple(found for each in (text or "").split(",") if (found := address_of(each.strip())))


def _items(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())

"""Keeps an intent in step with Kubernetes objects, one changed object at a time.

:func:`apply` is a function of the state and one object; the state after any sequence of changes depends only on the
objects that exist at its end (a property test holds this).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from immutables import Map

from firewall import baseline, clusterpolicy, networkpolicy, securitypolicy
from firewall.baseline import BaselineType
from firewall.rules import Section
from ipam.address import Interface, Prefix
from ncp.kube.resources import EDGE_LEASE
from ncp.translate import objects, services
from ncp.translate.objects import Object
from sdn.compile.delta import Delta
from sdn.model import Binding, FirewallSettings, Intent, LogicalSwitch, NatSettings, Origin, Problem, Tier0
from sdn.services import Algorithm, Slice, VirtualServer

POLICY_INVALID = "POLICY_INVALID"
Key = tuple[str, str]
Step: TypeAlias = "tuple[Translation, Delta]"


@dataclass(frozen=True, slots=True)
class Fabric:
    """The settings an intent starts from."""

    cluster: str
    transit_vni: int
    transit: tuple[Interface, ...]
    mtu: int
    single_tier: bool
    exit_node: str = ""
    blocks: tuple[Prefix, ...] = ()
    domains: Mapping[int, tuple[Prefix, ...]] = field(default_factory=dict)  # blocks of routing domains
    firewall: FirewallSettings = field(default_factory=FirewallSettings)
    baseline: BaselineType | None = None
    algorithm: Algorithm = "even"
    nat: NatSettings = field(default_factory=NatSettings)
    snat_families: frozenset[int] = frozenset()


Offer: TypeAlias = "tuple[Literal['services', 'bindings'], str]"
"""Something that leads to pods from elsewhere: the intent's map it is in, and its name there."""


@dataclass(frozen=True, slots=True)
class Translation:
    """An intent, what each object contributed to it, and what could not be translated."""

    cluster: str
    baseline: BaselineType | None
    intent: Intent
    by_namespace: Map[str, tuple[LogicalSwitch, ...]]
    claims: Map[int, tuple[LogicalSwitch, ...]]  # by VNI, sorted by origin: the first has it
    problems: Map[tuple[str, Key], tuple[Problem, ...]]
    of_slice: Map[str, str]  # the service each endpoint slice is under
    withheld: Map[
        Offer, VirtualServer | Binding
    ]  # what namespaces in routing domains ask for, and no other domain can give them
    exit_node: str = ""  # by the settings, where there are no edges
    edges: frozenset[str] = frozenset()  # nodes labelled as such
    active: str = ""  # who holds their lease

    def all_problems(self) -> list[Problem]:
        """Every problem, in the order of kind and key."""
        found = [p for _, problems in sorted(self.problems.items()) for p in problems]
        for _, claim in sorted(self.claims.items()):
            found += [_vni_taken(loser, claim[0]) for loser in claim[1:]]
        found += [_withheld(each) for _, each in sorted(self.withheld.items())]
        return found


def start(fabric: Fabric) -> Translation:
    """The translation of a cluster with no objects."""
    intent = Intent(
        tier0=Tier0(fabric.transit_vni, fabric.transit, fabric.exit_node),
        single_tier=fabric.single_tier,
        mtu=fabric.mtu,
        switches=Map(),
        nodes=Map(),
        ports=Map(),
        blocks=fabric.blocks,
        domains=fabric.domains,
        firewall=fabric.firewall,
        sections=Map(),
        namespaces=Map(),
        algorithm=fabric.algorithm,
        services=Map(),
        slices=Map(),
        snat_families=fabric.snat_families,
        bindings=Map(),
        nat=fabric.nat,
    )
    return Translation(fabric.cluster, fabric.baseline, intent, Map(), Map(), Map(), Map(), Map(), fabric.exit_node)


def apply(state: Translation, kind: str, key: Key, obj: Object | None) -> tuple[Translation, Delta]:
    """The state once the object under ``(kind, key)`` is ``obj`` (None: gone), and what that changed.

    Kinds are those of :data:`KINDS`; keys are (namespace, name).
    """
    if obj is not None and not objects.owned(obj, state.cluster):
        obj = None
    return _APPLY[kind](state, key, obj)


def translated(fabric: Fabric, objects: Mapping[str, Iterable[Object]]) -> Translation:
    """The translation of a cluster with these objects, given by kind."""
    keyed = (
        (kind, (each["metadata"].get("namespace", ""), each["metadata"]["name"]), each)
        for kind, items in objects.items()
        for each in items
    )
    return apply_all(start(fabric), keyed)[0]


def apply_all(state: Translation, changes: Iterable[tuple[str, Key, Object | None]]) -> tuple[Translation, Delta]:
    """Several objects after one another; the delta is of all together."""
    delta = Delta()
    for kind, key, obj in changes:
        state, more = apply(state, kind, key, obj)
        delta |= more
    return state, delta


def _apply_pod(state: Translation, key: Key, obj: Object | None) -> tuple[Translation, Delta]:
    port, problems = objects.port(obj) if obj is not None else (None, ())
    state = _noted(state, "Pod", key, problems)
    state, delta = _apply_host_ports(state, key, services.host_ports(obj, port) if obj and port else None)
    name = f"{key[0]}/{key[1]}"
    if state.intent.ports.get(name) == port:
        return state, delta
    ports = _with(state.intent.ports, name, port)
    return replace(state, intent=state.intent.replace(ports=ports)), delta | Delta(ports=frozenset({name}))


def _apply_host_ports(state: Translation, key: Key, found: tuple[VirtualServer, Slice] | None) -> Step:
    """A pod's ports on its node, as a virtual server whose only member is the pod."""
    name = services.of_pod(*key)
    server, ends = found or (None, None)
    state, delta = _offer(state, ("services", name), server)
    intent = state.intent
    if intent.slices.get(name, Map()).get("") == ends:
        return state, delta
    slices = _with(intent.slices, name, Map({"": ends}) if ends else None)
    return replace(state, intent=intent.replace(slices=slices)), delta | Delta(services=frozenset({name}))


def _offer(state: Translation, offer: Offer, value: VirtualServer | Binding | None) -> Step:
    """A virtual server or a binding as it is asked for. That of a namespace in a routing domain is kept out of the intent: its
    addresses are the cluster's own, and the pods' are not."""
    kind, name = offer
    is_apart = _domain_of(state, name.partition("/")[0]) > 0
    state = replace(state, withheld=_with(state.withheld, offer, value if is_apart else None))
    held, wanted = getattr(state.intent, kind), None if is_apart else value
    if held.get(name) == wanted:
        return state, Delta()
    intent = state.intent.replace(**{kind: _with(held, name, wanted)})
    return replace(state, intent=intent), Delta(**{kind: frozenset({name})})


def _domain_of(state: Translation, namespace: str) -> int:
    return next((switch.domain for switch in state.by_namespace.get(namespace, ())), 0)


def _offer_again(state: Translation, namespace: str) -> Step:
    """What a namespace asks for, once it is in another routing domain."""
    within = f"{namespace}/"
    offers = {offer: each for offer, each in state.withheld.items() if offer[1].startswith(within)}
    offers |= {("services", name): each for name, each in state.intent.services.items() if name.startswith(within)}
    offers |= {("bindings", name): each for name, each in state.intent.bindings.items() if name.startswith(within)}
    delta = Delta()
    for offer, each in offers.items():
        state, more = _offer(state, offer, each)
        delta |= more
    return state, delta


def _apply_node(state: Translation, key: Key, obj: Object | None) -> tuple[Translation, Delta]:
    node, problems = objects.transport_node(obj) if obj is not None else (None, ())
    state = _noted(state, "Node", key, problems)
    name = key[1]
    others = state.edges - {name}
    state, exits = _by_edge(
        state, others | {name} if obj is not None and objects.is_edge(obj) else others, state.active
    )
    if state.intent.nodes.get(name) == node:
        return state, exits
    nodes = _with(state.intent.nodes, name, node)
    return replace(state, intent=state.intent.replace(nodes=nodes)), exits | Delta(nodes=frozenset({name}))


def _apply_lease(state: Translation, key: Key, obj: Object | None) -> Step:
    """The lease of the active edge; other leases say nothing of the network."""
    if key != EDGE_LEASE:
        return state, Delta()
    return _by_edge(state, state.edges, ((obj or {}).get("spec") or {}).get("holderIdentity") or "")


def _by_edge(state: Translation, edges: frozenset[str], active: str) -> Step:
    """What is routed by default leaves by the active edge (as long as there is none: not at all), without edges by the node of the settings."""
    exit_node = active if edges else state.exit_node
    state = replace(state, edges=edges, active=active)
    if state.intent.tier0.exit_node == exit_node:
        return state, Delta()
    tier0 = replace(state.intent.tier0, exit_node=exit_node)
    return replace(state, intent=state.intent.replace(tier0=tier0)), Delta(exits=True)


def _apply_namespace(state: Translation, key: Key, obj: Object | None) -> tuple[Translation, Delta]:
    state, segments = _apply_segments(state, key, obj)
    state, labels = _apply_labels(state, key[1], obj)
    return state, segments | labels


def _apply_labels(state: Translation, name: str, obj: Object | None) -> tuple[Translation, Delta]:
    """The labels that namespace selectors see, and the baseline policy of the namespace's pods."""
    labels = None if obj is None else objects.namespace_labels(obj)
    if state.intent.namespaces.get(name) == labels:
        return state, Delta()
    intent = state.intent.replace(namespaces=_with(state.intent.namespaces, name, labels))
    delta = Delta(namespaces=frozenset({name}))
    if state.baseline:
        section = baseline.section(state.baseline, name)
        if (section.key in intent.sections) != (labels is not None):
            sections = _with(intent.sections, section.key, section if labels is not None else None)
            intent, delta = intent.replace(sections=sections), delta | Delta(sections=frozenset({section.key}))
    return replace(state, intent=intent), delta


def _apply_service(state: Translation, key: Key, obj: Object | None) -> Step:
    server, problems = services.virtual_server(obj) if obj is not None else (None, ())
    state = _noted(state, "Service", key, problems)
    return _offer(state, ("services", f"{key[0]}/{key[1]}"), server)


def _apply_binding(state: Translation, key: Key, obj: Object | None) -> Step:
    binding, problems = objects.binding(obj) if obj is not None else (None, ())
    state = _noted(state, "AddressBinding", key, problems)
    return _offer(state, ("bindings", f"{key[0]}/{key[1]}"), binding)


def _apply_slice(state: Translation, key: Key, obj: Object | None) -> Step:
    """An endpoint slice under its service; one that changes its service leaves the other."""
    name = f"{key[0]}/{key[1]}"
    service, found = (services.slice_of(obj) if obj is not None else None) or ("", None)
    slices, changed = state.intent.slices, set()
    before = state.of_slice.get(name, "")
    for of, new in {before: None, service: found}.items():
        held = slices.get(of, Map())
        if of and held.get(name) != new:
            slices = _with(slices, of, _with(held, name, new) or None)
            changed.add(of)
    if not changed:
        return state, Delta()
    of_slice = _with(state.of_slice, name, service or None)
    return replace(state, intent=state.intent.replace(slices=slices), of_slice=of_slice), Delta(
        services=frozenset(changed)
    )


def _apply_endpoints(state: Translation, key: Key, obj: Object | None) -> Step:
    """The endpoints of the service of the same name, as slices under names that no EndpointSlice has."""
    service = f"{key[0]}/{key[1]}"
    found = services.slices_of_endpoints(obj) if obj is not None else ()
    held = state.intent.slices.get(service, Map())
    wanted = {f"Endpoints/{number:06}": each for number, each in enumerate(found)}
    after = held
    for name in (*wanted, *(each for each in held if each.startswith("Endpoints/"))):
        after = _with(after, name, wanted.get(name))
    if after == held:
        return state, Delta()
    slices = _with(state.intent.slices, service, after or None)
    return replace(state, intent=state.intent.replace(slices=slices)), Delta(services=frozenset({service}))


def _policy(kind: str, read: Callable[[Object], Section]) -> Callable[[Translation, Key, Object | None], Step]:
    def apply_policy(state: Translation, key: Key, obj: Object | None) -> Step:
        section = read(obj) if obj is not None else None
        problems: tuple[Problem, ...] = ()
        if section is not None and section.fault:
            source = section.source
            origin = Origin(source.kind, source.namespace, source.name, source.uid)
            text = f"{source} cannot be understood, so what it selects is cut off: {section.fault}"
            problems = (Problem(origin, POLICY_INVALID, text),)
        state = _noted(state, kind, key, problems)
        name = f"{kind}/{key[0]}/{key[1]}"
        if state.intent.sections.get(name) == section:
            return state, Delta()
        sections = _with(state.intent.sections, name, section)
        return replace(state, intent=state.intent.replace(sections=sections)), Delta(sections=frozenset({name}))

    return apply_policy


def _apply_segments(state: Translation, key: Key, obj: Object | None) -> tuple[Translation, Delta]:
    new, problems = objects.segments(obj) if obj is not None else ((), ())
    state = _noted(state, "Namespace", key, problems)
    name = key[1]
    old = state.by_namespace.get(name, ())
    if new == old:
        return state, Delta()
    moves = _domain_of(state, name) != next((switch.domain for switch in new), 0)
    claims, switches = state.claims, state.intent.switches
    changed = set()
    for vni in {switch.vni for switch in (*old, *new)}:
        others = tuple(switch for switch in claims.get(vni, ()) if switch.origin.name != name)
        mine = tuple(switch for switch in new if switch.vni == vni)[:1]
        claim = tuple(sorted((*others, *mine), key=lambda switch: switch.origin))
        claims = _with(claims, vni, claim or None)
        if switches.get(vni) != (claim[0] if claim else None):
            switches = _with(switches, vni, claim[0] if claim else None)
            changed.add(vni)
    state = replace(
        state,
        intent=state.intent.replace(switches=switches),
        by_namespace=_with(state.by_namespace, name, new or None),
        claims=claims,
    )
    delta = Delta(switches=frozenset(changed))
    if moves:
        state, more = _offer_again(state, name)
        delta |= more
    return state, delta


def _noted(state: Translation, kind: str, key: Key, problems: tuple[Problem, ...]) -> Translation:
    if state.problems.get((kind, key), ()) == problems:
        return state
    return replace(state, problems=_with(state.problems, (kind, key), problems or None))


def _with(mapping: Any, key: Any, value: Any) -> Any:
    """The map with ``value`` under ``key``, or without ``key`` where the value is None."""
    if value is not None:
        return mapping.set(key, value)
    return mapping.delete(key) if key in mapping else mapping


def _vni_taken(loser: LogicalSwitch, winner: LogicalSwitch) -> Problem:
    text = f"{loser.origin} and {winner.origin} both say VNI {loser.vni}; the latter keeps it"
    return Problem(loser.origin, "VNI_CONFLICT", text)


def _withheld(asked: VirtualServer | Binding) -> Problem:
    plain = asked.origin.about("")
    text = (
        f"{plain} is not served: namespace {plain.namespace} is in a routing domain, which virtual servers, nodes and the "
        "outside are not in; make it in another namespace"
    )
    return Problem(plain, "ROUTING_DOMAIN_APART", text)


_APPLY: dict[str, Callable[[Translation, Key, Object | None], Step]] = {
    "Pod": _apply_pod,
    "Node": _apply_node,
    "Lease": _apply_lease,
    "Namespace": _apply_namespace,
    "Service": _apply_service,
    "EndpointSlice": _apply_slice,
    "Endpoints": _apply_endpoints,
    "AddressBinding": _apply_binding,
    **{each.KIND: _policy(each.KIND, each.section) for each in (networkpolicy, clusterpolicy, securitypolicy)},
}
KINDS = frozenset(_APPLY)
"""Kinds of Kubernetes objects that an intent follows from."""

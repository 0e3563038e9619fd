"""Generated policies, pods and connections for property tests of the firewall."""

from __future__ import annotations

from hypothesis import strategies as st

from firewall import clusterpolicy, networkpolicy, securitypolicy

SPACES = ("red", "blue", "green")
LABELS = {"app": ("web", "db"), "tier": ("front", "back")}
CIDRS = (
    "10.4.0.0/16",
    "10.4.0.0/24",
    "10.4.1.3/32",
    "0.0.0.0/0",
    "fd00:10:4::/48",
    "203.0.113.0/24",
    "192.168.50.0/24",
)
EXCEPTS = {"10.4.0.0/16": ("10.4.0.3/32", "10.4.2.0/24"), "0.0.0.0/0": ("10.4.1.0/24", "203.0.113.9/32")}
PORTS = (80, 81, 8080, 443)
NAMES = ("http", "dns")

pairs = st.dictionaries(st.sampled_from(("app", "tier")), st.sampled_from(("web", "db", "front", "back")), max_size=2)
expressions = st.one_of(
    st.builds(lambda k, v: {"key": k, "operator": "In", "values": v}, st.sampled_from(("app", "tier")), st.lists(st.sampled_from(("web", "db", "front")), min_size=1, max_size=2)),
    st.builds(lambda k, v: {"key": k, "operator": "NotIn", "values": v}, st.sampled_from(("app", "tier")), st.lists(st.sampled_from(("web", "db")), min_size=1, max_size=2)),
    st.builds(lambda k, o: {"key": k, "operator": o}, st.sampled_from(("app", "tier")), st.sampled_from(("Exists", "DoesNotExist"))),
)  # fmt: skip
selectors = st.one_of(
    st.just({}),
    st.builds(lambda p: {"matchLabels": p}, pairs),
    st.builds(lambda e: {"matchExpressions": e}, st.lists(expressions, min_size=1, max_size=2)),
)
spaces = st.one_of(
    st.just({}),
    st.sampled_from([{"matchLabels": {"kubernetes.io/metadata.name": space}} for space in SPACES]),
    st.just({"matchLabels": {"team": "a"}}),
)
blocks = st.sampled_from(CIDRS).flatmap(
    lambda cidr: st.builds(
        lambda e: {"cidr": cidr, **({"except": e} if e else {})},
        st.lists(st.sampled_from(EXCEPTS[cidr]), max_size=2, unique=True) if cidr in EXCEPTS else st.just([]),
    )
)
peers = st.one_of(
    st.builds(lambda p: {"podSelector": p}, selectors),
    st.builds(lambda n: {"namespaceSelector": n}, spaces),
    st.builds(lambda n, p: {"namespaceSelector": n, "podSelector": p}, spaces, selectors),
    st.builds(lambda b: {"ipBlock": b}, blocks),
)
protocols = st.sampled_from(("TCP", "UDP", "SCTP"))
services = st.one_of(
    st.builds(lambda p: {"protocol": p}, protocols),
    st.builds(lambda p, n: {"protocol": p, "port": n}, protocols, st.sampled_from(PORTS)),
    st.builds(lambda p, n: {"protocol": p, "port": n}, protocols, st.sampled_from(NAMES)),
    st.builds(lambda p: {"protocol": p, "port": 80, "endPort": 443}, protocols),
)
rules = st.builds(
    lambda side, who, what: {**({side: who} if who is not None else {}), **({"ports": what} if what else {})},
    st.just("side"),
    st.one_of(st.none(), st.lists(peers, max_size=2)),
    st.lists(services, max_size=2),
)


def _sided(rule: dict, side: str) -> dict:
    return {side if name == "side" else name: value for name, value in rule.items()}


network_policies = st.builds(
    lambda space, name, pods, ingress, egress, types: {
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "podSelector": pods,
            "ingress": [_sided(each, "from") for each in ingress],
            "egress": [_sided(each, "to") for each in egress],
            "policyTypes": types,
        },
    },
    st.sampled_from(SPACES),
    st.sampled_from(("one", "two", "three")),
    selectors,
    st.lists(rules, max_size=2),
    st.lists(rules, max_size=2),
    st.sampled_from((["Ingress"], ["Egress"], ["Ingress", "Egress"], [])),
).map(networkpolicy.section)

_port = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
cluster_services = st.one_of(
    st.builds(lambda p, n: {_port[p]: {"destinationPort": {"number": n}}}, protocols, st.sampled_from(PORTS)),
    st.builds(lambda p: {_port[p]: {"destinationPort": {"range": {"start": 79, "end": 443}}}}, protocols),
    st.builds(lambda n: {"destinationNamedPort": n}, st.sampled_from(NAMES)),
)
cluster_pods = st.one_of(
    st.builds(lambda n: {"namespaces": n}, spaces),
    st.builds(lambda n, p: {"pods": {"namespaceSelector": n, "podSelector": p}}, spaces, selectors),
)
cluster_peers = st.one_of(cluster_pods, st.builds(lambda c: {"networks": [c]}, st.sampled_from(CIDRS)))


def _cluster_rules(side: str, who: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(
        st.builds(
            lambda action, peers, what: {"action": action, side: peers, **({"protocols": what} if what else {})},
            st.sampled_from(("Accept", "Deny", "Pass")),
            st.lists(who, min_size=1, max_size=2),
            st.lists(cluster_services, max_size=2),
        ),
        max_size=2,
    )


cluster_policies = st.builds(
    lambda name, tier, priority, subject, ingress, egress: {
        "metadata": {"name": name},
        "spec": {"tier": tier, "priority": priority, "subject": subject, "ingress": ingress, "egress": egress},
    },
    st.sampled_from(("first", "second")),
    st.sampled_from(("Admin", "Baseline")),
    st.sampled_from((0, 5, 1000)),
    cluster_pods,
    _cluster_rules("from", cluster_pods),
    _cluster_rules("to", cluster_peers),
).map(clusterpolicy.section)

security_rules = st.builds(
    lambda action, way, who, what: {
        "action": action,
        "direction": way,
        **({("sources" if way == "In" else "destinations"): who} if who else {}),
        **({"ports": what} if what else {}),
    },
    st.sampled_from(("Allow", "Drop", "Reject")),
    st.sampled_from(("In", "Out")),
    st.lists(
        st.one_of(
            st.builds(lambda p: {"podSelector": p}, selectors),
            st.builds(lambda n: {"namespaceSelector": n}, spaces),
            st.builds(lambda b: {"ipBlocks": [b]}, blocks),
        ),
        max_size=2,
    ),
    st.lists(services, max_size=2),
)
security_policies = st.builds(
    lambda space, name, priority, rules: {
        "metadata": {"name": name, "namespace": space},
        "spec": {"priority": priority, "rules": rules},
    },
    st.sampled_from(SPACES),
    st.sampled_from(("sp", "sq")),
    st.sampled_from((0, 9, 10, 98, 99, 1000)),
    st.lists(security_rules, max_size=3),
).map(securitypolicy.section)

sections = st.one_of(network_policies, cluster_policies, security_policies)

"""Settings to the fabric an intent starts from. Pure."""

from __future__ import annotations

from firewall.order import Priorities
from firewall.rules import Action
from ipam.address import Interface, Prefix, parse_prefix
from ncp.settings import Settings
from ncp.translate.intent import Fabric
from sdn.model import NAT_FIREWALL_MATCH, FirewallSettings, NatSettings
from sdn.services import ALGORITHMS

TRANSIT_VNI = 5000
"""The segment that joins tier-0 and the nodes; namespaces' segments come after it."""


def fabric_of(settings: Settings) -> Fabric:
    """What the settings say of the fabric: transit segment, MTU, tiers, the way out."""
    transit = tuple(
        _first_host(parse_prefix(str(text))) for text in (settings.ncp.transit_v4, settings.ncp.transit_v6) if text
    )
    return Fabric(
        cluster=settings.coe.cluster,
        transit_vni=TRANSIT_VNI,
        transit=transit,
        mtu=settings.nsx_node_agent.mtu,
        single_tier=settings.nsx_v3.single_tier_topology,
        exit_node=settings.ncp.exit_node or "",
        blocks=pod_blocks(settings),
        domains={each.number: each.blocks for each in settings.ncp.routing_domains},
        firewall=firewall_of(settings),
        baseline=settings.k8s.baseline_policy_type,
        algorithm=ALGORITHMS[settings.nsx_v3.pool_algorithm],
        nat=NatSettings(
            settings.ncp.snat_ports,
            NAT_FIREWALL_MATCH[settings.nsx_v3.natfirewallmatch],
            settings.nsx_v3.snat_rule_logging,
            settings.k8s.enable_hostport_snat,
        ),
        snat_families=snat_families(settings),
    )


def snat_families(settings: Settings) -> frozenset[int]:
    """Families in which pods are translated on their way out: those that a pool has addresses of."""
    pools = settings.nsx_v3.external_ip_pools if settings.coe.enable_snat else ()
    return frozenset(span.family for pool in pools for span in pool.ranges)


def firewall_of(settings: Settings) -> FirewallSettings:
    """What the settings say of the whole firewall."""
    nsx = settings.nsx_v3
    logged: frozenset[Action] = frozenset()
    if nsx.log_dropped_traffic or nsx.log_firewall_traffic == "DENY":
        logged = frozenset({"drop", "reject"})
    if nsx.log_firewall_traffic == "ALL":
        logged = frozenset({"allow", "drop", "reject"})
    priorities = Priorities(nsx.top_section_priority, nsx.baseline_section_priority)
    return FirewallSettings(priorities, logged, settings.ncp.established_connections)


def pod_blocks(settings: Settings) -> tuple[Prefix, ...]:
    """Every block pods of the cluster's own routing domain get their addresses from: what nodes route into the overlay."""
    blocks = (*settings.nsx_v3.container_ip_blocks, *settings.nsx_v3.no_snat_ip_blocks)
    return tuple(parse_prefix(str(block)) for block in blocks)


def _first_host(prefix: Prefix) -> Interface:
    return Interface(prefix.family, prefix.value + 1, prefix.length)

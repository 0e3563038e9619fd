"""Every option of ``ncp.ini``, as one table. Reading, checking, `ncp config` and docs/configuration.md derive from it.

Names, sections and defaults are NCP's where NCP has the option; section ``ncp`` is ours. An option of status
``accepted`` is read and checked, so that an existing ncp.ini stays valid, and has no effect yet.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from ncp.settings_types import (
    LAST_AS,
    Kind,
    address,
    addresses,
    bgp_peers,
    boolean,
    choice,
    choices,
    integer,
    number,
    pool_access,
    pools,
    prefix,
    prefixes,
    secret,
    span,
    text,
    texts,
)

Status = Literal["works", "accepted"]


class Option(NamedTuple):
    """One option. ``default`` is text as it would stand in the file; ``also`` names further sections it may stand in.

    ``runtime``: an NCPSetting may override it without a restart (:mod:`ncp.manager.runtime`).
    """

    section: str
    name: str
    kind: Kind
    default: str
    meaning: str
    status: Status = "accepted"
    also: tuple[str, ...] = ()
    runtime: bool = False


SECTIONS: Final[dict[str, str]] = {
    "DEFAULT": "Logging of every process.",
    "coe": "The cluster as a whole.",
    "ha": "Election of the leading manager.",
    "k8s": "The Kubernetes API, and features chosen per cluster.",
    "nsx_v3": "Addresses, routers, firewall and load balancing.",
    "nsx_node_agent": "The agent on each node.",
    "nsx_kube_proxy": "Services on each node.",
    "vc": "vSphere; accepted for the sake of existing files.",
    "bgp": "Ours: routing with the physical network, on edge nodes.",
    "ncp": "Ours: what NCP left to NSX.",
}

_LEVELS = choice("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", optional=True)
_BOOL = boolean()
_TEXT = text()
_PATH = text(allowed="a path")
_COUNT = integer(0, 2**63 - 1)
_SECONDS = integer(0, 86400)
_PORT = integer(1, 65535, optional=True)
_NAME = text(
    r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?",
    "1 to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
    required=True,
)
_NODE = text(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "the name of a Kubernetes node, or nothing")

OPTIONS: Final[tuple[Option, ...]] = (
    # -- DEFAULT
    Option("DEFAULT", "debug", _BOOL, "False", "Log at level DEBUG.", "works"),
    Option("DEFAULT", "use_syslog", _BOOL, "False", "Log to syslog."),
    Option("DEFAULT", "log_dir", _PATH, "", "Directory that a relative log_file is in."),
    Option("DEFAULT", "log_file", _PATH, "", "File to log to; nothing: standard error."),
    Option("DEFAULT", "loglevel", _LEVELS, "", "Level of the root logger."),
    Option("DEFAULT", "log_rotation_file_max_mb", integer(1, 10**6), "100", "Size at which a log file is rotated."),
    Option("DEFAULT", "log_rotation_backup_count", integer(0, 1000), "5", "Rotated log files kept."),
    Option("DEFAULT", "api_log_rotation_file_max_mb", integer(1, 10**6), "10", "The same for the log of API calls."),
    Option("DEFAULT", "api_log_rotation_backup_count", integer(0, 1000), "5", "The same for the log of API calls."),
    # -- coe
    Option(
        "coe",
        "cluster",
        _NAME,
        "k8scluster",
        "Name of this cluster: marks whatever we own, in Kubernetes and on switches. Never change it.",
        "works",
    ),
    Option("coe", "enable_snat", _BOOL, "True", "Whether namespaces are translated on their way out.", "works"),
    Option("coe", "loglevel", _LEVELS, "", "Level of our own loggers."),
    Option("coe", "nsxlib_loglevel", _LEVELS, "", "Level of the switch programming loggers."),
    Option("coe", "connect_retry_timeout", _SECONDS, "0", "Seconds without a peer before a process exits; 0: never."),
    Option("coe", "enable_sha", _BOOL, "True", "Report health."),
    Option("coe", "adaptor", choice("kubernetes", "openshift4"), "kubernetes", "Platform flavour."),
    Option("coe", "node_type", choice("HOSTVM", "BAREMETAL"), "HOSTVM", "What nodes are."),
    # -- ha
    Option(
        "ha", "master_timeout", integer(2, 3600), "18", "Seconds a leader stays leader without a heartbeat.", "works"
    ),
    Option("ha", "heartbeat_period", integer(1, 1800), "6", "Seconds between a leader's heartbeats.", "works"),
    Option(
        "ha",
        "update_timeout",
        integer(1, 3600, optional=True),
        "",
        "Seconds a heartbeat may take; nothing: master_timeout minus heartbeat_period.",
        "works",
    ),
    # -- k8s
    Option("k8s", "apiserver_host_ip", address(), "", "API server; the kubeconfig or the pod's environment says it."),
    Option("k8s", "apiserver_host_port", _PORT, "", "API server's port."),
    Option(
        "k8s",
        "client_token_file",
        _PATH,
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "Token to authenticate with.",
    ),
    Option(
        "k8s",
        "ca_file",
        _PATH,
        "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        "Certificates the API server is verified with.",
    ),
    Option("k8s", "loglevel", _LEVELS, "", "Level of the Kubernetes client's loggers."),
    Option(
        "k8s",
        "ingress_mode",
        choice("hostnetwork", "nat"),
        "hostnetwork",
        "How ingress controllers are exposed.",
    ),
    Option("k8s", "lb_connection_multiplexing_enabled", _BOOL, "False", "Share backend connections."),
    Option("k8s", "lb_connection_multiplexing_number", integer(1, 10**6), "6", "Most connections shared."),
    Option("k8s", "http_and_https_ingress_ip", address(), "", "Address of HTTP and HTTPS ingresses."),
    Option(
        "k8s",
        "lb_ip_allocation",
        choice("relaxed", "strict"),
        "relaxed",
        "Whether spec.loadBalancerIP may lie outside external_ip_pools_lb.",
    ),
    Option("k8s", "enable_lb_crd", _BOOL, "False", "Serve the LoadBalancer custom resource."),
    Option(
        "k8s",
        "baseline_policy_type",
        choice("allow_cluster", "allow_namespace", "allow_namespace_strict", optional=True),
        "",
        "Policy that holds where no other decides.",
        "works",
    ),
    Option("k8s", "enable_ncp_event", _BOOL, "False", "Report errors as Kubernetes events."),
    Option("k8s", "enable_restore", _BOOL, "False", "Support for restoring NSX."),
    Option(
        "k8s",
        "enable_hostport_snat",
        _BOOL,
        "False",
        "Whether pods see their node's address, instead of the client's, in what comes to their host ports by the node (TCP, UDP).",
        "works",
    ),
    Option(
        "k8s",
        "statefulset_ip_range",
        _BOOL,
        "False",
        "Obey `ncp/ip_range` on pods of stateful sets: fixed addresses.",
        "works",
        ("nsx_v3",),
    ),
    Option(
        "k8s",
        "enable_namespace_subnets",
        _BOOL,
        "False",
        "Obey `ncp/subnets` on namespaces: the subnets of their own choice.",
        "works",
        ("nsx_v3",),
    ),
    Option("k8s", "enable_ncp_setting_crd", _BOOL, "False", "Let NCPSetting override options at run time.", "works"),
    Option("k8s", "min_request_timeout", integer(1, 86400), "1800", "Least seconds a watch is kept open."),
    Option("k8s", "enable_prometheus_metrics", _BOOL, "False", "See [ncp] manager_health_port."),
    Option("k8s", "prometheus_metrics_port", integer(1, 65535), "8001", "See [ncp] manager_health_port."),
    # -- nsx_v3: addresses
    Option(
        "nsx_v3",
        "container_ip_blocks",
        prefixes(),
        "",
        "Blocks that namespaces' subnets are cut from, of either family.",
        "works",
    ),
    Option(
        "nsx_v3",
        "no_snat_ip_blocks",
        prefixes(),
        "",
        "Blocks for namespaces with `ncp/no_snat`; nothing: container_ip_blocks serve them too.",
        "works",
    ),
    Option("nsx_v3", "subnet_prefix", integer(8, 30), "24", "Length of each IPv4 subnet.", "works"),
    Option("nsx_v3", "v6_subnet_prefix", integer(16, 126), "64", "Length of each IPv6 subnet.", "works"),
    Option(
        "nsx_v3",
        "use_ip_blocks_in_order",
        _BOOL,
        "False",
        "Use up the first block before the next, rather than spread subnets over all.",
        "works",
    ),
    Option(
        "nsx_v3", "ip_reallocation_time", _SECONDS, "60", "Seconds a released address rests.", "works", runtime=True
    ),
    Option(
        "nsx_v3",
        "external_ip_pools",
        pools(),
        "",
        "Pools of addresses that pods are translated to on their way out: of namespaces, services and bindings.",
        "works",
    ),
    Option(
        "nsx_v3",
        "external_ip_pools_lb",
        pools(),
        "",
        "Pools of virtual addresses for services of type LoadBalancer.",
        "works",
    ),
    Option("nsx_v3", "sync_realization", _BOOL, "True", "Wait until a decision is realised."),
    # -- nsx_v3: routers
    Option(
        "nsx_v3",
        "single_tier_topology",
        _BOOL,
        "False",
        "One tier-1 router for the cluster, rather than one for each namespace under a tier-0 router.",
        "works",
    ),
    Option("nsx_v3", "top_tier_router", _TEXT, "", "Router that namespaces' networks hang off."),
    Option("nsx_v3", "tier0_gateway", _TEXT, "", "Tier-0 router above a shared tier-1 router."),
    Option("nsx_v3", "overlay_tz", _TEXT, "", "Transport zone."),
    Option("nsx_v3", "edge_cluster", _TEXT, "", "Edge cluster of created tier-1 routers."),
    Option(
        "nsx_v3",
        "failover_mode",
        choice("PREEMPTIVE", "NON_PREEMPTIVE"),
        "NON_PREEMPTIVE",
        "Whether the preferred edge becomes the active one again once it is well again.",
        "works",
    ),
    Option("nsx_v3", "dns_servers", addresses(), "", "Name servers added to those of pods."),
    Option(
        "nsx_v3",
        "natfirewallmatch",
        choice("MATCH_EXTERNAL_ADDRESS", "MATCH_INTERNAL_ADDRESS", "BYPASS"),
        "MATCH_INTERNAL_ADDRESS",
        "Which address rules about packets to a bound address see at their sender: the pod's, the one outside, or none is asked.",
        "works",
    ),
    Option(
        "nsx_v3",
        "snat_rule_logging",
        choice("none", "basic", "extended"),
        "none",
        "Log new connections to the outside: who is whom there, or with the whole tuple.",
        "works",
    ),
    # -- nsx_v3: firewall
    Option(
        "nsx_v3",
        "top_section_priority",
        integer(0, 999999),
        "10",
        "Where NetworkPolicies stand among SecurityPolicies: before those of this priority.",
        "works",
    ),
    Option(
        "nsx_v3",
        "baseline_section_priority",
        integer(0, 999999),
        "99",
        "Where the baseline stands among SecurityPolicies: before those of this priority.",
        "works",
    ),
    Option("nsx_v3", "log_dropped_traffic", _BOOL, "False", "Log what the firewall drops or rejects.", "works"),
    Option(
        "nsx_v3",
        "log_firewall_traffic",
        choice("ALL", "DENY", optional=True),
        "",
        "What the firewall logs: rules that deny, or all.",
        "works",
    ),
    Option("nsx_v3", "enable_rule_tag", _BOOL, "True", "Tag firewall logs with the cluster's name."),
    Option("nsx_v3", "enable_nsx_err_crd", _BOOL, "False", "Report errors as NSXError resources."),
    # -- nsx_v3: load balancing
    Option(
        "nsx_v3",
        "use_native_loadbalancer",
        _BOOL,
        "True",
        "Serve Services of type LoadBalancer that name no class (those of class ncp/native always).",
        "works",
    ),
    Option("nsx_v3", "l4_lb_auto_scaling", _BOOL, "True", "Make further load balancers when one is full."),
    Option("nsx_v3", "l4_lb_auto_scaling_local_cache", _BOOL, "True", "Remember how full they are."),
    Option(
        "nsx_v3",
        "pool_algorithm",
        choice(
            "ROUND_ROBIN",
            "IP_HASH",
            "WEIGHTED_ROUND_ROBIN",
            refused={"LEAST_CONNECTION": "flows cannot count a member's connections"},
        ),
        "ROUND_ROBIN",
        "How a member of a service is chosen.",
        "works",
    ),
    Option("nsx_v3", "service_size", choice("SMALL", "MEDIUM", "LARGE"), "SMALL", "Size of a load balancer."),
    Option("nsx_v3", "l4_persistence", choice("source_ip", optional=True), "", "Stick to a backend, at layer 4."),
    Option(
        "nsx_v3", "l7_persistence", choice("cookie", "source_ip", optional=True), "", "Stick to a backend, at layer 7."
    ),
    Option("nsx_v3", "l7_persistence_timeout", integer(1, 2147483647), "10800", "Seconds it sticks."),
    Option("nsx_v3", "cookie_name", _TEXT, "", "Cookie it sticks by."),
    Option("nsx_v3", "x_forwarded_for", choice("INSERT", "REPLACE", optional=True), "", "X-Forwarded-For header."),
    Option("nsx_v3", "lb_service", _TEXT, "", "Existing load balancer to use."),
    Option("nsx_v3", "lb_vs_ip_set", _TEXT, "", "Existing set to hold virtual servers' addresses."),
    Option("nsx_v3", "client_ssl_profile", _TEXT, "", "TLS profile towards clients."),
    Option("nsx_v3", "lb_default_cert_path", _PATH, "", "Default certificate of HTTPS ingresses."),
    Option("nsx_v3", "lb_priv_key_path", _PATH, "", "Its key."),
    Option("nsx_v3", "lb_http_request_header_size", integer(1, 65536), "1024", "Bytes of request headers kept."),
    Option("nsx_v3", "lb_http_response_header_size", integer(1, 65536), "4096", "Bytes of response headers allowed."),
    Option("nsx_v3", "lb_http_response_timeout", integer(1, 2147483647), "60", "Seconds a backend may be idle."),
    Option("nsx_v3", "vs_access_log", choice("none", "all", "significant"), "none", "Log requests."),
    Option("nsx_v3", "max_allowed_virtual_servers", _COUNT, "9223372036854775807", "Most virtual servers."),
    Option(
        "nsx_v3",
        "ncp_enforced_pool_member_limit",
        choice("ACTIVATE", "DEACTIVATE"),
        "DEACTIVATE",
        "Whether the two limits below hold.",
    ),
    Option("nsx_v3", "members_per_small_lbs", integer(1, 7500), "4000", "Most backends of a small load balancer."),
    Option("nsx_v3", "members_per_medium_lbs", integer(1, 7500), "4000", "Most backends of a medium load balancer."),
    # -- nsx_v3: the NSX manager, which we do without
    Option("nsx_v3", "policy_nsxapi", _BOOL, "True", "Which API of NSX to use."),
    Option("nsx_v3", "nsx_api_managers", texts(), "", "NSX managers."),
    Option("nsx_v3", "nsx_api_cert_file", _PATH, "", "Client certificate for them."),
    Option("nsx_v3", "nsx_api_private_key_file", _PATH, "", "Its key."),
    Option("nsx_v3", "ca_file", _PATH, "", "Certificates they are verified with."),
    Option("nsx_v3", "insecure", _BOOL, "False", "Do not verify them."),
    Option("nsx_v3", "thumbprint", texts(), "", "Thumbprints they are verified with."),
    Option("nsx_v3", "cluster_unavailable_retry", _BOOL, "False", "Retry while none is there."),
    Option("nsx_v3", "retries", integer(0, 1000), "10", "Retries of a request on stale revisions."),
    Option("nsx_v3", "http_timeout", integer(5, 3600), "10", "Seconds to connect."),
    Option("nsx_v3", "http_read_timeout", integer(10, 3600), "180", "Seconds to wait for an answer."),
    Option("nsx_v3", "http_retries", integer(0, 1000), "3", "Retries of a connection."),
    Option("nsx_v3", "concurrent_connections", integer(1, 1000), "10", "Connections at once."),
    Option("nsx_v3", "conn_idle_timeout", integer(0, 3600), "10", "Seconds before an idle connection is tested."),
    Option("nsx_v3", "redirects", integer(0, 100), "2", "Redirects followed."),
    # -- nsx_node_agent
    Option(
        "nsx_node_agent",
        "mtu",
        integer(576, 65535),
        "1500",
        "Largest IP packet the underlay carries; pods get what Geneve leaves of it.",
        "works",
    ),
    Option(
        "nsx_node_agent",
        "ovs_bridge",
        text(r"[A-Za-z0-9_.-]{1,15}", "a name of 1 to 15 letters, digits, '-', '_' and '.'", required=True),
        "br-int",
        "The integration bridge.",
        "works",
    ),
    Option("nsx_node_agent", "ovs_uplink_port", _TEXT, "", "Uplink port of the node's own addresses."),
    Option("nsx_node_agent", "ovs_operation_timeout", integer(1, 600), "5", "Seconds an OVSDB operation may take."),
    Option("nsx_node_agent", "enable_ipv6", _BOOL, "False", "IPv6 follows from the blocks; this says nothing more."),
    Option("nsx_node_agent", "config_retry_timeout", integer(1, 3600), "300", "Seconds a pod may wait to be set up."),
    Option("nsx_node_agent", "config_reuse_backoff_time", _SECONDS, "15", "Seconds before held answers are reused."),
    Option(
        "nsx_node_agent",
        "waiting_before_cni_response",
        integer(0, 3600),
        "0",
        "Fixed sleep before a pod starts; not needed here: a pod starts when its flows are acknowledged.",
    ),
    Option(
        "nsx_node_agent",
        "is_dhcp_configured_on_ovs_uplink_port",
        choice("True", "False", "auto"),
        "auto",
        "Whether the uplink gets its address by DHCP.",
    ),
    Option("nsx_node_agent", "use_ncp_portmap", _BOOL, "False", "Install the portmap plugin."),
    Option("nsx_node_agent", "enable_ovs_mcast_snooping", _BOOL, "False", "Snoop multicast membership."),
    Option("nsx_node_agent", "use_nsx_ovs_kernel_module", _BOOL, "False", "Load NSX's own kernel module."),
    Option("nsx_node_agent", "proc_mount_path_prefix", _PATH, "", "Where the host's /proc is mounted."),
    Option("nsx_node_agent", "enable_nodelocaldns_monitoring", _BOOL, "False", "Watch the node-local DNS cache."),
    Option("nsx_node_agent", "nsxrpc_loglevel", _LEVELS, "INFO", "Level of the RPC library's loggers."),
    Option("nsx_kube_proxy", "config_handler", choice("ovs", "nestdb"), "ovs", "What realises services."),
    # -- vc
    Option("vc", "vc_endpoint", _TEXT, "", "vCenter."),
    Option("vc", "sso_domain", _TEXT, "", "Its sign-on domain."),
    Option("vc", "https_port", integer(1, 65535), "443", "Its port."),
    # -- bgp
    Option(
        "bgp",
        "local_as",
        integer(1, LAST_AS, optional=True),
        "",
        "Number of our autonomous system; nothing: no BGP.",
        "works",
    ),
    Option(
        "bgp",
        "peers",
        bgp_peers(),
        "",
        "Routers of the physical network (`192.168.10.1 as 65100, fd00::1 as 65100`). A node peers with those on its links.",
        "works",
    ),
    Option(
        "bgp",
        "announce",
        choices("vips", "snat", "no_snat", "segments"),
        "vips, snat, no_snat",
        "What peers are told: addresses of load balancers, addresses that pods are translated to, networks of namespaces "
        "that are not translated, all networks of namespaces.",
        "works",
    ),
    Option("bgp", "learn", _BOOL, "True", "Take routes from peers.", "works"),
    Option("bgp", "ecmp", integer(1, 64), "8", "Next hops of one route at most.", "works"),
    Option(
        "bgp",
        "bfd",
        _BOOL,
        "True",
        "Watch peers by BFD (RFC 5880): three intervals without an answer, and it is gone.",
        "works",
    ),
    Option("bgp", "bfd_interval_ms", integer(100, 60000), "300", "Milliseconds between packets of BFD.", "works"),
    Option("bgp", "keepalive", integer(1, 21845), "1", "Seconds between keepalives.", "works"),
    Option("bgp", "hold", integer(3, 65535), "3", "Seconds without a keepalive before a peer is gone.", "works"),
    Option(
        "bgp",
        "password",
        secret(r"[!-~]{1,80}", "1 to 80 visible characters, or nothing"),
        "",
        "What sessions are signed with (RFC 2385), the same for all peers.",
        "works",
    ),
    # -- ncp
    Option(
        "ncp",
        "transit_v4",
        prefix(4),
        "100.64.0.0/16",
        "Network that joins tier-0 and the nodes; pods see its first address in traces.",
        "works",
    ),
    Option("ncp", "transit_v6", prefix(6), "fd98::/64", "The same for IPv6.", "works"),
    Option(
        "ncp",
        "vni_range",
        span(1, 2**24 - 1),
        "5001-75000",
        "Numbers that segments get, the lowest free first; 5000 is the transit segment.",
        "works",
    ),
    Option(
        "ncp",
        "audit_interval",
        number(0.1, 86400),
        "20",
        "Seconds between comparisons of what a switch holds with what it should hold.",
        "works",
    ),
    Option(
        "ncp",
        "established_connections",
        choice("keep", "recheck", "cut"),
        "recheck",
        "What becomes of connections that a policy forbids after they began, where the policy itself does not say.",
        "works",
    ),
    Option(
        "ncp",
        "removed_members",
        choice("drain", "reset"),
        "drain",
        "What becomes of TCP connections to members that a service gives up: they are let end, or their next packet is reset.",
        "works",
    ),
    Option(
        "ncp",
        "node_port_range",
        span(1, 65535),
        "30000-32767",
        "Ports that services get on every node, as the API server's --service-node-port-range has them.",
        "works",
    ),
    Option(
        "ncp",
        "snat_ports",
        span(1, 65535),
        "1024-65535",
        "First and last port that translated connections leave from; with all of 1024-65535 they keep theirs where it is free.",
        "works",
    ),
    Option(
        "ncp",
        "snat_pool_namespaces",
        pool_access(),
        "",
        "Pools of external_ip_pools that only these namespaces get addresses from; others are open to all.",
        "works",
    ),
    Option(
        "ncp",
        "exit_node",
        _NODE,
        "",
        "Node that default-routed traffic leaves by, where no node is labelled `ncp/edge`.",
        "works",
    ),
    Option(
        "ncp",
        "edge_lease",
        number(1, 60),
        "2",
        "Seconds that the active edge holds its lease without renewing it; half of it is how soon a dead one is replaced.",
        "works",
    ),
    Option(
        "ncp",
        "edge_bfd_interval",
        integer(50, 1000),
        "200",
        "Milliseconds between BFD packets of edges; a way is dead after three of them are missing.",
        "works",
    ),
    Option(
        "ncp",
        "ha_mode",
        choice("active-standby", "active-active"),
        "active-standby",
        "Whether the active edge node alone announces networks by BGP, or every one (translated addresses: the active one).",
        "works",
    ),
    Option(
        "ncp",
        "controller_rate",
        integer(1, 1000000),
        "500",
        "Packets per second a switch may send to its agent.",
        "works",
    ),
    Option(
        "ncp",
        "health_bind",
        address(optional=False),
        "127.0.0.1",
        "Address that /healthz, /readyz and /metrics are served on.",
        "works",
    ),
    Option("ncp", "manager_health_port", integer(0, 65535), "0", "Their port in a manager; 0: not served.", "works"),
    Option("ncp", "node_health_port", integer(0, 65535), "0", "Their port in a node agent; 0: not served.", "works"),
)

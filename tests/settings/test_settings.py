from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

import ncp.settings
from ipam.address import parse_prefix
from ncp.settings import SettingsError, effective, load, parse
from ncp.settings_docs import render_markdown
from ncp.settings_options import OPTIONS, SECTIONS
from ncp.settings_types import PoolAccess, RoutingDomain, Span


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        parse(text)
    return caught.value.problems


def only_problem(text: str) -> str:
    found = problems(text)
    assert len(found) == 1, found
    return found[0]


def test_an_empty_file_gives_ncps_defaults():
    settings = parse("")
    assert settings.coe.cluster == "k8scluster"
    assert settings.coe.enable_snat is True
    assert settings.nsx_v3.subnet_prefix == 24
    assert settings.nsx_v3.v6_subnet_prefix == 64
    assert settings.nsx_v3.container_ip_blocks == ()
    assert settings.nsx_v3.ip_reallocation_time == 60
    assert settings.nsx_node_agent.mtu == 1500
    assert settings.nsx_node_agent.ovs_bridge == "br-int"
    assert settings.ha.master_timeout == 18
    assert settings.ncp.transit_v4 == parse_prefix("100.64.0.0/16")
    assert settings.ncp.transit_v6 == parse_prefix("fd98::/64")
    assert settings.ncp.vni_range == Span(5001, 75000)
    assert settings.ncp.exit_node == ""
    assert settings.given == frozenset()


def test_values_are_read_by_their_types():
    settings = parse(
        """
        # a comment
        [coe]
        cluster = blue.1
        enable_snat = no
        [nsx_v3]
        container_ip_blocks = 10.4.0.0/16, fd00:10:4::/48
        external_ip_pools = [192.0.2.0/28, 198.51.100.7-198.51.100.9]
        log_firewall_traffic = deny
        l4_persistence = None
        [k8s]
        apiserver_host_ip = <None>
        [ncp]
        audit_interval = 2.5
        transit_v6 =
        """.replace("        ", "")
    )
    assert settings.coe.cluster == "blue.1"
    assert settings.coe.enable_snat is False
    assert settings.nsx_v3.container_ip_blocks == (parse_prefix("10.4.0.0/16"), parse_prefix("fd00:10:4::/48"))
    assert [(pool.name, [str(span) for span in pool.ranges]) for pool in settings.nsx_v3.external_ip_pools] == [
        ("192.0.2.0/28", ["192.0.2.0-192.0.2.15"]),
        ("198.51.100.7-198.51.100.9", ["198.51.100.7-198.51.100.9"]),
    ]
    assert settings.nsx_v3.log_firewall_traffic == "DENY"
    assert settings.nsx_v3.l4_persistence is None
    assert settings.k8s.apiserver_host_ip is None
    assert settings.ncp.audit_interval == 2.5
    assert settings.ncp.transit_v6 is None
    assert ("coe", "cluster") in settings.given


def test_pools_have_names_and_several_entries_of_one_are_one_pool():
    text = "lab=192.0.2.200-192.0.2.210, far = 198.51.100.0/31,lab=fd50::200, 203.0.113.0/30"
    pools = parse(f"[nsx_v3]\nexternal_ip_pools_lb = {text}").nsx_v3.external_ip_pools_lb
    assert [(pool.name, ", ".join(map(str, pool.ranges))) for pool in pools] == [
        ("lab", "192.0.2.200-192.0.2.210, fd50::200"),
        ("far", "198.51.100.0-198.51.100.1"),
        ("203.0.113.0/30", "203.0.113.0-203.0.113.3"),
    ]
    shown = ", ".join(map(str, pools))
    assert parse(f"[nsx_v3]\nexternal_ip_pools_lb = {shown}").nsx_v3.external_ip_pools_lb == pools


def test_pools_may_be_for_some_namespaces_only():
    pools = "[nsx_v3]\nexternal_ip_pools = a=10.0.0.1, 10.0.1.0/24\n[ncp]\nsnat_pool_namespaces = "
    access = parse(pools + "a = x y-1 x, 10.0.1.0/24=z").ncp.snat_pool_namespaces
    assert access == (PoolAccess("a", ("x", "y-1")), PoolAccess("10.0.1.0/24", ("z",)))
    assert parse(pools + ", ".join(map(str, access))).ncp.snat_pool_namespaces == access


def test_routing_domains_may_overlap_each_other_and_everything():
    text = "[nsx_v3]\ncontainer_ip_blocks = 10.4.0.0/16\n[ncp]\nrouting_domains = "
    domains = parse(text + "ann=10.4.0.0/16 fd00::/48, bob = 10.4.0.0/16").ncp.routing_domains
    assert [(each.name, [str(block) for block in each.blocks]) for each in domains] == [
        ("ann", ["10.4.0.0/16", "fd00::/48"]), ("bob", ["10.4.0.0/16"]),
    ]  # fmt: skip
    assert parse(text + ", ".join(map(str, domains))).ncp.routing_domains == domains


def test_a_domains_number_follows_from_its_name_alone():
    """It stands on namespaces: another order of the option must not lead them into another domain."""
    (one,), (_, two) = (
        parse(f"[ncp]\nrouting_domains = {text}").ncp.routing_domains
        for text in ("ann=10.0.0.0/16", "bob=10.0.0.0/16, ann=10.9.0.0/16")
    )
    assert one.number == two.number == 3038


def test_domains_whose_numbers_meet_are_refused_by_name():
    names: dict[int, str] = {}
    for n in range(10_000):
        other = names.setdefault(RoutingDomain(f"d{n}", ()).number, f"d{n}")
        if other != f"d{n}":
            break
    said = only_problem(f"[ncp]\nrouting_domains = {other}=10.0.0.0/16, d{n}=10.1.0.0/16")
    assert f"domains {other} and d{n} have the same number" in said


def test_settings_cannot_be_changed():
    settings = parse("")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.coe.cluster = "other"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[coo]\n", "[coo]: there is no such section; did you mean 'coe'?"),
        ("[nsx_v3]\ncontainer_ip_block = 10.0.0.0/8", "did you mean 'container_ip_blocks'?"),
        (
            "[nsx_v3]\nmtu = 9000",
            "[nsx_v3] mtu: there is no such option in this section; it belongs in [nsx_node_agent]",
        ),
        ("[nsx_v3]\nzzz = 1", "[nsx_v3] zzz: there is no such option; `ncp config docs` lists all"),
        ("[nsx_node_agent]\nmtu = big", "[nsx_node_agent] mtu = big: it is not a whole number; allowed: 576 to 65535"),
        ("[nsx_node_agent]\nmtu = 100", "[nsx_node_agent] mtu = 100: it is out of range; allowed: 576 to 65535"),
        ("[coe]\nenable_snat = maybe", "allowed: True or False"),
        ("[nsx_v3]\npool_algorithm = RANDOM", "allowed: ROUND_ROBIN, IP_HASH"),
        (
            "[nsx_v3]\npool_algorithm = LEAST_CONNECTION",
            "flows cannot count a member's connections; allowed: ROUND_ROBIN",
        ),
        ("[nsx_v3]\ncontainer_ip_blocks = 10.4.0.1/16", "did you mean 10.4.0.0/16?"),
        ("[nsx_v3]\ncontainer_ip_blocks = my-block", "'my-block' is not an IPv4 or IPv6 address"),
        ("[nsx_v3]\nexternal_ip_pools = 10.0.0.9-10.0.0.1", "with FIRST not above LAST"),
        ("[nsx_v3]\nexternal_ip_pools = 10.0.0.9-fd00::1", "FIRST-LAST of one family"),
        (
            "[nsx_v3]\nexternal_ip_pools_lb = a=10.0.0.0/24, b=10.0.0.9-10.0.1.9",
            "10.0.0.0-10.0.0.255 of pool a overlaps 10.0.0.9-10.0.1.9 of pool b",
        ),
        ("[nsx_v3]\nexternal_ip_pools_lb = a=10.0.0.1, a=10.0.0.1", "10.0.0.1 of pool a overlaps 10.0.0.1 of pool a"),
        (
            "[nsx_v3]\nexternal_ip_pools_lb = 10.0.0.1=10.0.0.2",
            "'10.0.0.1' in '10.0.0.1=10.0.0.2' is no name of a pool",
        ),
        ("[nsx_v3]\nexternal_ip_pools_lb = =10.0.0.2", "'' in '=10.0.0.2' is no name of a pool"),
        ("[nsx_v3]\nexternal_ip_pools_lb = lab", "'lab' is not an IPv4 or IPv6 address; allowed: NAME=RANGE entries"),
        (
            "[nsx_v3]\ncontainer_ip_blocks = 10.4.0.0/16\nexternal_ip_pools_lb = a=10.4.255.255",
            "10.4.255.255 of pool a overlaps [nsx_v3] container_ip_blocks 10.4.0.0/16",
        ),
        (
            "[nsx_v3]\nno_snat_ip_blocks = fd00:5::/48\nexternal_ip_pools = a=10.0.0.1, a=fd00:5::7",
            "external_ip_pools fd00:5::7 of pool a overlaps [nsx_v3] no_snat_ip_blocks fd00:5::/48",
        ),
        (
            "[nsx_v3]\nexternal_ip_pools = a=10.0.0.0/30\nexternal_ip_pools_lb = a=10.0.0.3-10.0.0.9",
            "external_ip_pools 10.0.0.0-10.0.0.3 of pool a overlaps external_ip_pools_lb 10.0.0.3-10.0.0.9 of pool a",
        ),
        (
            "[nsx_v3]\nexternal_ip_pools = a=10.0.0.0/24, b=10.0.0.9",
            "10.0.0.0-10.0.0.255 of pool a overlaps 10.0.0.9 of pool b",
        ),
        ("[ncp]\nsnat_pool_namespaces = a", "'a' is not POOL=NAMESPACE NAMESPACE ...; allowed: POOL=NAMESPACE"),
        ("[ncp]\nsnat_pool_namespaces = a=B", "'B' in 'a=B' is no name of a namespace"),
        ("[ncp]\nsnat_pool_namespaces = a=b, a=c", "pool a is named twice"),
        (
            "[ncp]\nsnat_pool_namespaces = c=x\n[nsx_v3]\nexternal_ip_pools = a=10.0.0.1, b=10.0.0.2",
            "snat_pool_namespaces c=x: [nsx_v3] external_ip_pools has no pool c; allowed: a, b",
        ),
        ("[ncp]\nrouting_domains = ann", "'ann' is not NAME=CIDR CIDR ..."),
        ("[ncp]\nrouting_domains = a/b=10.0.0.0/16", "'a/b=10.0.0.0/16' is not NAME=CIDR CIDR ..."),
        ("[ncp]\nrouting_domains = a=10.0.0.0", "allowed: NAME=CIDR CIDR ..."),
        ("[ncp]\nrouting_domains = a=10.0.0.0/16, a=10.1.0.0/16", "domain a is named twice"),
        (
            "[ncp]\nrouting_domains = a=10.0.0.0/16 10.0.0.0/24",
            "10.0.0.0/16 of domain a overlaps 10.0.0.0/24 of the same domain",
        ),
        (
            "[ncp]\nrouting_domains = a=10.0.0.0/25",
            "[ncp] routing_domains 10.0.0.0/25 of domain a is smaller than one subnet (subnet_prefix = 24)",
        ),
        ("[ncp]\ntransit_v4 = fd98::/64", "it is an IPv6 network; allowed: one IPv4 network"),
        ("[ncp]\nvni_range = 7000-6000", "runs backwards"),
        ("[ncp]\naudit_interval = 0", "out of range"),
        ("[coe]\ncluster = -blue", "1 to 63 letters"),
        ("[coe]\ncluster =", "1 to 63 letters"),
        ("[coe]\ncluster = a\ncluster = b", "line 3: [coe] cluster is given twice"),
        ("[coe]\n[coe]\n", "section [coe] is given twice"),
        ("cluster = a", "line 1: an option before the first [section]"),
        ("[coe]\ncluster", "line 2: not NAME = VALUE"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(text, says):
    assert says in only_problem(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[nsx_v3]\ncontainer_ip_blocks = 10.4.0.0/16\nno_snat_ip_blocks = 10.4.128.0/17",
            "[nsx_v3] container_ip_blocks 10.4.0.0/16 overlaps [nsx_v3] no_snat_ip_blocks 10.4.128.0/17",
        ),
        (
            "[nsx_v3]\ncontainer_ip_blocks = 100.64.0.0/12",
            "[nsx_v3] container_ip_blocks 100.64.0.0/12 overlaps [ncp] transit_v4 100.64.0.0/16",
        ),
        (
            "[nsx_v3]\ncontainer_ip_blocks = 10.4.0.0/25",
            "container_ip_blocks 10.4.0.0/25 is smaller than one subnet (subnet_prefix = 24)",
        ),
        ("[nsx_v3]\ncontainer_ip_blocks = fd00::/65", "(v6_subnet_prefix = 64)"),
        ("[ncp]\nvni_range = 4000-6000", "contains 5000"),
        ("[ha]\nmaster_timeout = 10\nupdate_timeout = 5", "exceed master_timeout 10"),
        ("[ha]\nmaster_timeout = 6", "exceed master_timeout 6"),
        (
            "[nsx_v3]\ncontainer_ip_blocks = fd00::/48\n[nsx_node_agent]\nmtu = 1300",
            "[nsx_node_agent] mtu 1300 is too small for IPv6 pods; allowed with IPv6 blocks: 1338 or more",
        ),
    ],
)
def test_values_that_contradict_each_other(text, says):
    assert says in only_problem(text)


def test_the_least_mtu_named_is_allowed():
    settings = parse("[nsx_v3]\ncontainer_ip_blocks = fd00::/48\n[nsx_node_agent]\nmtu = 1338")
    assert settings.nsx_node_agent.mtu == 1338


def test_everything_wrong_is_told_at_once_and_names_the_file(tmp_path):
    path = tmp_path / "ncp.ini"
    path.write_text("[coe]\ncluster = -\n[foo]\n[nsx_node_agent]\nmtu = 1\n")
    with pytest.raises(SettingsError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}: [") for line in lines)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "absent.ini")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load(tmp_path / "binary")


@pytest.mark.parametrize("section", ["k8s", "nsx_v3"])
def test_an_option_with_two_homes_is_read_from_either(section):
    settings = parse(f"[{section}]\nenable_namespace_subnets = True")
    assert settings.k8s.enable_namespace_subnets is True
    assert settings.nsx_v3.enable_namespace_subnets is True


def test_an_option_with_two_homes_has_one_value():
    text = "[k8s]\nstatefulset_ip_range = True\n[nsx_v3]\nstatefulset_ip_range = False"
    assert "give it different values" in only_problem(text)


def test_every_default_is_valid_and_shown_as_it_can_be_read_again():
    for item in effective(parse("")):
        kind = item.option.kind
        assert kind.parse(item.text) == item.value, item.option.name
        assert not item.given


def test_no_option_is_declared_twice_and_every_section_exists():
    places = [(place, option.name) for option in OPTIONS for place in (option.section, *option.also)]
    assert len(places) == len(set(places))
    assert {section for section, _ in places} == set(SECTIONS)


def test_the_options_of_a_current_ncp_ini_are_all_there():
    """Sections and names as NSX-T's NCP ships them; the defaults are filled in as the file's comments do."""
    shipped = {
        "DEFAULT": "debug use_syslog log_dir log_file log_rotation_file_max_mb api_log_rotation_file_max_mb "
        "log_rotation_backup_count api_log_rotation_backup_count loglevel",
        "coe": "cluster loglevel nsxlib_loglevel enable_snat connect_retry_timeout enable_sha",
        "ha": "master_timeout heartbeat_period update_timeout",
        "k8s": "apiserver_host_ip apiserver_host_port client_token_file ca_file ingress_mode loglevel "
        "lb_connection_multiplexing_enabled lb_connection_multiplexing_number http_and_https_ingress_ip "
        "lb_ip_allocation enable_lb_crd baseline_policy_type enable_ncp_event enable_restore enable_hostport_snat "
        "statefulset_ip_range enable_namespace_subnets enable_ncp_setting_crd min_request_timeout",
        "nsx_node_agent": "nsxrpc_loglevel config_reuse_backoff_time ovs_uplink_port ovs_operation_timeout enable_ipv6 "
        "is_dhcp_configured_on_ovs_uplink_port mtu waiting_before_cni_response use_ncp_portmap",
        "nsx_v3": "nsx_api_managers cluster_unavailable_retry retries thumbprint http_timeout http_read_timeout "
        "top_section_priority baseline_section_priority http_retries concurrent_connections conn_idle_timeout redirects "
        "subnet_prefix v6_subnet_prefix log_dropped_traffic log_firewall_traffic use_native_loadbalancer "
        "l4_lb_auto_scaling l4_lb_auto_scaling_local_cache pool_algorithm service_size l7_persistence "
        "l7_persistence_timeout l4_persistence use_ip_blocks_in_order container_ip_blocks no_snat_ip_blocks "
        "external_ip_pools top_tier_router single_tier_topology external_ip_pools_lb overlay_tz lb_service lb_vs_ip_set "
        "x_forwarded_for dns_servers enable_nsx_err_crd max_allowed_virtual_servers edge_cluster "
        "lb_http_request_header_size lb_http_response_header_size lb_http_response_timeout failover_mode "
        "ncp_enforced_pool_member_limit members_per_small_lbs members_per_medium_lbs client_ssl_profile enable_rule_tag "
        "snat_rule_logging vs_access_log ip_reallocation_time cookie_name sync_realization natfirewallmatch",
        "nsx_kube_proxy": "",
        "vc": "",
    }
    defaults = {(option.section, option.name): option.default or "<None>" for option in OPTIONS}
    text = "".join(
        f"[{section}]\n" + "".join(f"{name} = {defaults[section, name]}\n" for name in names.split())
        for section, names in shipped.items()
    )
    assert len(parse(text).given) == sum(len(names.split()) for names in shipped.values())


def test_an_option_works_exactly_when_the_code_reads_it():
    """A status that lies helps nobody: whoever begins to use an option marks it ``works`` in the table."""
    package = Path(ncp.settings.__file__).parent
    read = {
        node.attr
        for path in package.rglob("*.py")
        if not path.name.startswith("settings")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    wrong = [option.name for option in OPTIONS if (option.status == "works") != (option.name in read)]
    assert not wrong


def test_the_documentation_names_every_option_once():
    page = render_markdown()
    assert page.endswith("|\n")
    for option in OPTIONS:
        rows = [
            line for line in page.splitlines() if line.startswith(f"| `{option.name}` |") and option.meaning in line
        ]
        assert len(rows) == 1, option.name
        assert ("*(accepted)*" in rows[0]) == (option.status == "accepted")
        assert rows[0].replace("\\|", "").count("|") == 5

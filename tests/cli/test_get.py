from __future__ import annotations

import json

import pytest
import yaml


def by_name(rows: list[dict]) -> dict[str, dict]:
    return {row["name"]: row for row in rows}


def test_pods_say_where_they_are_and_how_far(ncp, lab):
    rows = by_name(ncp("get", "pods", "--state", lab, "-o", "json").json)
    assert rows["web"]["segment"] == "blue/0"
    assert rows["web"]["addresses"] == ["10.4.0.2", "fd00:10:4::2"]
    assert rows["web"]["mac"] == "02:4e:0a:04:00:02"
    assert rows["web"]["node"] == "n1"
    assert {name: row["state"] for name, row in rows.items()} == {
        "web": "realised",
        "db": "decided",
        "host": "host network",
        "full": "error",
    }
    assert rows["full"]["errors"] == {"network": "IP_BLOCK_EXHAUSTED: no subnet is left"}
    assert rows["full"]["segment"] is None


def test_a_silent_agent_does_not_hide_the_pods(ncp, lab, dead_agent):
    rows = by_name(ncp("get", "pods", "--state", lab, "-o", "json").json)
    assert rows["db"]["state"] == "agent silent"
    assert by_name(ncp("get", "nodes", "--state", lab, "-o", "json").json)["n2"]["agent"] == "silent"
    reasons = {row["reason"] for row in ncp("get", "problems", "--state", lab, "-o", "json").json}
    assert "AGENT_SILENT" in reasons


@pytest.mark.parametrize("kind", ["segments", "switches", "logical-switches"])
def test_segments_by_any_name(ncp, lab, kind):
    rows = by_name(ncp("get", kind, "--state", lab, "-o", "json").json)
    assert list(rows) == ["transit", "blue/0", "red/0", "blue/1"]
    assert rows["blue/0"] == {
        "name": "blue/0",
        "namespace": "blue",
        "vni": 5001,
        "router": "blue",
        "gateways": ["10.4.0.1/24", "fd00:10:4::1/64"],
        "snat": True,
        "domain": None,
        "ports": 1,
    }


def test_routers_hold_what_hangs_off_them(ncp, lab):
    rows = by_name(ncp("get", "routers", "--state", lab, "-o", "json").json)
    assert rows["tier-0"]["interfaces"] == ["100.64.0.1/16", "fd98::1/64"]
    assert rows["blue"]["segments"] == ["blue/0", "blue/1"]
    assert rows["blue"]["interfaces"] == ["10.4.0.1/24", "fd00:10:4::1/64", "10.4.2.1/24"]
    assert rows["red"]["tier"] == 1
    assert {(row["made_by"], *row["namespaces"]) for row in rows.values()} == {("us",), ("us", "red"), ("us", "blue")}


def test_ports_show_where_they_are_attached(ncp, lab):
    rows = by_name(ncp("get", "ports", "--state", lab, "-o", "json").json)
    assert (rows["blue/web"]["ofport"], rows["blue/web"]["state"]) == (16, "realised")
    assert (rows["red/db"]["ofport"], rows["red/db"]["state"]) == (None, "decided")


def test_nodes_show_their_agents(ncp, lab):
    rows = by_name(ncp("get", "nodes", "--state", lab, "-o", "json").json)
    assert rows["n1"]["ready"] is True
    assert rows["n2"]["ready"] is False
    assert rows["n1"]["tep"] == "172.16.0.1"
    assert (rows["n1"]["agent"], rows["n2"]["agent"]) == ("in step", "elsewhere")
    assert (rows["n1"]["ports"], rows["n1"]["flows"]) == (1, 3)


def test_pools_say_who_has_which_address(ncp, lab):
    rows = ncp("get", "pools", "--state", lab, "-o", "json").json
    said = {(row["name"], row["family"]): row for row in rows}
    assert list(said) == [("out", 4), ("out", 6), ("172.21.0.1", 4), ("lab", 4)]
    assert said["out", 4] == {
        "name": "out",
        "use": "translation",
        "family": 4,
        "ranges": ["172.20.0.0-172.20.0.3", "172.20.1.0-172.20.1.1"],
        "size": 6,
        "held": 1,
        "free": 5,
        "namespaces": [],
        "held_by": {"172.20.1.1": "Namespace blue"},
    }
    assert said["172.21.0.1", 4]["namespaces"] == ["blue", "red"]
    assert (said["lab", 4]["use"], said["lab", 4]["free"]) == ("load balancing", 3)
    assert [row["family"] for row in ncp("get", "pool", "out", "--state", lab, "-o", "json").json] == [4, 6]
    assert "fd00::2 Namespace blue" in ncp("get", "pools", "--state", lab, "-o", "wide").out


def test_namespaces_and_blocks(ncp, lab):
    rows = by_name(ncp("get", "namespaces", "--state", lab, "-o", "json").json)
    assert rows["red"]["subnets"] == ["10.9.0.0/24"]
    assert (rows["red"]["snat"], rows["red"]["resting"]) == (False, 1)
    assert rows["red"]["errors"] == {"subnets": "INVALID_SUBNETS: 10.9 is no prefix"}
    blocks = {row["block"]: row for row in ncp("get", "blocks", "--state", lab, "-o", "json").json}
    assert (blocks["10.4.0.0/16"]["subnets"], blocks["10.4.0.0/16"]["used"]) == (256, 2)
    assert (blocks["fd00:10:4::/48"]["subnets"], blocks["fd00:10:4::/48"]["free"]) == (65536, 65535)
    assert blocks["10.9.0.0/16"]["use"] == "no-snat"


def test_problems_come_from_agents_and_objects(ncp, lab):
    rows = ncp("get", "problems", "--state", lab, "-o", "json").json
    found = {(row["kind"], row["name"]): (row["reason"], row["by"]) for row in rows}
    assert found == {
        ("Pod", "web"): ("NO_SEGMENT", ["n1"]),
        ("Pod", "full"): ("IP_BLOCK_EXHAUSTED", ["manager"]),
        ("Namespace", "red"): ("INVALID_SUBNETS", ["manager"]),
        ("Namespace", "blue"): ("QUOTA_EXCEEDED", ["manager"]),
    }


def test_names_and_namespaces_filter(ncp, lab):
    def names(*arguments: str) -> list[str]:
        return [row["name"] for row in ncp("get", "pods", "--state", lab, "-o", "json", *arguments).json]

    assert names("-n", "red") == ["db", "full", "host"]
    assert names("web", "red/db") == ["web", "db"]
    assert len(names("-A")) == 4
    missing = ncp("get", "pods", "--state", lab, "nobody", "web")
    assert missing.code == 1
    assert missing.err.endswith("no pods named nobody\n")
    assert ncp("get", "pods", "-A", "-n", "red").code == 2


def test_every_kind_prints_a_table_and_yaml(ncp, lab):
    for kind in ("pods", "segments", "routers", "ports", "nodes", "namespaces", "blocks", "problems", "flows", "drift"):
        table = ncp("get", kind, "--state", lab)
        assert table.code == 0, kind
        lines = table.out.splitlines()
        assert lines[0] == lines[0].upper(), kind
        assert len(lines) == len(yaml.safe_load(ncp("get", kind, "--state", lab, "-o", "yaml").out)) + 1, kind
        assert len(ncp("get", kind, "--state", lab, "-o", "wide").out) >= len(table.out)


def test_a_table_in_a_pipe_has_whole_lines_and_no_colour(ncp, lab):
    out = ncp("get", "flows", "--state", lab).out
    assert "\x1b" not in out
    row = next(line for line in out.splitlines() if "blue/web" in line)
    assert row.split() == ["n1", "classify", "100", "in_port=100", "output:1", "Pod", "blue/web", "(port)", "7", "ok"]


def test_a_narrow_terminal_cuts_nothing(ncp, lab, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    out = ncp("get", "pods", "--state", lab).out
    for word in ("10.4.0.2, fd00:10:4::2", "02:4e:0a:04:00:02", "realised", "ADDRESSES", "\x1b[32m"):
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "priorities"),
    [
        ((), [200, 100, 50]),
        (("--pod", "blue/web"), [100]),
        (("--origin", "pod/blue/web"), [100]),
        (("--origin", "Namespace/blue"), [50]),
        (("--origin", "Fabric"), [200]),
        (("--table", "route"), [50]),
        (("--table", "0"), [200, 100]),
        (("--ill",), [50]),
        (("--node", "n1", "--pod", "red/db"), []),
    ],
)
def test_flows_by_who_asked_for_them(ncp, lab, arguments, priorities):
    rows = ncp("get", "flows", "--state", lab, "-o", "json", *arguments).json
    assert [row["priority"] for row in rows] == priorities


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--node", "n9"), 1, "no agent of node 'n9' on this host; there are: n1"),
        (("--table", "nat"), 2, "there are: classify, route"),
        (("--origin", "a/b/c/d"), 2, "not KIND, KIND/NAME or KIND/NAMESPACE/NAME"),
        (("--pod", "web"), 2, "not NAMESPACE/NAME"),
        (("--pod", "a/b", "--origin", "Pod"), 2, "give one"),
    ],
)
def test_flows_asked_wrongly(ncp, lab, arguments, code, says):
    told = ncp("get", "flows", "--state", lab, *arguments)
    assert (told.code, told.out) == (code, "")
    assert says in told.err.splitlines()[-1]


def test_drift_names_what_was_missing(ncp, lab):
    rows = ncp("get", "drift", "--state", lab, "-o", "json").json
    assert rows[0]["node"] == "n1"
    assert rows[0]["kind"] == "missing"
    assert "2026-01-01" in ncp("get", "drift", "--state", lab).out


def test_a_dead_agent_is_named(ncp, lab, dead_agent):
    told = ncp("get", "flows", "--state", lab)
    assert told.code == 1
    assert str(dead_agent) in told.err
    assert "is `ncp node` running?" in told.err
    assert ncp("get", "flows", "--state", lab, "--node", "n1").code == 0


def test_an_agent_that_cannot_answer_says_why(ncp, lab):
    from ncp.cli import nodeapi

    with pytest.raises(nodeapi.AgentError, match="/v1/nothing is not served"):
        nodeapi.get(lab / "nodes" / "n1" / "node.sock", "/v1/nothing")


def test_kubeconfig_of_another_cluster_does_not_mix_with_the_labs_agents(ncp, lab, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.write_bytes((lab / "kubeconfig").read_bytes())
    monkeypatch.setenv("NCP_LAB_STATE", str(lab))
    rows = by_name(ncp("get", "pods", "--kubeconfig", other, "-o", "json").json)
    assert rows["web"]["state"] == "decided"
    rows = by_name(ncp("get", "pods", "-o", "json").json)
    assert rows["web"]["state"] == "realised"


def test_where_the_kubeconfig_comes_from(ncp, lab, tmp_path, monkeypatch):
    from ncp.cli.nodeapi import kubeconfig

    home = tmp_path / ".kube" / "config"
    home.parent.mkdir()
    home.touch()
    assert kubeconfig() == str(home)
    monkeypatch.setenv("NCP_LAB_STATE", str(lab))
    assert kubeconfig() == str(lab / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", "/first:/second")
    assert kubeconfig() == "/first"
    assert kubeconfig(state=lab) == str(lab / "kubeconfig")
    assert kubeconfig("/given", lab) == "/given"


def test_without_a_cluster(ncp, tmp_path):
    told = ncp("get", "pods")
    assert told.code == 2
    assert "`ncp lab up` starts one" in told.err
    told = ncp("get", "pods", "--state", tmp_path)
    assert told.code == 2
    assert f"no lab runs in {tmp_path}" in told.err
    told = ncp("get", "flows")
    assert told.code == 1
    assert "no node agent on this host" in told.err


def test_an_api_server_that_is_not_there(ncp, lab, tmp_path):
    config = yaml.safe_load((lab / "kubeconfig").read_text())
    config["clusters"][0]["cluster"] = {"server": "http://127.0.0.1:1"}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    told = ncp("get", "pods", "--kubeconfig", tmp_path / "kubeconfig")
    assert told.code == 1
    assert "refused" in told.err
    assert len(told.err.splitlines()) == 1

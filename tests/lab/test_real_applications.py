"""Applications as their projects publish them: every deployment comes up, and every pod reaches every other."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from ncp.probe.run import ask, site
from ncp.probe.site import matrix

pytestmark = pytest.mark.lab
MANIFESTS = Path(os.environ.get("NCP_MANIFESTS", Path(__file__).parents[3] / "shared" / "manifests"))


@pytest.mark.parametrize(("application", "deployments"), [("online-boutique", 12), ("guestbook", 3)])
def test_a_published_application_comes_up_and_is_connected_three_ways(lab, application, deployments):
    manifest = MANIFESTS / application / "app.yaml"
    if not manifest.exists():
        pytest.skip(f"{manifest} is not here; NCP_MANIFESTS says where published manifests are")
    lab.kubectl("create", "namespace", application)
    try:
        lab.kubectl("apply", "-n", application, "-f", str(manifest))
        lab.kubectl("wait", "-n", application, "deployments", "--all", "--for=condition=Available", "--timeout=90s")
        found = lab.get("deployments", "-n", application)["items"]
        assert len(found) == deployments
        assert all(d["status"]["readyReplicas"] == d["spec"]["replicas"] for d in found)
        seen = site(None, lab.state.root)
        names = sorted(name for name in seen.endpoints if name.startswith(f"{application}/"))
        assert len(names) == sum(d["spec"]["replicas"] for d in found)
        assert_in_their_subnets(lab, application, seen, names)
        results = ask(seen, matrix(seen, names, (4, 6), ("tcp", "udp", "icmp", "neighbour")), quiet=True)
        assert len(results) >= len(names) * (len(names) - 1) * 2 * 2
        assert [r for r in results if not r.agrees or r.observed.answer != "yes"] == []
    finally:
        lab.kubectl("delete", "namespace", application, "--timeout=60s")


def assert_in_their_subnets(lab, application, seen, names):
    subnets = [
        ip_network(str(gateway.prefix))
        for switch in seen.translation.intent.switches.values()
        if switch.origin.name == application
        for gateway in switch.gateways
    ]
    for name in names:
        for address in seen.endpoints[name].addresses:
            assert any(ip_address(str(address)) in subnet for subnet in subnets)

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sdn.ovsdb.client import Ovsdb
from sdn.ovsdb.rows import NodeRows, node_rows
from tests.support.netns import ip, namespace
from tests.support.ovs import PrivateOvs

CLUSTER = "test-cluster"


@pytest.fixture
def own_netns() -> Iterator[str]:
    """For a test with a switch of its own."""
    with namespace() as name:
        yield name


@pytest.fixture(scope="module")
def netns() -> Iterator[str]:
    with namespace() as name:
        yield name


@pytest.fixture(scope="module")
def _daemons(tmp_path_factory: pytest.TempPathFactory, netns: str) -> Iterator[PrivateOvs]:
    with PrivateOvs(tmp_path_factory.mktemp("switch"), netns) as switch:
        yield switch


@pytest.fixture
def switch(_daemons: PrivateOvs, netns: str) -> Iterator[PrivateOvs]:
    """A switch without bridges, in a namespace without cables."""
    yield _daemons
    for bridge in _daemons.vsctl("list-br").split():
        _daemons.vsctl("del-br", bridge)
    for line in ip("-o", "link", "show", "type", "veth", netns=netns).splitlines():
        name = line.split()[1].rstrip(":").partition("@")[0]
        if name[1:].isdigit():  # the other end goes with it
            ip("link", "del", name, netns=netns)


@pytest.fixture
def ovsdb(switch: PrivateOvs) -> Iterator[Ovsdb]:
    with Ovsdb(switch.rundir / "db.sock", CLUSTER) as client:
        client.wait_connected()
        yield client


@pytest.fixture
def wanted() -> NodeRows:
    return node_rows(CLUSTER, node_mac="02:4D:00:00:00:01", mtu=1442, tables={0: "classify", 10: "spoof_guard"})

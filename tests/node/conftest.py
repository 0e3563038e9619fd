"""A switch for the tests of what a node does to packets and connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node.rig import PODS, Rig
from tests.support.ovs import PrivateOvs


@pytest.fixture(scope="session")
def switch_with_ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateOvs]:
    """A switch of the dummy datapath with a port for each pod of the rig."""
    with PrivateOvs(tmp_path_factory.mktemp("rig")) as ovs:
        ovs.add_bridge()
        for port in PODS.values():
            ovs.add_dummy_port(f"p{port}", port)
        yield ovs


@pytest.fixture
def rig(switch_with_ports: PrivateOvs) -> Iterator[Rig]:
    """A node that nothing is known of yet; its switch tracks no connection and has cached nothing."""
    found = Rig(switch_with_ports)
    found.forget_connections()
    found.purge()
    yield found
    found.stop()
    switch_with_ports.ofctl("del-flows", "br-int")
    switch_with_ports.ofctl("del-groups", "br-int")
    found.forget_connections()

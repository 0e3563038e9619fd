"""The thread that follows services for the node's kernel, and the health checks it has served, in a namespace of their own."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from ipam.address import parse_address
from ncp.node.healthports import HealthCheck, HealthPorts
from ncp.node.services import NodeServices
from ncp.plumbing.namespace import Namespace
from sdn.model import Intent, Origin, Tier0
from sdn.services import Endpoint, Slice, VirtualServer
from tests.support.netns import ip, namespace

pytestmark = pytest.mark.switch

WEB = HealthCheck("shop", "web", 2)


@pytest.fixture(scope="module")
def inside() -> Iterator[Namespace]:
    with namespace() as name:
        ip("link", "set", "lo", "up", netns=name)
        found = Namespace(name, threads=2)
        try:
            yield found
        finally:
            found.close()


def ask(inside: Namespace, port: int, host: str = "127.0.0.1", method: str = "GET") -> tuple[int, dict, dict]:
    def work(ipr: object) -> tuple[int, dict, dict]:
        asked = http.client.HTTPConnection(host, port, timeout=3)
        try:
            asked.request(method, "/healthz")
            answer = asked.getresponse()
            return answer.status, dict(answer.getheaders()), json.loads(answer.read())
        finally:
            asked.close()

    return inside.call(work)


class World:
    """What the thread is given and says."""

    def __init__(self, inside: Namespace) -> None:
        self.intent: Intent | None = None
        self.told = threading.Semaphore(0)
        self.failing: list[int] = []
        self.services = NodeServices(
            *("n1", (30000, 32767), lambda: (self.intent, True), HealthPorts(inside.name, self.failing.append)),
            self.told.release,
        )
        self.services.start()

    def know(self, endpoints: int) -> None:
        server = VirtualServer("shop/web", Origin("Service", "shop", "web"), (), (parse_address("10.96.0.7"),))
        ready = tuple(Endpoint(parse_address(f"10.4.0.{at}"), "n1") for at in range(endpoints))
        self.intent = Intent(Tier0(1, ()), services={"shop/web": server}, slices={"shop/web": {"s": Slice((), ready)}})

    def service(self, port: int, policy: str = "Local") -> None:
        spec = {"healthCheckNodePort": port, "externalTrafficPolicy": policy}
        self.services.changed("Service", ("shop", "web"), {"spec": spec})


@pytest.fixture
def world(inside: Namespace) -> Iterator[World]:
    found = World(inside)
    try:
        yield found
    finally:
        found.services.stop()


def eventually(what: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(300):
        if what():
            return
        tick.wait(0.01)
    raise AssertionError("it did not come to be")


def test_health_is_asked_at_every_address_and_answered_as_by_kube_proxy(inside: Namespace) -> None:
    ports = HealthPorts(inside.name)
    try:
        ports.serve({32001: WEB, 32002: WEB._replace(endpoints=0)})
        status, headers, body = ask(inside, 32001)
        assert (status, body) == (200, {"service": {"namespace": "shop", "name": "web"}, "localEndpoints": 2})
        assert headers["Content-Type"] == "application/json"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Load-Balancing-Endpoint-Weight"] == "2"
        assert ask(inside, 32002, "::1")[::2] == (503, {**body, "localEndpoints": 0})
        ports.serve({32002: WEB})
        assert ask(inside, 32002)[0] == 200
        eventually(lambda: refused(inside, 32001))
    finally:
        ports.close()
    assert refused(inside, 32002)


def refused(inside: Namespace, port: int) -> bool:
    try:
        ask(inside, port)
    except ConnectionRefusedError:
        return True
    except TimeoutError:  # it was taken by a socket that was being closed
        return False
    return False


def test_one_who_says_nothing_keeps_nobody_waiting(inside: Namespace) -> None:
    ports = HealthPorts(inside.name)
    try:
        ports.serve({32001: WEB})
        with inside.call(lambda ipr: socket.create_connection(("127.0.0.1", 32001))):
            assert ask(inside, 32001)[0] == 200
    finally:
        ports.close()


def test_a_port_that_is_taken_is_told_and_had_later(inside: Namespace, caplog: pytest.LogCaptureFixture) -> None:
    failing: list[int] = []
    ports = HealthPorts(inside.name, failing.append)
    try:
        with inside.call(lambda ipr: socket.create_server(("", 32003))):
            ports.serve({32003: WEB, 32004: WEB})
            ports.serve({32003: WEB, 32004: WEB})
            assert ask(inside, 32004)[0] == 200
            ports.serve({32004: WEB})
            assert failing == [1, 1, 0]
            ports.serve({32003: WEB, 32004: WEB})
        ports.serve({32003: WEB, 32004: WEB})
        assert ask(inside, 32003)[0] == 200
        assert failing == [1, 1, 0, 1, 0]
        assert [record.getMessage() for record in caplog.records] == [
            "Service shop/web: spec.healthCheckNodePort: 32003 cannot be served on this node: Address already in use; "
            "trying again"
        ] * 2
    finally:
        ports.close()


def test_nothing_is_decided_before_the_network_is_known(world: World) -> None:
    world.service(32005)
    assert not world.told.acquire(timeout=0.2)
    world.know(1)
    assert world.told.acquire(timeout=3)
    assert world.services.leg is not None
    assert [str(each) for each in world.services.leg.prefixes] == ["10.96.0.7/32"]


def test_a_health_check_follows_endpoints_and_goes_with_its_service(world: World, inside: Namespace) -> None:
    world.know(1)
    world.service(32006)
    eventually(lambda: not refused(inside, 32006))
    assert ask(inside, 32006)[0] == 200
    world.know(0)
    world.services.changed("EndpointSlice", ("shop", "web-1"), {})
    eventually(lambda: ask(inside, 32006)[0] == 503)
    world.service(32006, "Cluster")
    eventually(lambda: refused(inside, 32006))


def test_host_ports_come_and_go_with_their_pod(world: World) -> None:
    world.know(0)
    pod = {"spec": {"nodeName": "n1", "containers": [{"ports": [{"hostPort": 8080}]}]}}
    world.services.changed("Pod", ("shop", "p"), pod)
    eventually(lambda: world.services.leg is not None and world.services.leg.host_ports == (("tcp", 8080),))
    world.services.changed("Pod", ("shop", "p"), None)
    eventually(lambda: world.services.leg is not None and world.services.leg.host_ports == ())

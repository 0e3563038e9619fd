from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from ipam.address import parse_address
from ncp import metrics
from ncp.health import serve
from tests.kube.conftest import eventually


def fetch(server, path: str, **headers: str) -> tuple[int, str]:
    host = f"[{server.host}]" if ":" in server.host else server.host
    request = urllib.request.Request(f"http://{host}:{server.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def start():
    running = []

    def begin(checks=None, host: object = "127.0.0.1", **options):
        running.append(serve(host, 0, checks or {}, registry=CollectorRegistry(), **options))
        return running[-1]

    yield begin
    for server in running:
        server.stop()


def test_well_and_ill(start):
    trouble: list[str | None] = [None]
    server = start({"switch": lambda: trouble[0], "api": lambda: None})
    assert fetch(server, "/healthz") == (200, "switch: ok\napi: ok\n")
    trouble[0] = "no session with the switch"
    assert fetch(server, "/healthz") == (503, "switch: no session with the switch\napi: ok\n")
    status, body = fetch(server, "/readyz?verbose")
    assert status == 503
    assert json.loads(body) == {"ok": False, "checks": {"switch": "no session with the switch", "api": "ok"}}
    trouble[0] = None
    status, body = fetch(server, "/healthz", Accept="application/json")
    assert (status, json.loads(body)["ok"]) == (200, True)


def test_ready_may_ask_more_than_alive(start):
    server = start({}, ready={"synced": lambda: "the first list is not in"})
    assert fetch(server, "/healthz") == (200, "ok\n")
    assert fetch(server, "/readyz")[0] == 503


def test_a_check_that_raises_has_failed(start):
    def broken() -> str | None:
        raise KeyError("x")

    assert fetch(start({"broken": broken}), "/healthz") == (503, "broken: the check itself failed: KeyError: 'x'\n")


def test_other_paths_say_what_there_is(start):
    status, body = fetch(start(), "/")
    assert status == 404
    assert "/readyz" in body


def test_ipv6_and_address_values(start):
    assert fetch(start(host=parse_address("::1")), "/healthz")[0] == 200
    assert fetch(start(host=parse_address("127.0.0.1")), "/healthz")[0] == 200


def test_a_taken_port_is_named(start):
    server = start()
    with pytest.raises(OSError, match=f"127.0.0.1 port {server.port}: Address already in use"):
        serve("127.0.0.1", server.port, {}, registry=CollectorRegistry())


def test_metrics_show_how_the_reflectors_fare(start, api, diary, reflect):
    diary.fail_on = {"b"}
    reflector = reflect()
    for name in "ab":
        api.put(name)
    diary.wait(("b", None, ""))
    eventually(lambda: reflector.handler_errors == 1)
    api.cut()
    eventually(lambda: reflector.watch_restarts == 1)
    status, text = fetch(start(), "/metrics")
    assert status == 200
    assert 'ncp_api_objects{resource="pods"} 2.0' in text
    assert 'ncp_api_handler_errors_total{resource="pods"} 1.0' in text
    assert 'ncp_api_watch_restarts_total{resource="pods"} 1.0' in text
    assert 'ncp_api_synced{resource="pods"} 1.0' in text
    reflector.stop()
    assert 'resource="pods"' not in fetch(start(), "/metrics")[1]


def test_common_readings_are_taken_when_asked():
    registry = CollectorRegistry()
    depth = [3]
    metrics.queue_depth(lambda: depth[0], registry)
    metrics.flows_per_table(lambda: {"classify": 7}, registry)
    metrics.event_to_ack(registry).observe(0.003)
    assert registry.get_sample_value("ncp_queue_depth") == 3
    depth[0] = 5
    assert registry.get_sample_value("ncp_queue_depth") == 5
    assert registry.get_sample_value("ncp_flows", {"table": "classify"}) == 7
    assert registry.get_sample_value("ncp_event_to_ack_seconds_bucket", {"le": "0.005"}) == 1

from __future__ import annotations

import pytest

from labs.api.protobuf import MAGIC, Unreadable, decode


def field(number: int, body: bytes | str | int) -> bytes:
    if isinstance(body, int):
        return bytes([number << 3, body])
    raw = body.encode() if isinstance(body, str) else body
    return bytes([number << 3 | 2, len(raw)]) + raw


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return MAGIC + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)


def test_a_service_is_read() -> None:
    target = field(1, 1) + field(3, "http")
    port = field(1, "web") + field(3, 80) + field(4, target) + field(5, 0)
    selector = field(1, "app") + field(2, "x")
    meta = field(1, "s") + field(3, "")
    body = envelope("v1", "Service", field(1, meta) + field(2, field(1, port) + field(2, selector)))
    assert decode(body) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"ports": [{"name": "web", "port": 80, "targetPort": "http"}], "selector": {"app": "x"}},
    }


def test_zeros_are_kept_where_they_mean_something() -> None:
    assert decode(envelope("apps/v1", "Deployment", field(2, field(1, 0))))["spec"] == {"replicas": 0}
    assert decode(envelope("v1", "Pod", field(2, field(11, 0))))["spec"] == {}


def test_parts_that_json_shows_in_their_parent_are_lifted() -> None:
    volume = field(1, "v") + field(2, field(2, b""))
    assert decode(envelope("v1", "Pod", field(2, field(1, volume))))["spec"]["volumes"] == [
        {"name": "v", "emptyDir": {}}
    ]


def test_times_quantities_and_negative_numbers_are_read() -> None:
    meta = field(8, field(1, 1) + field(2, 0))
    pair = field(1, "cpu") + field(2, field(1, "100m"))
    container = field(8, field(2, pair))
    minus_one = b"\x20" + b"\xff" * 9 + b"\x01"
    body = decode(envelope("v1", "Pod", field(1, meta) + field(2, field(2, container) + minus_one)))
    assert body["metadata"]["creationTimestamp"] == "1970-01-01T00:00:01Z"
    assert body["spec"]["containers"] == [{"resources": {"requests": {"cpu": "100m"}}}]
    assert body["spec"]["terminationGracePeriodSeconds"] == -1


@pytest.mark.parametrize(
    "body",
    [b"none", envelope("v1", "Nothing", b""), envelope("v1", "Pod", b"\x0a\x7f"), MAGIC + b"\x0a\xff", MAGIC + b"\x0b"],
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(body)

from __future__ import annotations

import pytest

from labs.kubelet.answers import exchange, message, peer_text

PEER = "10.4.0.9:5000"


def test_a_line_gets_the_pods_name_and_the_connection_stays() -> None:
    done = exchange(b"hello\nmore", "web-1", PEER)
    assert done is not None
    assert (done.size, done.answer, done.close) == (6, b"web-1\n", False)


@pytest.mark.parametrize(
    ("target", "body"), [("/hostname", b"web-1"), ("/clientip", b"10.4.0.9:5000"), ("/a?b=c", b"web-1\nGET /a?b=c\n")]
)
def test_http_paths(target: str, body: bytes) -> None:
    done = exchange(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), "web-1", PEER)
    assert done is not None
    head, _, given = done.answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert given == body
    assert not done.close


def test_an_http_request_is_answered_only_when_its_body_is_there() -> None:
    request = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"
    assert exchange(request[:-1], "p", PEER) is None
    done = exchange(request + b"GET", "p", PEER)
    assert done is not None
    assert done.size == len(request)


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET / HTTP/1.1\n\n", False),
    ],
)
def test_connection_ends_as_http_says(head: bytes, closes: bool) -> None:
    done = exchange(head, "p", PEER)
    assert done is not None
    assert done.close is closes


def test_a_head_request_has_no_body() -> None:
    done = exchange(b"HEAD /hostname HTTP/1.1\r\n\r\n", "web-1", PEER)
    assert done is not None
    assert done.answer.endswith(b"\r\n\r\n")


def test_endless_line_is_hung_up_on() -> None:
    assert exchange(b"x" * 1000, "p", PEER) is None
    done = exchange(b"x" * (2 << 20), "p", PEER)
    assert done is not None
    assert done.close


def test_datagrams() -> None:
    assert message(b"anything", "web-1", PEER) == b"web-1"
    assert message(b"/clientip\n", "web-1", PEER) == PEER.encode()


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("10.0.0.1", "10.0.0.1:80"),
        ("fd00::1", "[fd00::1]:80"),
        ("::ffff:10.0.0.1", "10.0.0.1:80"),
        ("fe80::1%eth0", "[fe80::1]:80"),
    ],
)
def test_peer_text(host: str, text: str) -> None:
    assert peer_text(host, 80) == text

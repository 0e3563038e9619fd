"""Responders on real sockets inside network namespaces."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.sctp import SCTP, SCTPChunkInit, SCTPChunkInitAck

from labs.kubelet import netns
from labs.kubelet.responder import Port, Responders

HOST4, HOST6 = "127.0.0.7", "fd00::7"


@pytest.fixture
def responders() -> Iterator[Responders]:
    running = Responders()
    yield running
    running.close()


@pytest.fixture
def pod(new_netns: Callable[[], str]) -> str:
    """A namespace whose loopback has a second address of both families."""
    name = new_netns()
    for command in (f"addr add {HOST6}/128 dev lo nodad", "addr add fd00::1/128 dev lo nodad"):
        subprocess.run(["ip", "-n", name, *command.split()], check=True)
    return name


def converse(where: str, host: str, port: int, *said: bytes) -> list[bytes]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with netns.run_in(where, lambda: socket.socket(family)) as sock:
        sock.settimeout(5)
        sock.connect((host, port))
        heard = []
        for each in said:
            sock.sendall(each)
            heard.append(sock.recv(4096))
        return heard


def datagram(where: str, kind: int, host: str, port: int, payload: bytes, protocol: int = 0) -> tuple[bytes, str, int]:
    """The answer, whom it came from, and our own port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with netns.run_in(where, lambda: socket.socket(family, kind, protocol)) as sock:
        sock.settimeout(5)
        sock.bind(("fd00::1" if ":" in host else "127.0.0.1", 0))
        sock.sendto(payload, (host, port))
        answer, peer = sock.recvfrom(4096)
        return answer, peer[0], sock.getsockname()[1]


@pytest.mark.parametrize("host", [HOST4, HOST6])
def test_tcp_lines_and_http_over_both_families(responders: Responders, pod: str, tmp_path: Path, host: str) -> None:
    responders.serve("u1", pod, "web-1", [Port("c", 8080, "TCP")], tmp_path)
    lines = converse(pod, host, 8080, b"one\n", b"two\n")
    assert lines == [b"web-1\n", b"web-1\n"]
    (page,) = converse(pod, host, 8080, b"GET /hostname HTTP/1.1\r\nHost: x\r\n\r\n")
    assert page.endswith(b"\r\n\r\nweb-1")
    (seen,) = converse(pod, host, 8080, b"/clientip\n")
    assert seen.startswith(b"[" if ":" in host else b"127.")


@pytest.mark.parametrize("host", [HOST4, HOST6])
def test_udp_answers_from_the_address_that_was_asked(
    responders: Responders, pod: str, tmp_path: Path, host: str
) -> None:
    responders.serve("u1", pod, "dns-1", [Port("c", 53, "UDP")], tmp_path)
    answer, peer, _ = datagram(pod, socket.SOCK_DGRAM, host, 53, b"hello")
    assert (answer, peer) == (b"dns-1", host)
    seen, _, own = datagram(pod, socket.SOCK_DGRAM, host, 53, b"/clientip")
    assert seen.decode() == (f"[fd00::1]:{own}" if ":" in host else f"127.0.0.1:{own}")


@pytest.mark.parametrize("host", [HOST4, HOST6])
def test_sctp_answers_from_the_address_that_was_asked(
    responders: Responders, pod: str, tmp_path: Path, host: str
) -> None:
    responders.serve("u1", pod, "gw-1", [Port("c", 3868, "SCTP"), Port("c", 3869, "SCTP")], tmp_path)
    init = bytes(SCTP(sport=5000, dport=3869) / SCTPChunkInit(init_tag=7))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    own = "fd00::1" if ":" in host else "127.0.0.1"
    with netns.run_in(pod, lambda: socket.socket(family, socket.SOCK_RAW, 132)) as sock:
        sock.settimeout(5)
        sock.bind((own, 0))
        sock.sendto(init, (host, 0))
        while True:
            raw, peer = sock.recvfrom(4096)
            packet = SCTP(raw[20:] if family == socket.AF_INET else raw)
            if packet.dport == 5000:
                break
    assert SCTPChunkInitAck in packet
    assert peer[0] == host


def test_a_stopped_pod_frees_its_ports_and_cuts_its_connections(
    responders: Responders, pod: str, tmp_path: Path
) -> None:
    responders.serve("u1", pod, "web-1", [Port("c", 80, "TCP")], tmp_path)
    with netns.run_in(pod, lambda: socket.create_connection(("127.0.0.1", 80), 5)) as client:
        client.sendall(b"x\n")
        assert client.recv(100) == b"web-1\n"
        responders.stop("u1")
        assert client.recv(100) == b"", "the connection is still open"
    with pytest.raises(ConnectionRefusedError):
        converse(pod, HOST4, 80, b"x\n")
    responders.serve("u2", pod, "web-2", [Port("c", 80, "TCP")], tmp_path)
    assert converse(pod, HOST4, 80, b"x\n") == [b"web-2\n"]


def test_a_taken_port_is_named_and_nothing_stays_open(responders: Responders, pod: str, tmp_path: Path) -> None:
    responders.serve("u1", pod, "web-1", [Port("c", 80, "TCP")], tmp_path)
    with pytest.raises(OSError, match="container d: port 80/TCP"):
        responders.serve("u2", pod, "web-2", [Port("d", 81, "TCP"), Port("d", 80, "TCP")], tmp_path)
    with pytest.raises(ConnectionRefusedError):
        converse(pod, HOST4, 81, b"x\n")
    assert converse(pod, HOST4, 80, b"x\n") == [b"web-1\n"]


def test_each_served_request_is_a_line_of_its_container(responders: Responders, pod: str, tmp_path: Path) -> None:
    ports = [Port("front", 80, "TCP"), Port("back", 53, "UDP")]
    responders.serve("u1", pod, "web-1", ports, tmp_path / "logs")
    converse(pod, "127.0.0.1", 80, b"GET /hostname HTTP/1.1\r\n\r\n", b"a line\n")
    datagram(pod, socket.SOCK_DGRAM, "127.0.0.1", 53, b"query")
    responders.stop("u1")
    front = (tmp_path / "logs" / "front.log").read_text().splitlines()
    assert [line.split(" TCP/80 ")[1] for line in front] == ["GET /hostname", "a line"]
    assert (tmp_path / "logs" / "back.log").read_text().endswith("UDP/53 query\n")


def test_no_descriptor_stays_behind(pod: str, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    running = Responders()
    ports = [Port("c", 80, "TCP"), Port("c", 80, "UDP"), Port("c", 80, "SCTP")]
    for number in range(5):
        running.serve("u1", pod, f"web-{number}", ports, tmp_path)
        assert converse(pod, HOST6, 80, b"x\n") == [f"web-{number}\n".encode()]
    running.close()
    assert len(os.listdir("/proc/self/fd")) == before

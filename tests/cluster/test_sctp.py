"""The SCTP endpoint, held against scapy's independent codec."""

from __future__ import annotations

from scapy.layers.sctp import (
    SCTP,
    SCTPChunkAbort,
    SCTPChunkCookieAck,
    SCTPChunkCookieEcho,
    SCTPChunkData,
    SCTPChunkHeartbeatAck,
    SCTPChunkHeartbeatReq,
    SCTPChunkInit,
    SCTPChunkInitAck,
    SCTPChunkParamStateCookie,
    SCTPChunkSACK,
    SCTPChunkShutdown,
    SCTPChunkShutdownAck,
    SCTPChunkShutdownComplete,
)
from scapy.packet import Packet

from labs.kubelet.sctp import Endpoint
from sdn.sctp import crc32c

LOCAL, PEER = "10.4.0.2", "10.4.0.9"
TAG = 0x11223344


def endpoint() -> Endpoint:
    return Endpoint(frozenset({9999}), lambda port, payload, host, peer: f"{port} {host}:{peer} ".encode() + payload)


def ask(server: Endpoint, *chunks: Packet, tag: int = 0, port: int = 9999) -> list[Packet]:
    packet = SCTP(sport=5000, dport=port, tag=tag)
    for chunk in chunks:
        packet = packet / chunk
    replies = server.receive(bytes(packet), LOCAL, PEER)
    for reply in replies:
        rebuilt = SCTP(reply)
        rebuilt.chksum = None
        assert bytes(rebuilt)[8:12] == reply[8:12], "scapy computes another checksum"
    return [SCTP(reply) for reply in replies]


def init(tsn: int = 100) -> Packet:
    return SCTPChunkInit(init_tag=TAG, init_tsn=tsn, a_rwnd=65535, n_out_streams=1, n_in_streams=1)


def associate(server: Endpoint, tsn: int = 100) -> tuple[int, int]:
    """The server's tag and its first TSN."""
    (ack,) = ask(server, init(tsn))
    assert ack.tag == TAG
    chunk = ack[SCTPChunkInitAck]
    cookie = ack[SCTPChunkParamStateCookie].cookie
    (done,) = ask(server, SCTPChunkCookieEcho(cookie=cookie), tag=chunk.init_tag)
    assert SCTPChunkCookieAck in done
    assert done.tag == TAG
    return chunk.init_tag, chunk.init_tsn


def test_crc32c_check_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_handshake_data_and_shutdown() -> None:
    server = endpoint()
    tag, tsn = associate(server)
    (reply,) = ask(server, SCTPChunkData(tsn=100, beginning=1, ending=1, data=b"hello"), tag=tag)
    assert (reply.sport, reply.dport, reply.tag) == (9999, 5000, TAG)
    assert reply[SCTPChunkSACK].cumul_tsn_ack == 100
    data = reply[SCTPChunkData]
    assert (data.tsn, bytes(data.data)) == (tsn, b"9999 10.4.0.9:5000 hello")
    (ended,) = ask(server, SCTPChunkShutdown(cumul_tsn_ack=tsn), tag=tag)
    assert SCTPChunkShutdownAck in ended
    assert ask(server, SCTPChunkShutdownComplete(), tag=tag) == []
    assert ask(server, SCTPChunkHeartbeatReq(), tag=tag) == [], "the association is over"


def test_init_to_a_port_that_is_not_served_is_aborted() -> None:
    (reply,) = ask(endpoint(), init(), port=1)
    assert SCTPChunkAbort in reply
    assert reply.tag == TAG


def test_a_repeated_chunk_is_acknowledged_but_not_answered_again() -> None:
    server = endpoint()
    tag, _ = associate(server)
    chunk = SCTPChunkData(tsn=100, beginning=1, ending=1, data=b"x")
    ask(server, chunk, tag=tag)
    (again,) = ask(server, chunk, tag=tag)
    assert again[SCTPChunkSACK].cumul_tsn_ack == 100
    assert SCTPChunkData not in again


def test_sequence_numbers_wrap() -> None:
    server = endpoint()
    tag, _ = associate(server, tsn=0xFFFFFFFF)
    for tsn in (0xFFFFFFFF, 0):
        (reply,) = ask(server, SCTPChunkData(tsn=tsn, beginning=1, ending=1, data=b"x"), tag=tag)
        assert SCTPChunkData in reply


def test_heartbeat_is_echoed() -> None:
    server = endpoint()
    tag, _ = associate(server)
    (reply,) = ask(server, SCTPChunkHeartbeatReq(), tag=tag)
    assert SCTPChunkHeartbeatAck in reply


def test_forged_cookies_wrong_tags_and_broken_packets_get_nothing() -> None:
    server = endpoint()
    (ack,) = ask(server, init())
    cookie = ack[SCTPChunkParamStateCookie].cookie
    tag = ack[SCTPChunkInitAck].init_tag
    forged = bytes([cookie[0] ^ 1]) + cookie[1:]
    assert ask(server, SCTPChunkCookieEcho(cookie=forged), tag=tag) == []
    assert ask(server, SCTPChunkCookieEcho(cookie=cookie), tag=tag ^ 1) == []
    assert endpoint().receive(bytes(SCTP(dport=9999) / SCTPChunkCookieEcho(cookie=cookie)), LOCAL, PEER) == []
    good = bytes(SCTP(dport=9999) / init())
    assert server.receive(good[:-1], LOCAL, PEER) == []
    assert server.receive(good[:20] + b"\xff" + good[21:], LOCAL, PEER) == []
    assert server.receive(b"", LOCAL, PEER) == []


def test_a_lost_cookie_ack_is_sent_again() -> None:
    server = endpoint()
    (ack,) = ask(server, init())
    echo = SCTPChunkCookieEcho(cookie=ack[SCTPChunkParamStateCookie].cookie)
    tag = ack[SCTPChunkInitAck].init_tag
    for _ in range(2):
        (done,) = ask(server, echo, tag=tag)
        assert SCTPChunkCookieAck in done

"""The os-ken application that owns every OpenFlow session of this process.

os-ken does the protocol: hello, features, port description, echo, multipart, barriers, errors, packets in. We connect
to a switch ourselves (it listens on a unix socket) and give the socket to os-ken's :class:`Datapath`. Handlers run in
the session's receiving thread, so they only take note; whoever waits for an answer waits elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("OSKEN_HUB_TYPE", "native")  # real threads; read when os-ken is imported

# isort: off
import os_ken.base.app_manager as app_manager  # must come first: os-ken's modules import each other in a circle
from os_ken.controller import controller, ofp_event, ofp_handler
from os_ken.controller.handler import (
    CONFIG_DISPATCHER,
    HANDSHAKE_DISPATCHER,
    MAIN_DISPATCHER,
    set_ev_handler,
)
from os_ken.ofproto import ofproto_v1_5
# isort: on

ECHO_SECONDS = 1.5
MISSED_ECHOES = 2
_HELLO_FAILED, _EXPERIMENTER = 0, 0xFFFF


class Listener(Protocol):
    """Whom a session tells what it hears. Called from the session's receiving thread: must not block."""

    def main(self, datapath: Any) -> None:
        """The handshake is over: version and features are known."""

    def described(self, software: str, hardware: str) -> None:
        """The switch said who it is."""

    def answered(self, xid: int) -> None:
        """A barrier or a bundle's control message was answered."""

    def refused(self, xid: int, reason: str) -> None:
        """The message of this xid was refused, for this reason in words."""

    def packet_in(self, message: Any) -> None:
        """A packet arrived (os-ken's NXTPacketIn2, whose metadata and userdata are raw bytes)."""


class OpenFlowSessions(ofp_handler.OFPHandler):  # type: ignore[misc]
    """os-ken's own handler of the handshake, and on top what we want to hear; it opens no listening port."""

    OFP_VERSIONS = [ofproto_v1_5.OFP_VERSION]  # noqa: RUF012

    def start(self) -> None:
        """Nothing to start: switches are connected to one by one, and events are handled where they arrive."""

    def _hello_failed(self, datapath: Any, error_desc: str) -> None:
        super()._hello_failed(datapath, error_desc)
        datapath.end(f"the switch refuses OpenFlow 1.5 (allow it in the bridge's protocols): {error_desc}")

    @set_ev_handler(ofp_event.EventOFPDescStatsReply, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def description_handler(self, event: Any) -> None:
        """Pass on who the switch says it is."""
        body = event.msg.body
        software, hardware = (part.rstrip(b"\0").decode(errors="replace") for part in (body.sw_desc, body.hw_desc))
        event.msg.datapath.listener.described(software, hardware)

    @set_ev_handler(ofp_event.EventOFPBarrierReply, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def barrier_handler(self, event: Any) -> None:
        """Pass on that everything before the barrier is done."""
        event.msg.datapath.listener.answered(event.msg.xid)

    @set_ev_handler(ofp_event.EventOFPBundleCtrlMsg, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def bundle_handler(self, event: Any) -> None:
        """Pass on that a bundle was opened, committed or discarded."""
        event.msg.datapath.listener.answered(event.msg.xid)

    @set_ev_handler(ofp_event.EventNXTPacketIn2, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def packet_in_handler(self, event: Any) -> None:
        """Pass on a packet."""
        event.msg.datapath.listener.packet_in(event.msg)

    @set_ev_handler(  # type: ignore[untyped-decorator]
        ofp_event.EventOFPErrorMsg, [HANDSHAKE_DISPATCHER, CONFIG_DISPATCHER, MAIN_DISPATCHER]
    )
    def error_msg_handler(self, event: Any) -> None:
        """Pass on an error in words; a failed hello ends the session."""
        message = event.msg
        datapath = message.datapath
        if message.type == _HELLO_FAILED:
            said = bytes(message.data).decode(errors="replace")
            datapath.end(f"the switch refuses OpenFlow 1.5 (allow it in the bridge's protocols): {said}")
            return
        datapath.listener.refused(message.xid, error_in_words(message))


def error_in_words(message: Any) -> str:
    """An OpenFlow error as a phrase with its official name, from os-ken's OFPErrorMsg."""
    if message.type == _EXPERIMENTER:
        return f"experimenter {message.experimenter:#x} error {message.exp_type}"
    return _in_words(message.type, message.code)


@functools.cache
def _in_words(error_type: int, code: int) -> str:
    name: str = ofproto_v1_5.ofp_error_code_to_str(error_type, code)
    kind: str = ofproto_v1_5.ofp_error_type_to_str(error_type)
    name, kind = name.partition("(")[0], kind.partition("(")[0]
    words = f"{kind.removeprefix('OFPET_')}: {name.partition('_')[2]}".lower().replace("_", " ")
    return f"{words} ({name}, type {error_type} code {code})"


class SwitchSession(controller.Datapath):  # type: ignore[misc]
    """os-ken's session over a socket we connected, on threads that end when it does.

    As os-ken comes, with real threads, its sending thread waits for ever on an empty queue and its echo thread
    sleeps through the end of a session; both are woken here. A switch that stays silent is given up after
    about ``ECHO_SECONDS * (MISSED_ECHOES + 1)`` seconds.
    """

    def __init__(self, stream: socket.socket, path: Path, listener: Listener) -> None:
        self.listener = listener
        self.ended = ""
        self._over = threading.Event()
        super().__init__(stream, str(path))
        self.xid = 0  # ours, in session.py, count from another place

    def set_state(self, state: str) -> None:
        """Follow os-ken's state, and tell when the handshake is over."""
        super().set_state(state)
        if state == MAIN_DISPATCHER:
            self.listener.main(self)

    def end(self, reason: str) -> None:
        """End the session for a reason; the first reason given stays."""
        self.ended = self.ended or reason
        self.close()

    def close(self) -> None:
        """End the session at once, in both directions."""
        super().close()
        self._over.set()
        # Shutting down wakes whoever sends or receives; the peer may be gone already.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def send(self, packed: bytes, close_socket: bool = False) -> bool:
        """Queue bytes for the switch; False when the session is over."""
        try:
            return bool(super().send(packed, close_socket))
        except AttributeError:
            return False  # os-ken took its queue away between looking at it and using it

    def write(self, packed: bytes) -> bool:
        """Send from the calling thread, past the queue; False when the session is over.

        A thread with much to send would wait for the interpreter at every item that another thread sends for it. The
        receiving thread queues instead, so that it never waits for a switch that waits for it.
        """
        if self._over.is_set():
            return False
        try:
            self.socket.sendall(packed)
        except OSError as error:  # perhaps half a message went out: nothing can follow it
            self.end(f"cannot send to the switch: {error}")
            return False
        return True

    def serve(self) -> None:
        """Run the session until it ends, in the calling thread."""
        name = f"openflow {self.address}"
        sending = threading.Thread(target=self._send_loop, name=f"{name} send", daemon=True)
        echoing = threading.Thread(target=self._echo_request_loop, name=f"{name} echo", daemon=True)
        sending.start()
        echoing.start()
        try:
            self.send_msg(self.ofproto_parser.OFPHello(self))
            self._recv_loop()
        finally:
            self.close()
            self.send(b"", close_socket=True)
            sending.join()
            echoing.join()
            self.is_active = False

    def _echo_request_loop(self) -> None:
        while not self._over.wait(ECHO_SECONDS):
            if len(self.unreplied_echo_requests) >= MISSED_ECHOES:
                self.end(f"no answer to echo requests for {ECHO_SECONDS * MISSED_ECHOES:.0f} seconds")
                return
            request = self.ofproto_parser.OFPEchoRequest(self)
            self.unreplied_echo_requests.append(self.set_xid(request))
            self.send_msg(request)


_starting = threading.Lock()


def ensure_application() -> None:
    """Have the application run under os-ken's AppManager; once per process."""
    with _starting:
        if app_manager.lookup_service_brick(ofp_event.NAME) is None:
            app_manager.AppManager.get_instance().instantiate(OpenFlowSessions)

"""A conversation of a pod with an address, line by line."""

from __future__ import annotations

import socket
import struct

from ncp.probe.wire import run_in


class Talk:
    """A connection, or datagrams, from a pod; closed at the end of the block. Connecting raises OSError."""

    def __init__(self, wire, client, address, port, protocol=socket.SOCK_STREAM):
        def connect():
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, protocol)
            try:
                sock.settimeout(5)
                sock.connect((address, port))
                sock.settimeout(1)
            except OSError:
                sock.close()
                raise
            return sock

        self.sock = run_in(wire.end(client).netns, connect)

    def says(self) -> str:
        """The answer to a line; ``silence``, ``closed`` or ``reset`` where there is none."""
        try:
            self.sock.send(b"who\n")
            return self.sock.recv(100).decode().strip() or "closed"
        except TimeoutError:
            return "silence"
        except ConnectionError:
            return "reset"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        abort(self.sock)
        self.sock.close()


def abort(sock):
    """Let a connection end by a reset when it is closed: its kernel would go on sending what nobody took, into the tests after this."""
    if sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

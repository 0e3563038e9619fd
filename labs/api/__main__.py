"""``python -m labs.api``: serves the API until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sqlite3
import sys
from pathlib import Path

import uvicorn
import yaml

from labs.api.app import Api, InUseError

CONTEXT = "ncp-lab"


class Server(uvicorn.Server):
    """A uvicorn server that ends its streams when it is told to stop."""

    def __init__(self, config: uvicorn.Config, api: Api, ready: str, *, lifeline: bool) -> None:
        super().__init__(config)
        self._api, self._ready, self._lifeline = api, ready, lifeline

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says when the server is ready."""
        await super().startup(sockets)
        if self._lifeline:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._heard)
        if self.started:
            sys.stdout.write(self._ready + "\n")
            sys.stdout.flush()

    def _heard(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the streams first: they would never end by themselves."""
        self._api.stop()
        await super().shutdown(sockets)


def write_kubeconfig(path: Path, url: str) -> None:
    """Writes a kubeconfig with one context, whole or not at all."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": {"server": url}}],
        "users": [{"name": CONTEXT, "user": {}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        "current-context": CONTEXT,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(yaml.safe_dump(config, sort_keys=False))
    part.replace(path)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m labs.api", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory of the database")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--kubeconfig", type=Path, help="file to write a kubeconfig to")
    parser.add_argument("--history", type=int, default=10000, help="events kept for watches that resume")
    parser.add_argument("--pod-logs", type=Path, help="directory of the pods' logs")
    parser.add_argument(
        "--lifeline", action="store_true", help="end when standard input closes: with the parent process"
    )
    return parser.parse_args(argv)


def main() -> None:
    """Serves until told to stop."""
    options = arguments()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    listening = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
    except OSError as error:
        sys.exit(f"cannot listen on {options.host}:{options.port}: {error.strerror}; choose another --port, or 0")
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{listening.getsockname()[1]}"
    try:
        api = Api(options.data, history=options.history, pod_logs=options.pod_logs)
    except InUseError as error:
        sys.exit(str(error))
    except sqlite3.DatabaseError as error:
        sys.exit(f"{options.data} does not hold a database of this server: {error}; move it away to begin anew")
    if options.kubeconfig:
        write_kubeconfig(options.kubeconfig, url)
    config = uvicorn.Config(
        api.starlette(), loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning",
        timeout_graceful_shutdown=3, proxy_headers=False, server_header=False, timeout_keep_alive=300, backlog=1024,
    )  # fmt: skip
    Server(config, api, f"listening on {url}", lifeline=options.lifeline).run(sockets=[listening])


if __name__ == "__main__":
    main()

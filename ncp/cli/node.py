"""``ncp node``: the agent of one transport node."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from pathlib import Path

import click


@click.command("node")
@click.option("--config", type=click.Path(path_type=Path), default="/etc/ncp/ncp.ini", show_default=True)
@click.option("--kubeconfig", default=None, help="Path of a kubeconfig; without it, the pod's service account.")
@click.option("--node", default=lambda: os.uname().nodename, help="Name of the Kubernetes node; default: the host's.")
@click.option("--ovs-rundir", type=click.Path(path_type=Path), default="/run/openvswitch", show_default=True)
@click.option("--cni-socket", type=click.Path(path_type=Path), default="/run/ncp/cni.sock", show_default=True)
@click.option("--api-socket", type=click.Path(path_type=Path), default="/run/ncp/node.sock", show_default=True)
@click.option("--netns", default="", help="Network namespace of the node's devices; empty: this process's own.")
@click.option("--health-port", type=int, default=None, help="Serve /healthz, /readyz and /metrics there; 0: do not.")
def command(
    config: Path,
    kubeconfig: str | None,
    node: str,
    ovs_rundir: Path,
    cni_socket: Path,
    api_socket: Path,
    netns: str,
    health_port: int | None,
) -> None:
    """Realise the network on this node: program its switch, answer the CNI plugin."""
    os.environ.setdefault("OSKEN_HUB_TYPE", "native")
    gc.set_threshold(100_000, 20, 50)  # a program is hundreds of thousands of values that live long
    from ncp.health import serve
    from ncp.kube.client import Kube
    from ncp.node.agent import NodeAgent, Place
    from ncp.settings import load

    settings = load(config)
    logging.basicConfig(
        level=logging.DEBUG if settings.DEFAULT.debug else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    stop = threading.Event()
    agent = NodeAgent(settings, Kube.connect(kubeconfig), Place(node, ovs_rundir, cni_socket, api_socket, netns))

    def ended(signum: int, frame: object) -> None:
        stop.set()
        agent.wake()

    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGINT, ended)
    port = settings.ncp.node_health_port if health_port is None else health_port
    server = serve(settings.ncp.health_bind, port, agent.checks(), ready=agent.checks()) if port else None
    try:
        agent.run(stop)
    finally:
        if server is not None:
            server.stop()

"""``ncp manager``: decides addresses and writes them on Kubernetes objects."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

import click


@click.command("manager")
@click.option("--config", type=click.Path(path_type=Path), default="/etc/ncp/ncp.ini", show_default=True)
@click.option("--kubeconfig", default=None, help="Path of a kubeconfig; without it, the pod's service account.")
@click.option(
    "--identity",
    default=lambda: os.uname().nodename,
    help="Name of this replica in the election, its own among all replicas; default: the host's name.",
)
@click.option("--health-port", type=int, default=None, help="Serve /healthz, /readyz and /metrics there; 0: do not.")
def command(config: Path, kubeconfig: str | None, identity: str, health_port: int | None) -> None:
    """Decide segments, subnets and addresses, as long as this replica leads."""
    from ipam.block import BlockError
    from ncp.health import serve
    from ncp.kube.access import AccessError
    from ncp.kube.client import Kube
    from ncp.manager import Service
    from ncp.settings import SettingsError, load

    try:
        settings = load(config)
        service = Service(settings, Kube.connect(kubeconfig), identity=identity)
    except (SettingsError, AccessError, BlockError) as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from error
    logging.basicConfig(
        level=logging.DEBUG if settings.DEFAULT.debug else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: stop.set())
    port = settings.ncp.manager_health_port if health_port is None else health_port
    server = serve(settings.ncp.health_bind, port, service.live(), ready=service.ready()) if port else None
    try:
        service.run(stop)
    finally:
        if server is not None:
            server.stop()

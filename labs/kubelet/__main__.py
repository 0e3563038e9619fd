"""``python -m labs.kubelet --kubeconfig K --config KUBELET_JSON``: the kubelets of all lab nodes in one process."""

from __future__ import annotations

import logging
import resource
import signal
import sys
import threading
from pathlib import Path

import click

from labs.kubelet.config import ConfigError, load
from labs.kubelet.kubelet import Kubelet
from ncp.kube.access import AccessError
from ncp.kube.client import Kube

_log = logging.getLogger(__name__)


@click.command()
@click.option("--kubeconfig", required=True, help="Path of the kubeconfig of the lab's API server.")
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path), help="Path of the JSON file.")
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
def main(kubeconfig: str, config_path: Path, log_level: str) -> None:
    """Play the kubelets of all lab nodes until SIGTERM or SIGINT; pods keep their network meanwhile."""
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        kubelet = Kubelet(Kube.connect(kubeconfig), load(config_path))
    except (ConfigError, AccessError) as error:
        _log.error("%s", error)
        sys.exit(2)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # several sockets a pod
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    kubelet.run(stop)
    kubelet.stop()


if __name__ == "__main__":
    main()

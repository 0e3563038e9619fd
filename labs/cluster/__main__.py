"""``python -m labs.cluster --kubeconfig K``: the controllers and the scheduler of a lab's cluster in one process."""

from __future__ import annotations

import logging
import signal
import sys
import threading

import click

from labs.cluster.manager import NAMES, ControllerManager
from ncp.kube.access import AccessError
from ncp.kube.client import Kube
from ncp.kube.errors import ApiError

_log = logging.getLogger(__name__)


@click.command()
@click.option("--kubeconfig", required=True, help="Path of the kubeconfig of the lab's API server.")
@click.option("--scheduler/--no-scheduler", default=True, show_default=True, help="Bind pods to nodes.")
@click.option("--controllers", default=",".join(NAMES), show_default=True, help="Comma list of controllers to run.")
@click.option(
    "--standalone-gc", is_flag=True, help="Also end namespaces, collect dependants, make default service accounts."
)
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
def main(kubeconfig: str, scheduler: bool, controllers: str, standalone_gc: bool, log_level: str) -> None:
    """Run a cluster's controllers until SIGTERM or SIGINT."""
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    names = [each.strip() for each in controllers.split(",") if each.strip()]
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(NAMES)}", param_hint="--controllers")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        kube = Kube.connect(kubeconfig)
    except AccessError as error:
        _log.error("%s", error)
        sys.exit(2)
    manager = _when_reachable(kube, names, scheduler, standalone_gc, stop)
    if manager is not None:
        manager.start()
        stop.wait()
        manager.stop()


def _when_reachable(
    kube: Kube, names: list[str], scheduler: bool, collector: bool, stop: threading.Event
) -> ControllerManager | None:
    """The controllers, once the API server answers; None when asked to stop before."""
    while not stop.is_set():
        try:
            return ControllerManager(kube, names, scheduler=scheduler, collector=collector)
        except ApiError as error:
            _log.warning("%s; trying again", error)
            stop.wait(0.3)
    return None


if __name__ == "__main__":
    main()

"""What ``ncp lab`` calls: the lab's operations, with plain values in and out."""

from labs.errors import LabError, UsageError
from labs.execute import Place, become, of_external, of_node, of_pod, of_router
from labs.progress import Progress
from labs.restart import PER_NODE, SINGLE, restart
from labs.runtime import up
from labs.state import State, locate
from labs.status import LabStatus, status
from labs.teardown import down
from labs.wish import EMBEDDED, REAL, Wish, topology_of
from topologies.catalog import CATALOG, named
from topologies.document import render
from topologies.draw import draw

__all__ = [
    "CATALOG",
    "EMBEDDED",
    "PER_NODE",
    "REAL",
    "SINGLE",
    "LabError",
    "LabStatus",
    "Place",
    "Progress",
    "State",
    "UsageError",
    "Wish",
    "become",
    "down",
    "draw",
    "locate",
    "named",
    "of_external",
    "of_node",
    "of_pod",
    "of_router",
    "render",
    "restart",
    "status",
    "topology_of",
    "up",
]

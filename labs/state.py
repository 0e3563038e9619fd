"""The state directory of a lab: everything a lab keeps on disk, and where it is."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from labs.errors import LabError, UsageError

DEFAULT = Path("/var/lib/ncp-lab")
ENVIRONMENT = "NCP_LAB_STATE"
SOCKET_PATH_MAX = 107  # sizeof(sockaddr_un.sun_path) - 1, see unix(7)
OURS = (
    "api",
    "cni",
    "kube",
    "nodes",
    "logs",
    "pod-logs",
    "kubelet",
    "kubeconfig",
    "ncp.ini",
    "topology.json",
    "kubelet.json",
    "external.json",
    "processes.json",
    "lab.json",
)
"""What a lab may leave in its directory; `down` removes these and nothing else."""


@dataclass(frozen=True, slots=True)
class NodePaths:
    """Files of one node, of the underlay's switch (``ul``), or of a router or the external host."""

    root: Path

    @property
    def ovs(self) -> Path:
        """Run directory of the node's Open vSwitch (OVS_RUNDIR)."""
        return self.root / "ovs"

    @property
    def database(self) -> Path:
        """Socket of the node's OVSDB server."""
        return self.ovs / "db.sock"

    @property
    def routing(self) -> Path:
        """Run directory of the routing daemons (FRR) of a router or of the external host."""
        return self.root / "frr"

    @property
    def cni(self) -> Path:
        """Socket on which the node agent serves the CNI plugin."""
        return self.root / "cni.sock"

    @property
    def api(self) -> Path:
        """Socket of the node agent's own interface."""
        return self.root / "node.sock"


@dataclass(frozen=True, slots=True)
class State:
    """A lab's directory. ``root`` is absolute and free of links; the lab's id is made from it, so each directory is a lab of its own."""

    root: Path

    @property
    def lab(self) -> str:
        """The lab's id: four hexadecimal digits, part of the name of everything the lab makes."""
        return blake2b(str(self.root).encode(), digest_size=2).hexdigest()

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the lab's API."""
        return self.root / "kubeconfig"

    @property
    def ini(self) -> Path:
        """The configuration of the manager and the node agents."""
        return self.root / "ncp.ini"

    @property
    def topology(self) -> Path:
        """The topology the lab was built from."""
        return self.root / "topology.json"

    @property
    def processes(self) -> Path:
        """The table of processes."""
        return self.root / "processes.json"

    @property
    def record(self) -> Path:
        """What `up` must remember for the next one: the API's port and kind, and whether it made the directory."""
        return self.root / "lab.json"

    @property
    def api(self) -> Path:
        """The API's objects."""
        return self.root / "api"

    @property
    def logs(self) -> Path:
        """Directory of every process's log."""
        return self.root / "logs"

    @property
    def pod_logs(self) -> Path:
        """What pods' responders served, per pod: `kubectl logs`."""
        return self.root / "pod-logs"

    @property
    def kubelet(self) -> Path:
        """The lab kubelet's configuration."""
        return self.root / "kubelet.json"

    @property
    def nodes(self) -> Path:
        """Directory of the nodes' files."""
        return self.root / "nodes"

    @property
    def sandboxes(self) -> Path:
        """What the lab kubelet must not forget about its pods."""
        return self.root / "kubelet"

    @property
    def cni_plugin(self) -> Path:
        """The CNI plugin's executable."""
        return self.root / "cni" / "bin" / "ncp-cni"

    @property
    def external(self) -> Path:
        """Where the external host is, for probes."""
        return self.root / "external.json"

    def node(self, name: str) -> NodePaths:
        """The files of a node."""
        return NodePaths(self.nodes / name)

    def log(self, process: str) -> Path:
        """The log of a process."""
        return self.logs / f"{process}.log"

    def exists(self) -> bool:
        """Whether a lab has been made here (it may be dead)."""
        return self.record.exists()


def locate(directory: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> State:
    """The state named by the caller, else by ``NCP_LAB_STATE``, else the default."""
    named = directory or environment.get(ENVIRONMENT) or DEFAULT
    return State(Path(os.path.realpath(named)))


def check_paths(state: State, nodes: list[str]) -> None:
    """Refuse a directory whose sockets' paths would not fit in a socket's address.

    Raises:
        UsageError: too long.
    """
    longest = max(len(os.fsencode(state.node(name).ovs / "br-int.mgmt")) for name in nodes)
    if longest > SOCKET_PATH_MAX:
        over = longest - SOCKET_PATH_MAX
        raise UsageError(
            f"--state {state.root}: {over} characters too long for the unix sockets of a lab; use a shorter path"
        )


def prepare(state: State) -> bool:
    """Make the directory; returns whether a lab was there before.

    Raises:
        UsageError: the directory holds something that is no lab's.
    """
    known = state.exists()
    made = False
    if not known:
        try:
            made = not state.root.exists()
            state.root.mkdir(parents=True, exist_ok=True)
            foreign = sorted(entry.name for entry in state.root.iterdir() if entry.name not in OURS)
        except OSError as error:
            raise UsageError(f"--state {state.root}: {error.strerror}") from error
        if foreign:
            raise UsageError(f"--state {state.root}: not a lab's directory and not empty (it holds {foreign[0]!r})")
        write_json(state.record, {"directory_made": made})
    state.logs.mkdir(exist_ok=True)
    return known


def remove(state: State) -> None:
    """Remove the lab's files, and the directory when `up` made it and nothing else is in it."""
    made = read_record(state).get("directory_made", False)
    for name in OURS:
        path = state.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if made and state.root.is_dir() and not any(state.root.iterdir()):
        state.root.rmdir()


def read_record(state: State) -> dict[str, Any]:
    """What `up` remembered; empty when there was no lab or its record was cut short by a crash."""
    return read_json(state.record)


def remember(state: State, **values: Any) -> None:
    """Add to what `up` remembers."""
    write_json(state.record, read_record(state) | values)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when there is none or it is not whole."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: object) -> None:
    """Replace a file in one step."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(value, indent=1) + "\n")
    fresh.replace(path)


@contextmanager
def locked(state: State) -> Iterator[None]:
    """Keep other commands that change the lab out; they fail rather than wait.

    Raises:
        LabError: another command is at work on this lab.
    """
    if not state.root.is_dir():
        yield
        return
    descriptor = os.open(state.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(f"another `ncp lab` command is at work on {state.root}; wait for it to end") from error
        yield
    finally:
        os.close(descriptor)

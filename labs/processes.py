"""The processes of a lab: started in sessions of their own, recorded, ended by identity and never by name."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labs.errors import LabError
from labs.state import State, read_json, write_json
from topologies import netns

OWNER = "NCP_LAB_OWNER"
"""Environment variable that every process of a lab carries: the lab's state directory."""
GRACE_SECONDS = 4.0
START_TIME_FIELD = 19  # of /proc/PID/stat after the command's name, proc(5) field 22


@dataclass(frozen=True, slots=True)
class Command:
    """How to run one part of a lab. ``env`` is added to the caller's; ``netns`` empty means the caller's."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    netns: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A started command: ``pid`` and ``started`` (clock ticks since boot) together name one process for ever.

    ``started`` is 0 for one that ended before it could be looked at.
    """

    command: Command
    pid: int
    started: int
    restarts: int = 0

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return self.started != 0 and start_time(self.pid) == self.started


class Table:
    """The record of a lab's processes, kept on disk at every change so that a crash leaves a true one."""

    def __init__(self, state: State):
        self.state = state
        self._lock = threading.Lock()
        self._entries = {name: _parse(entry) for name, entry in read_json(state.processes).items()}

    def __iter__(self) -> Iterator[Running]:
        return iter(tuple(self._entries.values()))

    def get(self, name: str) -> Running:
        """The process of that name.

        Raises:
            LabError: there is none; the message lists those there are.
        """
        if name not in self._entries:
            raise LabError(f"this lab has no process {name!r}; there are {', '.join(sorted(self._entries)) or 'none'}")
        return self._entries[name]

    def has(self, name: str) -> bool:
        """Whether a process of that name was started."""
        return name in self._entries

    def start(self, command: Command) -> Running:
        """Start a command and record it; its output goes to its log."""
        with self._lock:
            before = self._entries.get(command.name)
            process = spawn(command, self.state)
            running = Running(command, process, start_time(process), before.restarts + 1 if before else 0)
            self._entries[command.name] = running
            self._save()
        return running

    def _save(self) -> None:
        write_json(self.state.processes, {name: asdict(entry) for name, entry in self._entries.items()})


def _parse(entry: Mapping[str, Any]) -> Running:
    command = dict(entry["command"])
    parsed = Command(command["name"], tuple(command["argv"]), command["env"], command["netns"])
    return Running(parsed, entry["pid"], entry["started"], entry["restarts"])


def spawn(command: Command, state: State) -> int:
    """Run a command in a session of its own, detached from the terminal; returns its process id.

    Raises:
        LabError: its program is not there.
    """
    argv = command.argv
    if command.netns:
        argv = ("nsenter", f"--net={netns.path(command.netns)}", *argv)
    with state.log(command.name).open("ab") as log:
        try:
            process = subprocess.Popen(
                argv,
                env={**os.environ, **command.env, OWNER: str(state.root)},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            raise LabError(f"cannot start {command.name}: {argv[0]}: {error.strerror}") from error
    process.returncode = 0  # it outlives us on purpose: no warning that it was not waited for
    return process.pid


def python(*arguments: str) -> tuple[str, ...]:
    """A command line of this very Python."""
    return (sys.executable, *arguments)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when it is gone (a zombie is gone)."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # if it is our own child and dead, let it go
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[START_TIME_FIELD])


def stop(targets: Iterable[tuple[int, int]], grace: float = GRACE_SECONDS) -> int:
    """End processes, each given as pid and start time: SIGTERM, then SIGKILL for those that stay; returns how many ran.

    A recycled pid is never signalled: the signal goes through a descriptor of the process that was looked at.
    """
    descriptors = [descriptor for pid, started in targets if (descriptor := _hold(pid, started)) is not None]
    try:
        _signal_and_wait(descriptors, signal.SIGTERM, grace)
        stubborn = _signal_and_wait(descriptors, signal.SIGKILL, grace)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if stubborn:
        raise LabError(f"{len(stubborn)} processes did not end after SIGKILL")
    return len(descriptors)


def kill(running: Running) -> None:
    """End one process at once, as a crash would."""
    descriptor = _hold(running.pid, running.started)
    if descriptor is not None:
        try:
            _signal_and_wait([descriptor], signal.SIGKILL, GRACE_SECONDS)
        finally:
            os.close(descriptor)


def _hold(pid: int, started: int) -> int | None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if start_time(pid) != started:
        os.close(descriptor)
        return None
    return descriptor


def _signal_and_wait(descriptors: list[int], how: signal.Signals, seconds: float) -> list[int]:
    """Send a signal; returns the processes still there after so many seconds."""
    left = {descriptor for descriptor in descriptors if not _ended(descriptor)}
    for descriptor in left:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, how)
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for descriptor in left:
        poll.register(descriptor, select.POLLIN)
    while left and (remaining := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(remaining * 1000):
            poll.unregister(descriptor)
            left.discard(descriptor)
    return sorted(left)


def _ended(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def belonging(state: State) -> list[tuple[int, int]]:
    """Pid and start time of every process of a lab, recorded or not: by its environment, or by its namespace.

    The caller and those it was started by are left out, wherever they run.
    """
    spared = _ancestors()
    inside = {netns.identity(name) for name in netns.with_prefix(f"ncp{state.lab}-")} - {None}
    mark = os.fsencode(f"{OWNER}={state.root}")
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in spared:
            continue
        if _namespace(entry) in inside or mark in _environment(entry):
            pid = int(entry.name)
            if started := start_time(pid):
                found.append((pid, started))
    return found


def strangers(state: State) -> set[str]:
    """Directories of other labs whose processes run in namespaces with this lab's id: four digits may be the same."""
    inside = {netns.identity(name) for name in netns.with_prefix(f"ncp{state.lab}-")} - {None}
    if not inside:
        return set()
    prefix = os.fsencode(f"{OWNER}=")
    owners = {
        os.fsdecode(variable.removeprefix(prefix))
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _namespace(entry) in inside
        for variable in _environment(entry)
        if variable.startswith(prefix)
    }
    return owners - {str(state.root)}


def _ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        status = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        pid = int(status[1])
    return found


def _namespace(entry: Path) -> tuple[int, int] | None:
    try:
        found = (entry / "ns" / "net").stat()
    except OSError:  # gone meanwhile, a kernel thread, or not ours to look at
        return None
    return found.st_dev, found.st_ino


def _environment(entry: Path) -> list[bytes]:
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:  # as above
        return []

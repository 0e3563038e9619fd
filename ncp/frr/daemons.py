"""FRR's daemons for one router: each with its socket and process id in a directory of our own, none shared with the
machine's own FRR. They outlive who started them: the next to come with the same directory finds them and goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ncp.frr.model import Learned, Peer
from ncp.frr.reading import learned, peers
from ncp.frr.render import Statement, difference, is_policy, opens
from ncp.frr.vty import FrrError, Vty
from ncp.plumbing.namespace import namespace_path

PROGRAMS: Final = Path("/usr/lib/frr")
NAMES: Final = ("zebra", "bfdd", "bgpd")
"""In the order they are started: the others connect to zebra."""
START_SECONDS: Final = 10.0
END_SECONDS: Final = 3.0
LONGEST: Final = 107 - len("/zserv.api")
"""Characters in the path of a directory with sockets (unix(7), sun_path)."""


class Daemons:
    """The daemons of one directory, in a network namespace (by name or path; empty: the process's own).

    One thread at a time.
    """

    def __init__(self, rundir: Path, netns: str = "", programs: Path | None = None) -> None:
        self.rundir = rundir
        self._netns = netns
        self._programs = programs or PROGRAMS

    def ensure(self, configuration: str) -> tuple[str, ...]:
        """Start what does not run, and bring all to a configuration (:func:`ncp.frr.render.render`); who was started.

        Sessions go on: only what differs from the last configuration is told to those that ran.

        Raises:
            FrrError: the package is not there, a daemon does not start, or one refused a line.
        """
        started = tuple(name for name in NAMES if self.pid(name) is None)
        for name in started:
            self._told(name).unlink(missing_ok=True)
            self._start(name)
        for name in NAMES:
            held = self._told(name).read_text() if self._told(name).exists() else ""
            if held != configuration:
                self._tell(name, [each for each in difference(held, configuration) if name in _concerned(each)])
                # Written when told: who dies between the two tells it again, which does no harm.
                _write(self._told(name), configuration)
        return started

    def pid(self, name: str) -> int | None:
        """The process of a daemon, where it runs."""
        return _running(self.rundir, name)

    def peers(self) -> tuple[Peer, ...]:
        """Every neighbor, sorted by address.

        Raises:
            FrrError: a daemon does not answer.
        """
        with Vty(self._socket("bgpd")) as bgp, Vty(self._socket("bfdd")) as bfd:
            return peers(
                bgp.show("show bgp summary json"),
                bgp.show("show bgp neighbors json"),
                bfd.show("show bfd peers json"),
            )

    def learned(self) -> tuple[Learned, ...]:
        """Routes of neighbors that were chosen, sorted.

        Raises:
            FrrError: the daemon does not answer.
        """
        with Vty(self._socket("bgpd")) as bgp:
            return learned(bgp.show("show bgp ipv4 unicast json"), bgp.show("show bgp ipv6 unicast json"))

    def _told(self, name: str) -> Path:
        """The configuration that a daemon was told last."""
        return self.rundir / f"{name}.conf"

    def _socket(self, name: str) -> Path:
        return self.rundir / f"{name}.vty"

    def _start(self, name: str) -> None:
        program = self._programs / name
        if not os.access(program, os.X_OK):
            raise FrrError(f"{program} is not there; install the package frr")
        if len(str(self.rundir)) > LONGEST:
            raise FrrError(f"{self.rundir} is too long a path for sockets; at most {LONGEST} characters")
        self.rundir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._socket(name).unlink(missing_ok=True)
        inside = namespace_path(self._netns)
        command = ["nsenter", f"--net={inside}"] if inside else []
        command += [str(program), "-d", "-u", "root", "-g", "frrvty", "-P", "0", "-f", os.devnull]
        command += ["--vty_socket", str(self.rundir), "-z", str(self.rundir / "zserv.api")]
        command += ["-i", str(self.rundir / f"{name}.pid")]
        command += ["--log", f"file:{self.rundir / f'{name}.log'}", "--log-level", "notifications"]
        command += ["--bfdctl", str(self.rundir / "bfdd.sock")] if name == "bfdd" else []
        with (self.rundir / f"{name}.out").open("w+") as output:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=START_SECONDS
            )
            output.seek(0)
            said = output.read().strip()
        if done.returncode or self.pid(name) is None:
            raise FrrError(f"{name} did not start (exit code {done.returncode}): {said[-500:]}")

    def _tell(self, name: str, lines: Sequence[Statement]) -> None:
        with Vty(self._socket(name)) as vty:
            vty.run("configure terminal")
            inside: tuple[str, ...] = ()
            for above, line in lines:
                if above != inside:
                    vty.run("end")
                    vty.run("configure terminal")
                    for each in above:
                        vty.run(each)
                vty.run(line, may_miss=line.startswith("no "))
                inside = (*above, line) if opens(line) else above
            if any(map(is_policy, lines)):
                vty.run("end")
                vty.run("clear bgp * soft in")


def stop(rundir: Path) -> tuple[str, ...]:
    """End the daemons of a directory, by their process ids, and remove it; who ran. Their routes go with them."""
    ran = {name: pid for name in reversed(NAMES) if (pid := _running(rundir, name)) is not None}
    for pid in ran.values():
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while (left := _alive(rundir, ran)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for name in left:
        _signal(ran[name], signal.SIGKILL)
    shutil.rmtree(rundir, ignore_errors=True)
    return tuple(ran)


def _alive(rundir: Path, ran: Mapping[str, int]) -> list[str]:
    return [name for name, pid in ran.items() if _is(pid, rundir, name)]


def _running(rundir: Path, name: str) -> int | None:
    try:
        pid = int((rundir / f"{name}.pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if _is(pid, rundir, name) else None


def _is(pid: int, rundir: Path, name: str) -> bool:
    """Whether a process is that daemon: numbers of processes are used again. One that is dead and not yet reaped is none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return Path(words[0].decode()).name == name and str(rundir).encode() in words


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _concerned(statement: Statement) -> tuple[str, ...]:
    """Which daemons a line is for."""
    top = (statement.above[0] if statement.above else statement.line).removeprefix("no ")
    if top.startswith("hostname "):
        return NAMES
    if top == "bfd":
        return ("bfdd",)
    return ("zebra",) if " nht " in top else ("bgpd",)


def _write(path: Path, text: str) -> None:
    """All of it or nothing, for nobody else to read: it may have passwords."""
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)

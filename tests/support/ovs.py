"""A private Open vSwitch for tests: own daemons and directories, nothing shared with the machine's own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
PROTOCOLS = "OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15"
START_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class OvsError(RuntimeError):
    """A daemon did not start or a tool failed; the message holds what it said."""


class PrivateOvs:
    """An ovsdb-server and an ovs-vswitchd of one's own, alive inside the ``with`` block.

    Without ``netns`` bridges get the ``dummy`` datapath, which makes no network device at all: packets go in
    with :meth:`inject` and come out in a pcap file. With the name of a network namespace the daemons run in it
    and bridges get the userspace datapath (``netdev``), whose internal ports are taps in that namespace.
    """

    def __init__(self, tmpdir: Path | str, netns: str | None = None) -> None:
        self.rundir = Path(tmpdir) / "ovs"
        self.netns = netns
        self.datapath_type = "netdev" if netns else "dummy"
        self._database: subprocess.Popen[bytes] | None = None
        self._vswitchd: subprocess.Popen[bytes] | None = None
        self._restarts = 0

    @property
    def env(self) -> Mapping[str, str]:
        """The environment in which any Open vSwitch tool talks to this switch."""
        own = {name: str(self.rundir) for name in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")}
        return {**os.environ, **own}

    @property
    def db(self) -> str:
        """The database's connection string."""
        return f"unix:{self.rundir}/db.sock"

    @property
    def vswitchd_pid(self) -> int:
        """Process id of the running ovs-vswitchd."""
        if self._vswitchd is None:
            raise OvsError("ovs-vswitchd is not running")
        return self._vswitchd.pid

    def __enter__(self) -> PrivateOvs:
        self.rundir.mkdir(parents=True, exist_ok=True)
        try:
            self._start_database()
            self.start_vswitchd()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End both daemons (harmless when they are gone); internal devices go with them."""
        self.stop_vswitchd()
        _end(self._database, signal.SIGTERM)
        self._database = None

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd and wait until it has configured every bridge of the database."""
        control = self.rundir / "vswitchd.ctl"
        control.unlink(missing_ok=True)
        command = ["ovs-vswitchd", self.db, "--disable-system", f"--unixctl={control}"]
        command += [f"--pidfile={self.rundir}/ovs-vswitchd.pid", f"--log-file={self.rundir}/ovs-vswitchd.log"]
        if self.netns is None:
            command.append("--enable-dummy")
        self._vswitchd = self._spawn(command, "ovs-vswitchd")
        self._await(control.exists, self._vswitchd, "ovs-vswitchd")
        self._restarts += 1
        self.vsctl("set", "Open_vSwitch", ".", f"external_ids:started={self._restarts}")

    def stop_vswitchd(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End ovs-vswitchd with a signal; the database stays."""
        _end(self._vswitchd, how)
        self._vswitchd = None

    def restart_vswitchd(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End ovs-vswitchd (as a crash, unless another signal is given) and start it again, without flows."""
        self.stop_vswitchd(how)
        self.start_vswitchd()

    def add_bridge(self, name: str = "br-int") -> None:
        """Add a bridge without controllers that forwards nothing by itself."""
        settings = [f"datapath_type={self.datapath_type}", "fail_mode=secure", f"protocols={PROTOCOLS}"]
        settings.append("other_config:disable-in-band=true")
        self.vsctl("--may-exist", "add-br", name, "--", "set", "bridge", name, *settings)

    def add_dummy_port(self, name: str, ofport: int, bridge: str = "br-int") -> Path:
        """Add a port of the dummy datapath; returns the pcap file that receives what leaves through it."""
        capture = self.rundir / f"{name}.pcap"
        options = ["type=dummy", f"ofport_request={ofport}", f"options:tx_pcap={capture}"]
        self.vsctl("add-port", bridge, name, "--", "set", "interface", name, *options)
        return capture

    def inject(self, port: str, frame: bytes) -> None:
        """Let a frame arrive on a port of the dummy datapath."""
        self.appctl("netdev-dummy/receive", port, frame.hex())

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl; waits until ovs-vswitchd has done what was asked."""
        return self._run("ovs-vsctl", f"--db={self.db}", "--timeout=15", *arguments)

    def ofctl(self, *arguments: str) -> str:
        """Run ovs-ofctl with OpenFlow 1.5."""
        return self._run("ovs-ofctl", "-O", "OpenFlow15", "--timeout=15", *arguments)

    def appctl(self, *arguments: str) -> str:
        """Run ovs-appctl against ovs-vswitchd."""
        return self._run("ovs-appctl", "-t", str(self.rundir / "vswitchd.ctl"), *arguments)

    def _start_database(self) -> None:
        stored, socket = self.rundir / "conf.db", self.rundir / "db.sock"
        if not stored.exists():
            self._run("ovsdb-tool", "create", str(stored), str(SCHEMA))
        command = ["ovsdb-server", str(stored), f"--remote=punix:{socket}"]
        command += [f"--unixctl={self.rundir}/ovsdb.ctl", f"--log-file={self.rundir}/ovsdb-server.log"]
        command.append(f"--pidfile={self.rundir}/ovsdb-server.pid")
        self._database = self._spawn(command, "ovsdb-server")
        self._await(socket.exists, self._database, "ovsdb-server")
        self._run("ovs-vsctl", f"--db={self.db}", "--no-wait", "init")

    def _spawn(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        if self.netns:
            command = ["nsenter", f"--net=/run/netns/{self.netns}", *command]
        with (self.rundir / f"{name}.out").open("ab") as output:
            return subprocess.Popen(
                command,
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_die_with_parent,
            )

    def _await(self, ready: Callable[[], bool], daemon: subprocess.Popen[bytes], name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if daemon.poll() is not None or time.monotonic() > deadline:
                said = (self.rundir / f"{name}.out").read_text(errors="replace")
                raise OvsError(f"{name} is not up (exit code {daemon.poll()}): {said.strip()[-2000:]}")
            time.sleep(0.01)

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, env=dict(self.env), capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise OvsError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout


def _die_with_parent() -> None:
    """In the child: be killed when the test's process dies, however it dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(daemon: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    if daemon is None:
        return
    daemon.send_signal(how)
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait(10)

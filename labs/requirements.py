"""What a lab needs of this machine, checked before anything is made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from labs.errors import UsageError

OLDEST_OVS = (3, 1)
PROGRAMS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "ovsdb-tool": "openvswitch-switch",
    "ovsdb-server": "openvswitch-switch",
    "ovs-vswitchd": "openvswitch-switch",
    "ovs-vsctl": "openvswitch-switch",
    "ovs-appctl": "openvswitch-switch",
}
"""Each program a lab runs, and the Debian package that brings it."""


def check() -> None:
    """Refuse a machine a lab cannot run on.

    Raises:
        UsageError: saying what is missing and how to get it.
    """
    check_root()
    if not os.path.exists("/proc/self/ns/net"):
        raise UsageError("this kernel has no network namespaces (CONFIG_NET_NS), of which a lab consists")
    if not os.path.exists("/dev/net/tun"):
        raise UsageError("/dev/net/tun is missing: the switches need it; load it with `modprobe tun`")
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        packages = " ".join(sorted(missing))
        raise UsageError(f"a lab needs programs that are not here; install them: apt-get install {packages}")
    found = ovs_version()
    if found < OLDEST_OVS:
        have, want = (".".join(map(str, version)) for version in (found, OLDEST_OVS))
        raise UsageError(
            f"Open vSwitch {have} is too old, a lab needs {want} or newer: apt-get install openvswitch-switch"
        )


def check_root() -> None:
    """Refuse anybody but root.

    Raises:
        UsageError: not root.
    """
    if os.geteuid() != 0:
        raise UsageError("a lab is made of network namespaces, which takes root: run it with sudo")


def ovs_version() -> tuple[int, int]:
    """Major and minor version of the Open vSwitch installed.

    Raises:
        UsageError: it does not say.
    """
    said = subprocess.run(["ovs-vswitchd", "--version"], capture_output=True, text=True)
    match = re.search(r"(\d+)\.(\d+)", said.stdout)
    if not match:
        raise UsageError(
            f"ovs-vswitchd --version says {(said.stdout or said.stderr).strip()!r}, which names no version"
        )
    return int(match[1]), int(match[2])

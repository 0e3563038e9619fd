"""What an idle node agent costs: memory, and processor time over ten seconds."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.lab import lab

SECONDS = 10


def run() -> list[Figure]:
    """Resident memory and share of a core of one agent of a fresh three-node lab."""
    with lab() as bench:
        pid = bench.pids()["node-node1"]
        before = _seconds(pid)
        time.sleep(SECONDS)
        share = (_seconds(pid) - before) / SECONDS
        memory = _resident(pid)
    return [
        Figure("ncp node, idle: resident memory", memory, "MB", "under 80"),
        Figure("ncp node, idle: share of a core", share * 100, "%", "1"),
    ]


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

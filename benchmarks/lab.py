"""A lab for the benchmarks that need one: up before, down after, whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class BenchLab:
    """Commands against a lab in a state directory of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.env = {**os.environ, "NCP_LAB_STATE": str(state)}

    def ncp(self, *arguments: str) -> str:
        """Run ``ncp``; its output.

        Raises:
            RuntimeError: it ended with another code than 0; the message has what it said.
        """
        done = subprocess.run([sys.executable, "-m", "ncp", *arguments], env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"ncp {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def pids(self) -> dict[str, int]:
        """Process ids by the name of the lab's part."""
        return {row["name"]: row["pid"] for row in self._processes()}

    def port(self, part: str) -> int:
        """Where a part of the lab serves its metrics."""
        return next(int(row["port"]) for row in self._processes() if row["name"] == part)

    def _processes(self) -> list[dict[str, Any]]:
        return list(json.loads(self.ncp("lab", "status", "--output", "json"))["processes"])


@contextlib.contextmanager
def lab(nodes: int = 3) -> Iterator[BenchLab]:
    """A running lab, gone at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="ncp-bench-") as directory:
        bench = BenchLab(Path(directory) / "lab")
        try:
            bench.ncp("lab", "up", "--nodes", str(nodes))
            yield bench
        finally:
            bench.ncp("lab", "down")

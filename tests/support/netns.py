"""Network namespaces for tests, removed again whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator

_NUMBER = itertools.count(1)


def ip(*arguments: str, netns: str = "") -> str:
    """Run ip(8), in a namespace when one is given; its output."""
    where = ("-n", netns) if netns else ()
    done = subprocess.run(("ip", *where, *arguments), capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)} in {netns or 'own namespace'}: {done.stderr.strip()}")
    return done.stdout


def run_in(netns: str, *command: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    """Run a command inside a namespace."""
    inside = ("ip", "netns", "exec", netns, *command)
    return subprocess.run(inside, capture_output=True, text=True, timeout=timeout)


@contextlib.contextmanager
def namespace(prefix: str = "nt") -> Iterator[str]:
    """A fresh namespace's name."""
    name = f"{prefix}{os.getpid()}-{next(_NUMBER)}"
    ip("netns", "add", name)
    try:
        yield name
    finally:
        subprocess.run(("ip", "netns", "del", name), capture_output=True, timeout=20)

"""Named network namespaces, as ``ip netns`` keeps them, and doing things inside them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

RUN = Path("/run/netns")
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
Result = TypeVar("Result")


class NamespaceError(RuntimeError):
    """A command on a namespace failed; the message holds the command and what it said."""


def path(name: str) -> Path:
    """The file that a namespace is bound to."""
    return RUN / name


def exists(name: str) -> bool:
    """Whether the namespace is there and alive (a file that a reboot left behind is not)."""
    try:
        return path(name).stat().st_dev != RUN.stat().st_dev
    except FileNotFoundError:
        return False


def identity(name: str) -> tuple[int, int] | None:
    """What a process in the namespace has at ``/proc/PID/ns/net``: device and inode; None when there is none."""
    try:
        found = path(name).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def with_prefix(prefix: str) -> tuple[str, ...]:
    """Names that start with ``prefix``, dead leftovers included."""
    try:
        return tuple(sorted(entry.name for entry in RUN.iterdir() if entry.name.startswith(prefix)))
    except FileNotFoundError:
        return ()


def create(name: str) -> None:
    """Make a namespace.

    Raises:
        NamespaceError: it exists already, or the kernel refuses.
    """
    if path(name).exists() and not exists(name):
        path(name).unlink()
    ip("netns", "add", name)


def remove(name: str) -> None:
    """Remove a namespace with every device in it; one that is gone is fine."""
    if exists(name):
        ip("netns", "delete", name)
    path(name).unlink(missing_ok=True)


def ip(*arguments: str) -> str:
    """Run ``ip``.

    Raises:
        NamespaceError: it failed.
    """
    return _run(["ip", *arguments])


def batch(namespace: str, commands: Iterable[str]) -> None:
    """Run several ``ip`` commands inside a namespace in one go; the first that fails ends it.

    Raises:
        NamespaceError: one failed; the message names the line.
    """
    lines = list(commands)
    if lines:
        _run(["ip", "-n", namespace, "-batch", "-"], "\n".join(lines) + "\n")


def _run(command: list[str], text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise NamespaceError(f"{' '.join(command)}: {said}" + (f" in:\n{text}" if text else ""))
    return done.stdout


def inside(name: str, action: Callable[[], Result]) -> Result:
    """Call ``action`` in a thread of its own that has entered the namespace; its result or exception comes back."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            _enter(name)
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter, name=f"in-{name}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def set_sysctls(settings: Iterable[tuple[str, str]]) -> None:
    """Write sysctls of the calling thread's namespace; those this kernel does not have are left out."""
    for name, value in settings:
        setting = Path("/proc/sys", name)
        if setting.exists():
            setting.write_text(value)


def _enter(name: str) -> None:
    descriptor = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise NamespaceError(f"cannot enter network namespace {name}: {os.strerror(code)}")
    finally:
        os.close(descriptor)

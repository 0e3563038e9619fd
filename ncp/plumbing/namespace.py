"""Work inside network namespaces, on threads that live there.

A thread can enter a network namespace alone (setns(2)); netlink sockets it opens there stay there. That makes a
namespace change cost microseconds, where a child process costs 10 ms.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from pyroute2 import IPRoute, netns

T = TypeVar("T")
RUN: Final = Path("/var/run/netns")
CALLS_PER_SOCKET: Final = 100  # pyroute2 0.9 keeps the late acknowledgement of every "get" for the socket's lifetime
_LOADING: Final = threading.Lock()


class NamespaceMissing(Exception):
    """The network namespace does not exist (any more)."""


class NetworkError(Exception):
    """A device, address or route is not there or could not be made; the message names it."""


def namespace_path(name: str) -> Path | None:
    """Where a namespace given by name or path is; None for the empty name, the process's own."""
    if not name:
        return None
    return Path(name) if "/" in name else RUN / name


@contextlib.contextmanager
def opened(name: str) -> Iterator[int]:
    """A file descriptor of a namespace given by name or path.

    Raises:
        NamespaceMissing: there is none.
    """
    path = namespace_path(name) or Path("/proc/self/ns/net")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NamespaceMissing(f"network namespace {path} does not exist") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Namespace:
    """Threads that live in one network namespace, each with a netlink socket kept open.

    ``name`` is a name, a path, or empty for the process's own. Netlink calls of one thread are in order; two threads
    let one caller work while another waits for the kernel.
    """

    def __init__(self, name: str = "", *, threads: int = 2) -> None:
        self.name = name
        self._local = threading.local()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"netns-{Path(name).name or 'own'}")

    def submit(self, work: Callable[[IPRoute], T]) -> Future[T]:
        """Run ``work`` in the namespace with its netlink socket."""
        return self._executor.submit(self._run, work)

    def call(self, work: Callable[[IPRoute], T]) -> T:
        """Run ``work`` in the namespace and return its result, or raise its exception.

        Raises:
            NamespaceMissing: the namespace does not exist.
        """
        return self.submit(work).result()

    @contextlib.contextmanager
    def visiting(self, descriptor: int) -> Iterator[IPRoute]:
        """On a thread of this namespace: be in another one for a while, with a netlink socket there."""
        netns.setns(descriptor)
        try:
            with IPRoute() as ipr:
                yield ipr
        finally:
            netns.setns(self._local.home)

    def close(self) -> None:
        """End the threads and close their sockets."""
        self._executor.shutdown(wait=True)

    def _run(self, work: Callable[[IPRoute], T]) -> T:
        if not hasattr(self._local, "ipr"):
            self._enter()
        elif self._local.calls >= CALLS_PER_SOCKET:
            self._local.ipr.close()
            self._open()
        self._local.calls += 1
        return work(self._local.ipr)

    def _enter(self) -> None:
        with opened(self.name) as descriptor:
            with _LOADING:  # the library loads libc on first use, without a lock
                netns.setns(descriptor)
            self._local.home = os.dup(descriptor)
        self._open()

    def _open(self) -> None:
        self._local.ipr = IPRoute()
        self._local.calls = 0


def sysctl(path: str, value: str) -> None:
    """Write one sysctl of the namespace the thread is in, when it differs; ``path`` as ``net/ipv4/ip_forward``."""
    file = Path("/proc/sys") / path
    if file.read_text().strip() != value:
        file.write_text(value)

"""Named network namespaces, made and entered inside this process.

The names live under ``/run/netns`` exactly as ``ip netns`` keeps them, so ``ip netns exec NAME`` works. A namespace
belongs to a thread, not to a process: every call here that must be inside one runs in a thread of its own, and the
caller's namespace never changes. Forking ``ip`` costs some 20 ms a namespace, this costs about one.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

RUN = Path("/run/netns")
FILES = Path("/etc/netns")

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 4096, 16384, 1 << 20
_MNT_DETACH = 2
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1

_libc = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")


def path(name: str) -> Path:
    """Where the namespace ``name`` is mounted."""
    return RUN / name


def exists(name: str) -> bool:
    """Whether ``name`` is a live namespace: a leftover plain file, as after a reboot, is not one."""
    try:
        return os.stat(RUN / name).st_dev != os.stat(RUN).st_dev
    except FileNotFoundError:
        return False


def create(name: str) -> None:
    """Make the namespace ``name`` with its loopback up.

    Raises :class:`FileExistsError` when it is there already, :class:`OSError` when the kernel refuses.
    """
    _share_run_directory()
    target = RUN / name
    if not exists(name):
        target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
    try:
        _in_new_thread(lambda: _unshare_and_mount(target))
    except BaseException:
        delete(name)
        raise


def configure(name: str, files: Mapping[str, str]) -> None:
    """Give the namespace ``name`` its own ``files`` of /etc: ``ip netns exec`` shows them in the place of the host's."""
    directory = FILES / name
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    for file, content in files.items():
        (directory / file).write_text(content)


def delete(name: str) -> None:
    """Remove the namespace ``name`` and its files; one that is not there is fine.

    Its devices go when its last socket is closed.
    """
    shutil.rmtree(FILES / name, ignore_errors=True)
    target = RUN / name
    if _libc.umount2(os.fsencode(target), _MNT_DETACH) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOENT):
            raise OSError(code, f"cannot unmount network namespace {name}: {os.strerror(code)}")
    target.unlink(missing_ok=True)


def enter(name: str) -> None:
    """Move the calling thread into the namespace ``name``, for good; the empty name means: stay.

    Raises :class:`FileNotFoundError` when there is no such namespace.
    """
    if not name:
        return
    descriptor = os.open(RUN / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, _CLONE_NEWNET), f"cannot enter network namespace {name}")
    finally:
        os.close(descriptor)


def run_in(name: str, call: Callable[[], _T]) -> _T:
    """Run ``call`` inside the namespace ``name`` and return what it returns or raise what it raises.

    Sockets it makes and processes it starts stay in that namespace. The empty name runs it right here.
    """
    if not name:
        return call()

    def inside() -> _T:
        enter(name)
        return call()

    return _in_new_thread(inside)


def interfaces(name: str) -> tuple[str, ...]:
    """Names of the interfaces in the namespace ``name``."""
    return run_in(name, lambda: tuple(label for _, label in socket.if_nameindex()))


def _in_new_thread(call: Callable[[], _T]) -> _T:
    result: list[_T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(call())
        except BaseException as error:  # handed to the caller's thread, which raises it
            failure.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _unshare_and_mount(target: Path) -> None:
    _check(_libc.unshare(_CLONE_NEWNET), "cannot unshare the network namespace")
    _mount(f"/proc/self/task/{threading.get_native_id()}/ns/net", target, _MS_BIND)
    _bring_up("lo")


def _bring_up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", interface.encode(), 0)
        flags = struct.unpack("16xH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode(), flags | _IFF_UP))


def _share_run_directory() -> None:
    """Make ``/run/netns`` a shared mount, as ``ip netns add`` does, so that namespaces are seen in every mount tree.

    Sharing is refused (EINVAL) exactly when the directory is no mount point yet, and only then it is bound on itself:
    every further bind would double all mounts below it.
    """
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(RUN, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _mount("", RUN, _MS_SHARED | _MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _mount(str(RUN), RUN, _MS_BIND | _MS_REC)
            _mount("", RUN, _MS_SHARED | _MS_REC)
    finally:
        os.close(lock)


def _mount(source: str, target: Path, flags: int) -> None:
    code = _libc.mount(source.encode(), os.fsencode(target), b"none", flags, None)
    _check(code, f"cannot mount {source or 'nothing'} on {target}")


def _check(code: int, what: str) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")

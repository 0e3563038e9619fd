"""What goes wrong in a lab, as sentences for the person who runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import TimeoutExpired

from topologies.netns import NamespaceError

TAIL_LINES = 15


class LabError(RuntimeError):
    """An operation on a lab failed (exit code 1); the message says what, and what to do where that is known."""

    exit_code = 1


class UsageError(LabError):
    """Asked for something that cannot be: wrong arguments, or a machine a lab cannot run on (exit code 2)."""

    exit_code = 2


def with_tail(message: str, log: Path) -> str:
    """The message after the last lines of a log, where there are any: the last line is always the message."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    except FileNotFoundError:
        return f"{message} (it wrote no log)"
    if not lines:
        return f"{message} (its log {log} is empty)"
    said = "\n".join(f"  {line}" for line in lines)
    return f"last lines of {log}:\n{said}\n{message}"


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the machine refuses into an error of the lab.

    Raises:
        LabError: instead of a NamespaceError or a tool's TimeoutExpired.
    """
    try:
        yield
    except NamespaceError as error:
        raise LabError(
            f"{error}; a lab needs root with all capabilities, and network namespaces in the kernel"
        ) from error
    except TimeoutExpired as error:
        raise LabError(f"{' '.join(map(str, error.cmd[:3]))} did not end within {error.timeout:.0f} s") from error

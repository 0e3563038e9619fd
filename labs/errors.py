"""What goes wrong in a lab, as sentences for the person who runs it."""

from __future__ import annotations

from pathlib import Path

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

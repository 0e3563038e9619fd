"""Taking a lab down, whatever is left of it."""

from __future__ import annotations

import shutil
from contextlib import suppress

from labs import processes, requirements
from labs import state as states
from labs.errors import LabError, explained
from labs.kubelet.netns import FILES
from labs.progress import Progress
from labs.state import State
from topologies import build, netns

SWEEPS = 5


def down(state: State, progress: Progress | None = None) -> bool:
    """Stop every process of a lab and remove its namespaces and files; returns whether there was anything.

    Works on half a lab, on one whose processes were killed, and on one whose directory is gone: the lab's id is in the
    name of every namespace, and its directory in the environment of every process.

    Raises:
        LabError: something could not be removed.
    """
    requirements.check_root()
    progress = progress or Progress()
    with states.locked(state), explained():
        there = state.exists()
        # While another lab has this one's id, this one cannot have come up: see runtime.up.
        found = False if processes.strangers(state) else clear(state, progress)
        with progress.step("removed files"):
            states.remove(state)
    return there or found


def clear(state: State, progress: Progress) -> bool:
    """Stop the processes and remove the namespaces; files stay. Returns whether there was anything."""
    with progress.step("stopped processes"):
        stopped = _stop_all(state)
    with progress.step("removed network namespaces"):
        removed = build.remove(state.lab)
        _remove_resolver_files(state.lab)
    left = processes.belonging(state)
    if left or netns.with_prefix(f"ncp{state.lab}-"):
        said = ", ".join(str(pid) for pid, _ in left) or "none"
        raise LabError(
            f"lab {state.lab} is not all gone: processes {said}, namespaces {netns.with_prefix(f'ncp{state.lab}-')}"
        )
    return bool(stopped or removed)


def _stop_all(state: State) -> int:
    """Sweep until nothing is found: a process may start another while it is being looked for."""
    recorded = [(running.pid, running.started) for running in processes.Table(state)]
    stopped = 0
    for _ in range(SWEEPS):
        targets = {*recorded, *processes.belonging(state)}
        ended = processes.stop(targets)
        stopped += ended
        if not ended:
            break
    state.processes.unlink(missing_ok=True)
    return stopped


def _remove_resolver_files(lab: str) -> None:
    """``ip netns exec`` shows a namespace its own /etc/hosts and /etc/resolv.conf from here."""
    for path in FILES.glob(f"ncp{lab}-*"):
        shutil.rmtree(path)
    with suppress(OSError):  # not there, or somebody has files there
        FILES.rmdir()

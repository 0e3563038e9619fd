"""A lab of the tests' own: started once, asked in the words a person would use, gone afterwards whatever happens.

Run as a program (``python -m tests.support.lab STATE``) this is the lab's guardian: it takes the lab down when its
standard input ends, which is when the tests are done, or when the process that ran them is gone, however it went.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from labs import execute, restart, runtime, teardown
from labs.execute import Place
from labs.state import State, locate
from labs.wish import Wish

Found = TypeVar("Found")
WAIT_SECONDS = 30.0
POLL_SECONDS = 0.05


class Lab:
    """A running lab. Use as ``with Lab(directory) as lab``."""

    def __init__(self, directory: Path, wish: Wish | None = None) -> None:
        self.state = locate(directory)
        self._wish = wish or Wish()
        self._guardian: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Lab:
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "tests.support.lab", str(self.state.root)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
        )
        try:
            self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._guardian is not None
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        assert self._guardian.wait(60) == 0, "the lab could not be taken down; see above"

    def up(self) -> bool:
        """Bring it up (again)."""
        return runtime.up(self.state, self._wish)

    def restart(self, part: str, node: str = "") -> None:
        """Kill a part and start it again."""
        restart.restart(self.state, part, node)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints."""
        command = ["kubectl", "--kubeconfig", str(self.state.kubeconfig), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stderr or done.stdout}"
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """Objects as kubectl gets them: ``get("pods", "-A")`` or ``get("pod", "web")``."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def exec(self, pod: str, *command: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run a command inside ``NAMESPACE/POD``."""
        return self._run(execute.of_pod(self.state, pod), command, timeout)

    def exec_node(self, node: str, *command: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run a command on a node; Open vSwitch's tools speak to its switch."""
        return self._run(execute.of_node(self.state, node), command, timeout)

    def exec_external(self, *command: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run a command on the external host."""
        return self._run(execute.of_external(self.state), command, timeout)

    def web(self, space: str, replicas: int) -> dict[str, tuple[str, ...]]:
        """Run a deployment in a namespace of its own, which is reached from outside; addresses by pod, once every replica runs."""
        labels = {"app": "web"}
        container = {"name": "web", "image": "web", "ports": [{"containerPort": 8080}]}
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        }
        metadata = {"name": "web", "namespace": space}
        reached = {"name": space, "annotations": {"ncp/no_snat": "true"}}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": reached})
        self.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
        self.wait(lambda: len(self.running(space)) == replicas, f"every pod of {space} runs")
        return self.running(space)

    def running(self, space: str) -> dict[str, tuple[str, ...]]:
        """Addresses of the running pods of a namespace, by ``NAMESPACE/POD``."""
        return {
            f"{space}/{pod['metadata']['name']}": tuple(one["ip"] for one in pod["status"]["podIPs"])
            for pod in self.get("pods", "-n", space)["items"]
            if pod.get("status", {}).get("phase") == "Running" and pod["status"].get("podIPs")
        }

    def reaches(self, pod: str, address: str) -> bool:
        """Whether the first echo request of a pod is answered."""
        return self.exec(pod, "ping", "-n", "-c1", "-W1", address).returncode == 0

    def wait(self, condition: Callable[[], Found], what: str, seconds: float = WAIT_SECONDS) -> Found:
        """The first true answer of ``condition``; fails with ``what`` when there is none in time."""
        deadline = time.monotonic() + seconds
        while True:
            found = condition()
            if found:
                return found
            assert time.monotonic() < deadline, f"after {seconds:.0f} s it is still not so that {what}"
            time.sleep(POLL_SECONDS)

    def _run(self, place: Place, command: tuple[str, ...], timeout: float) -> subprocess.CompletedProcess[str]:
        line = execute.command_line(place, command)
        return subprocess.run(line, env={**os.environ, **place.env}, capture_output=True, text=True, timeout=timeout)


def guard(directory: str) -> None:
    """Take the lab down when standard input ends."""
    sys.stdin.buffer.read()
    teardown.down(State(Path(directory)))


if __name__ == "__main__":
    guard(sys.argv[1])

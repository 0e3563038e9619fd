"""An API server for a test: a process of its own over a directory of its own, gone at the end of the block.

It also ends when the test's process does, however that dies: it holds the other end of the server's standard input.
"""

from __future__ import annotations

import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

START_SECONDS = 20.0


class EmbeddedApi:
    """``with EmbeddedApi() as api:`` starts a server; ``api.url`` and ``api.kubeconfig`` say where it is.

    ``data`` keeps the objects in that directory and leaves it there; without it they go with the server.
    Raises RuntimeError, with what the server said, if it does not start.
    """

    def __init__(
        self, data: Path | None = None, *, port: int = 0, history: int = 10000, pod_logs: Path | None = None
    ) -> None:
        self._own = Path(tempfile.mkdtemp(prefix="ncp-api-"))
        self.data = data or self._own / "data"
        self.kubeconfig = self._own / "kubeconfig"
        self.url = ""
        self._port, self._history, self._pod_logs = port, history, pod_logs
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server; 0 when there is none."""
        return self._server.pid if self._server else 0

    def __enter__(self) -> EmbeddedApi:
        try:
            self.start()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._clean()

    def start(self) -> None:
        """Starts the server and waits until it listens; after a stop it comes back on the same port and data."""
        command = [
            sys.executable, "-m", "labs.api", "--data", str(self.data), "--port", str(self._port),
            "--kubeconfig", str(self.kubeconfig), "--history", str(self._history), "--lifeline",
        ]  # fmt: skip
        if self._pod_logs:
            command += ["--pod-logs", str(self._pod_logs)]
        log = (self._own / "log").open("ab")
        with log:
            self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        said = self._first_line()
        if not said.startswith("listening on "):
            self.kill()
            raise RuntimeError(f"the API server did not start: {(self._own / 'log').read_text()[-2000:]}")
        self.url = said.removeprefix("listening on ").strip()
        self._port = int(self.url.rpartition(":")[2])

    def _first_line(self) -> str:
        assert self._server is not None
        assert self._server.stdout is not None
        ready, _, _ = select.select([self._server.stdout], [], [], START_SECONDS)
        return self._server.stdout.readline().decode() if ready else ""

    def stop(self) -> None:
        """Ends the server with SIGTERM, as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server with SIGKILL, as a fault would."""
        self._end(signal.SIGKILL)

    def _end(self, by: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.send_signal(by)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        for stream in (server.stdin, server.stdout):
            if stream is not None:
                stream.close()

    def _clean(self) -> None:
        shutil.rmtree(self._own, ignore_errors=True)

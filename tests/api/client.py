"""A bare HTTP client for the tests: what goes over the wire is what the test says."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, Queue
from typing import Any, NamedTuple
from urllib.parse import urlsplit

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
WAIT_SECONDS = 10.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any
    headers: dict[str, str]


class Client:
    """Requests to one server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 0

    def ask(
        self, method: str, path: str, body: Any = None, *, media: str = JSON, accept: str = JSON, agent: str = "tests/1"
    ) -> Answer:
        """One request, whatever the answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            payload = None if body is None else body if isinstance(body, bytes | str) else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": media, "Accept": accept, "User-Agent": agent})
            response = connection.getresponse()
            raw = response.read()
            is_json = response.headers.get("content-type", "").startswith("application/json")
            return Answer(
                response.status,
                json.loads(raw) if is_json and raw else raw,
                {k.lower(): v for k, v in response.headers.items()},
            )
        finally:
            connection.close()

    def ok(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """One request that must succeed; its body."""
        answer = self.ask(method, path, body, **how)
        assert answer.status < 300, answer.body
        return answer.body

    def refused(self, status: int, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """One request that must fail with this status; its Status object."""
        answer = self.ask(method, path, body, **how)
        assert answer.status == status, answer.body
        assert answer.body["kind"] == "Status"
        assert answer.body["code"] == status
        return answer.body

    def until(self, path: str, holds: Callable[[Answer], bool]) -> Answer:
        """Asks until the answer is as wanted."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            answer = self.ask("GET", path)
            if holds(answer):
                return answer
            assert time.monotonic() < end, f"{path} never became as awaited: {answer.status} {answer.body}"
            time.sleep(0.01)

    def until_gone(self, path: str) -> None:
        """Waits until there is no such object."""
        self.until(path, lambda answer: answer.status == 404)

    def watch(self, path: str, accept: str = JSON) -> Watched:
        """Opens a watch."""
        return Watched(self, path, accept)


class Watched:
    """The events of a watch, read by a thread of its own; use in a with block."""

    def __init__(self, client: Client, path: str, accept: str) -> None:
        self._connection = http.client.HTTPConnection(client.host, client.port, timeout=30)
        joint = "&" if "?" in path else "?"
        self._connection.request("GET", f"{path}{joint}watch=true", headers={"Accept": accept})
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self._events: Queue[Any] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for line in self._response:
                self._events.put(json.loads(line))
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # The test closed the connection, or the server died: both end the stream.
        self._events.put(None)

    def next(self) -> tuple[str, Any]:
        """The next event: its type and object."""
        event = self._events.get(timeout=WAIT_SECONDS)
        assert event is not None, "the stream ended"
        return event["type"], event["object"]

    def take(self, count: int) -> list[tuple[str, str]]:
        """The next events, as type and name."""
        return [(kind, obj["metadata"].get("name", "")) for kind, obj in (self.next() for _ in range(count))]

    def rest(self) -> Iterator[Any]:
        """Every event until the stream ends."""
        while (event := self._events.get(timeout=WAIT_SECONDS)) is not None:
            yield event

    def quiet(self, seconds: float = 0.2) -> bool:
        """Whether nothing comes for a while."""
        try:
            return self._events.get(timeout=seconds) is None
        except Empty:
            return True

    def close(self) -> None:
        """Leaves."""
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)
        self._reader.join(5)
        self._connection.close()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

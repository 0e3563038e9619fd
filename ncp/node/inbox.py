"""What is given to a node's loop while it is at work."""

from __future__ import annotations

from dataclasses import dataclass, field

from ncp.node.seats import Seat
from ncp.translate.intent import Key
from ncp.translate.objects import Object


@dataclass(slots=True)
class Inbox:
    """What has gathered since the thread last looked. Guarded by the loop's condition."""

    objects: dict[tuple[str, Key], tuple[Object | None, float]] = field(default_factory=dict)  # with when they came
    synced: set[str] = field(default_factory=set)
    attachments: dict[str, Seat] | None = None
    withdraw: dict[str, str] = field(default_factory=dict)  # sandboxes by port
    resync: bool = False
    audit: bool = False
    stop: bool = False
    since: float = 0.0  # time.monotonic() of the oldest thing in it; 0: it is empty
    last: int = 0  # number of the newest thing in it

    def __bool__(self) -> bool:
        return bool(
            self.objects or self.synced or self.attachments is not None or self.withdraw or self.resync
            or self.audit or self.stop
        )  # fmt: skip

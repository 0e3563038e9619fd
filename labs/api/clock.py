"""Times as the API writes and shows them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> str:
    """The time in the form of every timestamp: whole seconds, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def later(seconds: float) -> str:
    """The time that many seconds from now."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def epoch(text: str) -> float:
    """Seconds since the epoch of a timestamp (with or without fractions); ValueError if it is none."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=UTC).timestamp()


def age(text: str | None) -> str:
    """How long ago, in kubectl's words: ``5m3s``, ``3d4h``; ``<unknown>`` for no time."""
    if not text:
        return "<unknown>"
    return span(time.time() - epoch(text))


def span(seconds: float) -> str:
    """A duration in kubectl's words."""
    left = int(seconds)
    if left < -1:
        return "<invalid>"
    left = max(left, 0)
    minutes, hours, days = left // 60, left // 3600, left // 86400
    if left < 120:
        return f"{left}s"
    if minutes < 10:
        return f"{minutes}m{left % 60}s" if left % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    return f"{years}y{days % 365}d" if years < 8 and days % 365 else f"{years}y"

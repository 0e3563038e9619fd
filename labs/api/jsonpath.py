"""The part of JSONPath that printer columns use: fields, indices, ``[*]`` and ``[?(@.type=="Ready")]``."""

from __future__ import annotations

import re
from typing import Any

_STEP = re.compile(
    r"\.?(?:(?P<field>(?:[\w/-]|\\\.)+)"
    r"|\[(?P<quote>['\"])(?P<quoted>.+?)(?P=quote)\]"
    r"|\[(?P<index>-?\d+)\]"
    r"|(?P<all>\[\*\]|\*)"
    r"|\[\?\(@\.(?P<key>[\w./-]+)\s*==\s*(?P<mark>['\"])(?P<value>.*?)(?P=mark)\)\])"
)


def found(value: Any, path: str) -> list[Any]:
    """Every value a path leads to; none if it leads nowhere or cannot be read."""
    values, place, path = [value], 0, path.strip().strip("{}")
    while place < len(path):
        step = _STEP.match(path, place)
        if step is None:
            return []
        values = [inner for outer in values for inner in _inside(outer, step)]
        place = step.end()
    return [v for v in values if v is not None]


def _inside(value: Any, step: re.Match[str]) -> list[Any]:
    if step["field"] is not None or step["quoted"] is not None:
        name = step["quoted"] or step["field"].replace("\\.", ".")
        return [value[name]] if isinstance(value, dict) and name in value else []
    if step["index"] is not None:
        number = int(step["index"])
        return [value[number]] if isinstance(value, list) and -len(value) <= number < len(value) else []
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if step["all"] is not None:
        return items
    return [item for item in items if found(item, "." + step["key"]) == [step["value"]]]

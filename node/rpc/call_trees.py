"""Call trees deeper than a JSON encoder goes: calls nest up to 1,024 deep, orjson stops at 254 levels."""

from __future__ import annotations

from typing import Any

import orjson

_LEVELS_AT_ONCE = 100
"""Calls below each other in one piece; each has two levels of JSON, its object and the list of its calls."""


def encodable(result: Any) -> Any:
    """A tracer's result in a form that orjson encodes, however deep its calls are: lower parts are encoded already.

    Takes the result of any tracer, of several together too; it is changed."""
    if not isinstance(result, dict):
        return result
    if "calls" in result:
        return _cut(result, 1)
    return {name: encodable(value) for name, value in result.items()}


def _cut(frame: dict[str, Any], level: int) -> Any:
    if "calls" in frame:
        frame["calls"] = [_cut(call, level + 1) for call in frame["calls"]]
    return orjson.Fragment(orjson.dumps(frame)) if level % _LEVELS_AT_ONCE == 0 else frame

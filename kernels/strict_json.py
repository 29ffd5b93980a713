"""JSON of strangers: nested no deeper than a stack bears, and no name twice in an object."""

import json
from typing import Any

import orjson


def parse_json(raw: bytes) -> Any:
    """The value. Raises ValueError.

    Python's own reader has no limit of depth but the interpreter's, which some libraries raise beyond the stack; orjson
    refuses what is deeper than 1,024, but takes the last of several values of one name.
    """
    orjson.loads(raw)
    return json.loads(raw, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    said = dict(pairs)
    if len(said) != len(pairs):
        raise ValueError("a name is there twice")
    return said

"""Keeps JSON that is small on the wire and large in memory away from decoders."""

import orjson

SAFE_DEPTH = 1024
MOST_VALUES = 200_000


def require_modest_json(body: bytes) -> None:
    """Call before msgspec decodes bytes from outside.

    Raises ValueError for JSON nested deeper than SAFE_DEPTH (and for some that is malformed), and for more
    than about MOST_VALUES values. msgspec bounds its recursion by Python's limit, which py-evm raises at
    import, so that some ten thousand brackets would overflow the C stack and kill the process; orjson stops
    at a fixed depth of 1,024. A million empty lists in 3 MB become 60 MB of objects."""
    if body.count(b",") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    require_shallow_json(body)


def require_shallow_json(body: bytes) -> None:
    """Call before Python's own decoder or msgspec reads a file that somebody hands in: as `require_modest_json`, for the
    depth alone. Raises ValueError."""
    if body.count(b"[") + body.count(b"{") > SAFE_DEPTH:
        orjson.loads(body)

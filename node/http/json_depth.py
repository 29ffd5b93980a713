"""Keeps deeply nested JSON away from decoders that recurse on the C stack.

msgspec bounds its recursion by Python's limit, which py-evm raises at import, so that a body of some ten
thousand brackets would overflow the stack and kill the process. orjson stops at a fixed depth of 1,024.
"""

import orjson

SAFE_DEPTH = 1024


def require_shallow_json(body: bytes) -> None:
    """Call before msgspec decodes bytes from outside. Raises ValueError for JSON nested deeper than
    SAFE_DEPTH, and for some that is malformed."""
    if body.count(b"[") + body.count(b"{") > SAFE_DEPTH:
        orjson.loads(body)

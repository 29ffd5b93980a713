"""Numbers with what they count, for people to read."""

from __future__ import annotations


def counted(count: int, thing: str, things: str | None = None) -> str:
    """`1 block`, `2 blocks`, `12,000 blocks`; `things` where the plural is not an s more."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"

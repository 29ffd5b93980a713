"""What a contract's "unknown" errors mean to the person who named the id."""

from __future__ import annotations

import re

_MEANINGS = (
    (r"UnknownDatanet\(datanet (\d+)\)", "there is no Datanet {0}: `openledger datanet list` shows those there are"),
    (
        r"UnknownVersion\(datanet (\d+), version (\d+)\)",
        "Datanet {0} has no version {1}: `openledger datanet show {0}` lists its versions",
    ),
    (r"UnknownContribution\(contribution (\d+)\)", "there is no contribution {0} there"),
    (r"UnknownRelease\(release (\d+)\)", "there is no release {0}: `openledger release list` shows those there are"),
    (r"NotOwner\((datanet|release) (\d+), caller (0x[0-9a-f]+)\)", "{0} {1} belongs to another account than {2}: sign with its owner's key"),
)  # fmt: skip


def in_words(message: str) -> str:
    """The sentence for an error of our registries, where there is one; else the message as it is."""
    for pattern, meaning in _MEANINGS:
        if matched := re.search(pattern, message):
            return meaning.format(*matched.groups())
    return message

"""A file given on the command line whose bytes may be written as they are or as hex."""

from __future__ import annotations

import sys
from pathlib import Path

from openledger.node.errors import StartupError

MAX_INPUT_BYTES = 256 << 20


def read_bytes_or_hex(file: Path) -> bytes:
    """The file's bytes; where it is all hex (with or without 0x, white space around it) what that stands for.

    `-` is standard input. Raises StartupError for a file that cannot be read, is empty or is larger than anything in
    the protocols.
    """
    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as source:
            data = source.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise StartupError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_INPUT_BYTES:
        raise StartupError(f"{file} has more than {MAX_INPUT_BYTES >> 20} MiB: nothing in the protocols is so large")
    text = data.strip()
    if not text:
        raise StartupError(f"{file} is empty")
    try:
        return bytes.fromhex(text.removeprefix(b"0x").decode("ascii"))
    except ValueError:
        return data

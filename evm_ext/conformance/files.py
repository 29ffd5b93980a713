"""Test files on disk: which there are, and their cases one at a time.

A file is one JSON object from case names to cases and may have 100 MB: it is mapped, split without being decoded, and
only one case at a time becomes objects.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from openledger.evm_ext.conformance.values import InvalidFixture

MAX_FILE_BYTES = 1 << 30
_DECODING_DEPTH = 2_000


@dataclass(frozen=True)
class RawCase:
    """One case, not yet decoded. `decode` raises `InvalidFixture`."""

    name: str
    raw: msgspec.Raw

    def decode(self) -> Any:
        try:
            with _bounded_recursion():
                return msgspec.json.decode(self.raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidFixture(f"not JSON: {error}") from None


def fixture_files(path: Path) -> list[Path]:
    """The file, or all JSON files below a folder in order; hidden ones (indexes and the like) are left out.

    Raises `InvalidFixture` if there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InvalidFixture("no such file or folder")
    found = sorted(
        file
        for file in path.rglob("*.json")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not found:
        raise InvalidFixture("no .json file in this folder")
    return found


def cases(path: Path, start: int = 0, step: int = 1) -> Iterator[RawCase]:
    """Every `step`th case of a file from `start` on, in the file's order. Raises `InvalidFixture`."""
    try:
        size = path.stat().st_size
        if not size:
            raise InvalidFixture("the file is empty")
        if size > MAX_FILE_BYTES:
            raise InvalidFixture(f"the file has {size} bytes, more than {MAX_FILE_BYTES}: split it")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield from _split(mapped, start, step)
    except OSError as error:
        raise InvalidFixture(f"cannot be read: {error.strerror or error}") from None


@contextmanager
def _bounded_recursion() -> Iterator[None]:
    """While a file is decoded: Python's limit bounds msgspec too, and py_ecc raises it at import, so that some ten
    thousand brackets would overflow the C stack and kill the process. Nothing may execute beside it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(min(before, _DECODING_DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _split(mapped: mmap.mmap, start: int, step: int) -> Iterator[RawCase]:
    try:
        with _bounded_recursion():
            document = msgspec.json.decode(mapped, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidFixture(f"not a JSON object of cases: {error}") from None
    names = list(document)[start::step]
    for name in names:
        # Views into the mapping must be gone before it is closed.
        case = RawCase(name, document.pop(name).copy())
        yield case
    document.clear()

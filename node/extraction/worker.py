"""The process that reads one hostile file: `python -m openledger.node.extraction.worker SUFFIX LIMIT < FILE > ANSWER`.

It reads everything it was given, then gives up what it does not need: no file, socket or process can be opened any more,
memory, time and the size of what it writes are bounded by the system. Then it parses. The answer is one line of JSON:
`{"text": …, "suffix": …, "tool": …}` or `{"refused": …}`.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import importlib
import json
import pkgutil
import resource
import sys
from encodings.aliases import aliases
from importlib.metadata import version
from typing import Final, NamedTuple

MAX_MEMORY_BYTES: Final = 2 << 30
MAX_CPU_S: Final = 60
_PR_SET_NO_NEW_PRIVS: Final = 38


class Format(NamedTuple):
    """Which function reads a kind of file; the distribution whose work it is ("" where Python's own library does), and
    its packages that are imported whole."""

    module: str
    function: str
    package: str = ""
    imports: tuple[str, ...] = ()


FORMATS: Final = {
    ".pdf": Format("pdf", "extract_pdf", "pypdf", ("pypdf",)),
    ".docx": Format("word", "extract_docx", "python-docx", ("docx",)),
    ".csv": Format("records", "extract_csv"),
    ".jsonl": Format("records", "extract_jsonl"),
    ".parquet": Format("records", "extract_parquet", "pyarrow"),
}


def lock_down(limit_bytes: int) -> None:
    """From here on nothing can be opened or started; writing goes on in what is open, up to `limit_bytes`."""
    for limit, value in (
        (resource.RLIMIT_AS, _mapped_bytes() + MAX_MEMORY_BYTES),
        (resource.RLIMIT_CPU, MAX_CPU_S),
        (resource.RLIMIT_FSIZE, limit_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bounded, bounded))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _mapped_bytes() -> int:
    """What is mapped already: libraries reserve far more than they use."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # another system
        return 0


def main() -> None:
    suffix, limit_bytes = sys.argv[1], int(sys.argv[2])
    chosen = FORMATS[suffix]
    # What is imported late could not be opened any more.
    for codec in {*aliases.values(), "utf_8_sig", "idna"}:
        with contextlib.suppress(LookupError):  # those of other systems
            codecs.lookup(codec)
    for package in chosen.imports:
        for part in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            with contextlib.suppress(ImportError):  # what needs a package that is not there
                importlib.import_module(part.name)
    if chosen.package == "pyarrow":
        importlib.import_module("pyarrow.parquet")
    module = importlib.import_module(f"openledger.node.extraction.{chosen.module}")
    extract = getattr(module, chosen.function)
    tool = f"{chosen.package} {version(chosen.package)}" if chosen.package else ""
    data = sys.stdin.buffer.read()
    # JSON may need six characters for one.
    lock_down(6 * limit_bytes + 4096)
    try:
        answer = {"text": extract(data, limit_bytes), "suffix": module.SUFFIX, "tool": tool}
    except module.ExtractionRefused as refused:
        answer = {"refused": str(refused)}
    except (MemoryError, RecursionError):
        answer = {"refused": "reading it takes more memory than a document of words does"}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


if __name__ == "__main__":
    main()

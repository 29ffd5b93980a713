"""A file of another kind as text, read by a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from openledger.evm_ext.proofs.content import content_hash
from openledger.kernels.documents import DocumentError, DocumentTooLarge, UnsupportedDocument
from openledger.node.extraction.text import ExtractionRefused
from openledger.node.extraction.worker import FORMATS, MAX_CPU_S, MAX_MEMORY_BYTES

EXTRACTED_SUFFIXES: Final = tuple(FORMATS)
MAX_SOURCE_BYTES: Final = 64 << 20
_WAIT_S: Final = 10 * MAX_CPU_S
_IMPORTED: Final = {"pypdf": "pypdf", "python-docx": "docx", "pyarrow": "pyarrow"}
_MEDIA_TYPES: Final = {
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".csv": "text/csv",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True)
class Source:
    """The file that a text was taken from: its name, media type, content hash (32 bytes), and what took it."""

    name: str
    media_type: str
    hash: bytes
    tool: str


@dataclass(frozen=True)
class Extracted:
    """Text under the name it is contributed by (`report.pdf` becomes `report.txt`), and where it came from."""

    name: str
    data: bytes
    source: Source


def extract_file(path: Path, *, limit_bytes: int, source_limit_bytes: int = MAX_SOURCE_BYTES) -> Extracted:
    """The text of a .pdf, .docx, .csv, .jsonl or .parquet file, at most `limit_bytes` of it.

    Blocks until the process has ended: at most `MAX_CPU_S` seconds of computing. Raises a `DocumentError` that says why
    there is no text and what to do; OSError if the file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UnsupportedDocument(f"{path.name}: text is taken from {', '.join(FORMATS)} files only")
    package = FORMATS[suffix].package
    if package and find_spec(_IMPORTED[package]) is None:
        raise UnsupportedDocument(
            f"reading {suffix} files needs {package}: run `pip install openledger-node[documents]`"
        )
    size = path.stat().st_size
    if size > source_limit_bytes:
        raise DocumentTooLarge(f"{path.name} has {size:,} bytes, the limit is {source_limit_bytes:,}: split it")
    data = path.read_bytes()
    answer = _ask(path.name, suffix, data, limit_bytes)
    if "refused" in answer:
        raise ExtractionRefused(f"{path.name}: {answer['refused']}")
    return Extracted(
        path.stem + answer["suffix"],
        answer["text"].encode(),
        Source(path.name, _MEDIA_TYPES[suffix], content_hash(data), answer["tool"]),
    )


def _ask(name: str, suffix: str, data: bytes, limit_bytes: int) -> dict[str, str]:
    command = [sys.executable, "-m", "openledger.node.extraction.worker", suffix, str(limit_bytes)]
    # Nothing of ours is told to it, and its libraries start no threads.
    environ = {"PATH": os.defpath, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as told:
        given.write(data)
        given.seek(0)
        try:
            ended = subprocess.run(
                command, stdin=given, stdout=told, stderr=subprocess.DEVNULL, cwd=empty, env=environ, timeout=_WAIT_S
            )
        except subprocess.TimeoutExpired as error:
            raise ExtractionRefused(f"{name}: reading it took longer than {_WAIT_S} s") from error
        told.seek(0)
        said = told.read()
    try:
        answer = json.loads(said)
    except ValueError as error:
        how = f"killed by signal {-ended.returncode}" if ended.returncode < 0 else f"exit status {ended.returncode}"
        raise ExtractionRefused(
            f"{name}: the process that read it ended without an answer ({how}); it may take {MAX_CPU_S} s and "
            f"{MAX_MEMORY_BYTES >> 30} GiB: save the file anew, or as plain text"
        ) from error
    if not isinstance(answer, dict) or not all(isinstance(value, str) for value in answer.values()):
        raise DocumentError(f"{name}: the process that read it gave no answer that makes sense")
    return answer

"""The text of rows: .csv, .jsonl and .parquet.

A row becomes one block. Where it has a column of whole texts (`text`, `content`, `document`), that column is taken; a
conversation (`messages`, or a question and its answer) is written turn by turn; of anything else every named value is.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from openledger.node.extraction.text import ExtractionRefused, Text

SUFFIX: Final = ".txt"
MAX_COLUMNS: Final = 1_000
MAX_LINE_CHARACTERS: Final = 1 << 20
MAX_DEPTH: Final = 8
MAX_PARQUET_BYTES: Final = 256 << 20
_WHOLE: Final = ("text", "content", "document")
_PAIRS: Final = (("prompt", "completion"), ("question", "answer"), ("instruction", "output"), ("input", "output"))
_OTHERS: Final = {b"%PDF-": "a PDF", b"PK\x03\x04": "a zip archive", b"PAR1": "a Parquet file", b"\x1f\x8b": "gzip"}

csv.field_size_limit(MAX_LINE_CHARACTERS)


def extract_csv(data: bytes, limit_bytes: int) -> str:
    """The first row names the columns; commas, semicolons, tabs or bars divide them. Raises `ExtractionRefused`."""
    content = _decoded(data, ".csv")
    text = Text(limit_bytes)
    first = content.split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(rows, [])]
        if not names or len(names) > MAX_COLUMNS or len(set(names)) < len(names):
            raise ExtractionRefused("its first row must name each column, once")
        for row in rows:
            if not row:
                continue
            if len(row) != len(names):
                raise ExtractionRefused(f"line {rows.line_num} has {len(row)} values for {len(names)} columns")
            text.add(_row(dict(zip(names, row))))
    except csv.Error as error:
        raise ExtractionRefused(f"line {rows.line_num} is not CSV: {error}") from error
    return str(text)


def extract_jsonl(data: bytes, limit_bytes: int) -> str:
    """One JSON object a line. Raises `ExtractionRefused`."""
    text = Text(limit_bytes)
    for number, line in enumerate(_decoded(data, ".jsonl").split("\n"), 1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE_CHARACTERS:
            raise ExtractionRefused(f"line {number} has {len(line):,} characters, the limit is {MAX_LINE_CHARACTERS:,}")
        if _depth(line) > MAX_DEPTH:
            raise ExtractionRefused(f"line {number} is nested deeper than {MAX_DEPTH} levels")
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ExtractionRefused(f"line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ExtractionRefused(f"line {number} is not a JSON object: give one object a line")
        text.add(_row(row))
    return str(text)


def extract_parquet(data: bytes, limit_bytes: int) -> str:
    """Columns of text, numbers, dates, and conversations. Raises `ExtractionRefused`."""
    import pyarrow as arrow
    from pyarrow import parquet

    if data[:4] != b"PAR1" or data[-4:] != b"PAR1":
        raise ExtractionRefused("it is named .parquet but is no Parquet file")
    text = Text(limit_bytes)
    try:
        file = parquet.ParquetFile(arrow.BufferReader(data), pre_buffer=False)
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
        if unpacked > MAX_PARQUET_BYTES or file.metadata.num_columns > MAX_COLUMNS:
            raise ExtractionRefused(
                f"it unpacks to {unpacked:,} bytes in {file.metadata.num_columns:,} columns, the limits are "
                f"{MAX_PARQUET_BYTES:,} and {MAX_COLUMNS:,}: split it"
            )
        binary = [field.name for field in file.schema_arrow if arrow.types.is_binary(field.type)]
        if binary:
            raise ExtractionRefused(f"column {binary[0]!r} holds bytes, no text: leave it out")
        for batch in file.iter_batches(batch_size=256, use_threads=False):
            for row in batch.to_pylist():
                text.add(_row(row))
    except (arrow.ArrowException, OSError, OverflowError) as error:
        raise ExtractionRefused(f"it is a damaged Parquet file ({type(error).__name__}: {error})") from error
    return str(text)


def _row(row: Mapping[str, Any]) -> str:
    for name in _WHOLE:
        if isinstance(row.get(name), str):
            return str(row[name])
    messages = row.get("messages")
    if isinstance(messages, list) and all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in messages):
        return "\n\n".join(m["content"] for m in messages)
    for question, answer in _PAIRS:
        if isinstance(row.get(question), str) and isinstance(row.get(answer), str):
            return f"{row[question]}\n\n{row[answer]}"
    return "; ".join(f"{name}: {words}" for name, value in row.items() for words in _values(value))


def _values(value: Any) -> Iterator[str]:
    """The words of a value: nothing for what is empty, each item of a list."""
    if isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(map(_values, value))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from (f"{name} {words}" for words in _values(inner))
    elif value is not None and not (isinstance(value, float) and not math.isfinite(value)):
        words = " ".join(str(value).split())
        if words:
            yield words


def _decoded(data: bytes, suffix: str) -> str:
    for magic, kind in _OTHERS.items():
        if data.startswith(magic):
            raise ExtractionRefused(f"it is named {suffix} but is {kind}")
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExtractionRefused(
            f"it is not UTF-8 text (byte {error.start}): save it again with encoding UTF-8"
        ) from error
    if "\0" in content:
        raise ExtractionRefused("it contains NUL bytes, so it is not text")
    return content.replace("\r\n", "\n").replace("\r", "\n") if suffix != ".csv" else content


def _depth(line: str) -> int:
    """How deep brackets nest, those inside of strings left out."""
    depth = deepest = 0
    inside = escaped = False
    for character in line:
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest

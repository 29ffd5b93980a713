"""The text of a .docx as Markdown: headings, paragraphs, list items and tables in their order."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any, Final

from docx import Document as open_docx
from docx.opc.exceptions import OpcError
from docx.table import Table
from docx.text.paragraph import Paragraph
from lxml.etree import LxmlError

from openledger.node.extraction.text import ExtractionRefused, Text

SUFFIX: Final = ".md"
MAX_UNPACKED_BYTES: Final = 128 << 20
MAX_RATIO: Final = 200
MAX_MEMBERS: Final = 4_096
_HEADING: Final = re.compile(r"heading ([1-6])")
_MARKUP: Final = re.compile(r"^(#{1,6}\s|[-*+]\s|>|\||```)")


def extract_docx(data: bytes, limit_bytes: int) -> str:
    """Raises `ExtractionRefused`."""
    _refuse_bombs(data)
    text = Text(limit_bytes)
    try:
        document = open_docx(io.BytesIO(data))
        for part in document.iter_inner_content():
            text.add(_table(part) if isinstance(part, Table) else _paragraph(part))
    except (OpcError, LxmlError, zipfile.BadZipFile, KeyError, ValueError, AttributeError, TypeError) as error:
        if isinstance(error, ExtractionRefused):
            raise
        raise ExtractionRefused(
            f"it is a damaged Word document ({type(error).__name__}: {error}): save it again"
        ) from error
    return str(text)


def _paragraph(paragraph: Paragraph) -> str:
    words = " ".join(paragraph.text.split())
    if not words:
        return ""
    style = (paragraph.style.name or "").lower() if paragraph.style is not None else ""
    if style == "title":
        return f"# {words}"
    if heading := _HEADING.fullmatch(style):
        return f"{'#' * int(heading[1])} {words}"
    if style.startswith("list"):
        return f"- {words}"
    # What only looks like Markdown was meant as it stands.
    return f"\\{words}" if _MARKUP.match(words) else words


def _table(table: Table) -> str:
    rows = []
    for row in table.rows:
        cells: list[str] = []
        previous: Any = None
        for cell in row.cells:
            # A merged cell is given once for each column it covers.
            if cell._tc is not previous:
                cells.append(" ".join(cell.text.split()))
            previous = cell._tc
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _refuse_bombs(data: bytes) -> None:
    """The sizes in a zip's directory are what the reader below will read: they are judged before anything is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ExtractionRefused(f"it is named .docx but is no Word document ({error})") from error
    if "[Content_Types].xml" not in {member.filename for member in members}:
        raise ExtractionRefused("it is a zip archive, no Word document: unpack it and contribute what is inside")
    if any(member.filename.lower().endswith("vbaproject.bin") for member in members):
        raise ExtractionRefused("it holds macros: save it as .docx without them")
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS or unpacked > max(MAX_RATIO * len(data), 1 << 20) or unpacked > MAX_UNPACKED_BYTES:
        raise ExtractionRefused(
            f"it unpacks {len(data):,} bytes to {unpacked:,} in {len(members):,} parts, more than a document of words does"
        )

"""The text of a PDF, page by page, by pypdf: Python only, so that a hostile file meets no C parser."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

from pypdf import PdfReader
from pypdf.errors import PyPdfError
from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject

from openledger.node.extraction.text import ExtractionRefused, Text

SUFFIX: Final = ".txt"
MAX_PAGES: Final = 5_000
_ACTIVE: Final = ("/JavaScript", "/Launch", "/ImportData", "/SubmitForm")


def extract_pdf(data: bytes, limit_bytes: int) -> str:
    """Every page is a block. Raises `ExtractionRefused`."""
    if b"%PDF-" not in data[:1024]:
        raise ExtractionRefused("it is named .pdf but is no PDF")
    text = Text(limit_bytes)
    try:
        reader = PdfReader(io.BytesIO(data), strict=False)
        if reader.is_encrypted:
            raise ExtractionRefused("it is encrypted: save it without a password")
        _refuse_programs(reader)
        if len(reader.pages) > MAX_PAGES:
            raise ExtractionRefused(f"it has {len(reader.pages):,} pages, the limit is {MAX_PAGES:,}: split it")
        title = reader.metadata.title if reader.metadata is not None else None
        if isinstance(title, str) and len(title) <= 80:
            text.add(title)
        for page in reader.pages:
            text.add(page.extract_text())
    # A damaged file fails in pypdf in as many ways as there are objects in it.
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
        if isinstance(error, ExtractionRefused):
            raise
        raise ExtractionRefused(f"it is a damaged PDF ({type(error).__name__}: {error}): save it again") from error
    if not str(text):
        raise ExtractionRefused("no page of it holds text, only pictures: run a text recognition over it first")
    return str(text)


def _refuse_programs(reader: PdfReader) -> None:
    catalog = reader.root_object
    names = _dictionary(catalog.get("/Names"))
    if "/JavaScript" in names:
        raise ExtractionRefused("it holds JavaScript: print it to a new PDF, which has none")
    for holder in (catalog, *_first_pages(reader)):
        for action in _actions(holder):
            if action.get("/S") in _ACTIVE:
                raise ExtractionRefused(
                    f"it runs something when it is opened ({str(action['/S'])[1:]}): print it to a new PDF, which does not"
                )


def _first_pages(reader: PdfReader) -> Iterator[Any]:
    for number in range(min(len(reader.pages), MAX_PAGES)):
        yield reader.pages[number]


def _actions(holder: Any) -> Iterator[DictionaryObject]:
    """What happens by itself: when the document or a page opens or closes."""
    opening = _resolved(holder.get("/OpenAction"))
    if isinstance(opening, DictionaryObject):
        yield opening
    for action in _dictionary(holder.get("/AA")).values():
        yield _dictionary(action)


def _dictionary(value: Any) -> DictionaryObject:
    value = _resolved(value)
    return value if isinstance(value, DictionaryObject) else DictionaryObject()


def _resolved(value: Any) -> Any:
    if isinstance(value, IndirectObject):
        value = value.get_object()
    return value[0] if isinstance(value, ArrayObject) and value and isinstance(value[0], DictionaryObject) else value

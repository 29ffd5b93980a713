"""How the bytes of a contributed document become text: one rule for indexes, retrieval and fine-tuning.

All three must see the same words in the same order, or an answer learnt from a document would not be found in its
index. The rule (format 1, part of what an index root commits to):

1. UTF-8, strictly; a leading byte order mark is dropped; CRLF and CR become LF; NUL is refused.
2. The text is cut into blocks. A blank line ends a block. In `.md` also: a fence (three backquotes) to its closing
   fence is one block, kept as it is; a heading (`#`) is a block of its own; a line that begins a list item, a
   quotation or a table row begins a block.
3. The lines of a block are joined by one space and every run of white space becomes one space, so that hard-wrapped
   lines read as the sentence they are.
4. The text is the blocks joined by one empty line. The title is the first heading of a `.md`, else the first block
   if it has at most 80 characters, else the file's name without its suffix.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_DOCUMENT_BYTES: Final = 5_000_000
SUPPORTED_SUFFIXES: Final = (".txt", ".md")
_TITLE_CHARACTERS = 80
_FENCE = "```"
_HEADING = re.compile(r"#{1,6}\s+\S")
_BEGINS_BLOCK = re.compile(r"\s*(?:[-*+]\s+\S|\d{1,9}[.)]\s+\S|>|\|)")


class DocumentError(ValueError):
    """A document that cannot be contributed. The message says what to do."""


class UnsupportedDocument(DocumentError):
    """Not one of `SUPPORTED_SUFFIXES`."""


class DocumentTooLarge(DocumentError):
    """Above the size limit."""


class DocumentNotText(DocumentError):
    """Not UTF-8 text."""


class EmptyDocument(DocumentError):
    """No words in it."""


@dataclass(frozen=True)
class Document:
    """A document's title and its blocks, none of them empty."""

    title: str
    blocks: tuple[str, ...]
    is_heading: tuple[bool, ...]

    @property
    def text(self) -> str:
        return "\n\n".join(self.blocks)


def read_document(path: Path, limit: int = MAX_DOCUMENT_BYTES) -> Document:
    """Read and parse a file. Raises a `DocumentError`; OSError if it cannot be read at all."""
    if path.suffix.lower() not in SUPPORTED_SUFFIXES:
        raise UnsupportedDocument(_unsupported(path.name))
    size = path.stat().st_size
    if size > limit:
        raise DocumentTooLarge(
            f"{path.name} has {size:,} bytes, the limit is {limit:,}: split it into smaller documents"
        )
    return parse_document(path.name, path.read_bytes(), limit)


def parse_document(name: str, data: bytes, limit: int = MAX_DOCUMENT_BYTES) -> Document:
    """The document in `data`, whose type is told by its file name. Raises a `DocumentError`."""
    suffix = Path(name).suffix.lower()
    if suffix not in SUPPORTED_SUFFIXES:
        raise UnsupportedDocument(_unsupported(name))
    if len(data) > limit:
        raise DocumentTooLarge(
            f"{name} has {len(data):,} bytes, the limit is {limit:,}: split it into smaller documents"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentNotText(
            f"{name} is not UTF-8 text (byte {error.start}): save it again with encoding UTF-8"
        ) from error
    if "\0" in text:
        raise DocumentNotText(f"{name} contains NUL bytes, so it is not a text document")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    markdown = suffix == ".md"
    cut = _blocks(text.split("\n"), markdown)
    if not any(any(c.isalnum() for c in block) for block, _ in cut):
        raise EmptyDocument(f"{name} has no words in it: there is nothing to contribute")
    headings = [re.sub(r"^#{1,6}\s+", "", block) for block, heading in cut if heading]
    first = cut[0][0]
    if headings:
        title = headings[0]
    elif len(first) <= _TITLE_CHARACTERS:
        title = first
    else:
        title = Path(name).stem
    return Document(title[:200], tuple(b for b, _ in cut), tuple(h for _, h in cut))


def _unsupported(name: str) -> str:
    return f"{name}: only {' and '.join(SUPPORTED_SUFFIXES)} documents are accepted, convert it to plain text first"


def _blocks(lines: list[str], markdown: bool) -> list[tuple[str, bool]]:
    """(block, is it a heading) in order."""
    blocks: list[tuple[str, bool]] = []
    pending: list[str] = []
    fence: list[str] | None = None

    def flush() -> None:
        joined = " ".join(" ".join(pending).split())
        pending.clear()
        if joined:
            blocks.append((joined, False))

    for line in lines:
        if fence is not None:
            fence.append(line.rstrip())
            if line.strip().startswith(_FENCE):
                blocks.append(("\n".join(fence), False))
                fence = None
        elif markdown and line.strip().startswith(_FENCE):
            flush()
            fence = [line.rstrip()]
        elif not line.strip():
            flush()
        elif markdown and _HEADING.match(line):
            flush()
            blocks.append((" ".join(line.split()), True))
        else:
            if markdown and _BEGINS_BLOCK.match(line):
                flush()
            pending.append(line)
    if fence is not None:
        blocks.append(("\n".join(fence), False))
    flush()
    return blocks

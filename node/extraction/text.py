"""Text that is put together block by block and never grows beyond its limit."""

from __future__ import annotations

from openledger.kernels.documents import DocumentError


class ExtractionRefused(DocumentError):
    """A file that no text is taken from; the message says why and what to do."""


class Text:
    """Blocks of text, an empty line between them."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._blocks: list[str] = []

    def add(self, block: str) -> None:
        """Add a block; an empty one is none. Raises `ExtractionRefused` above the limit."""
        # Characters without a form in UTF-8 (halves of pairs) and NUL are no text.
        block = block.encode("utf-8", "replace").decode("utf-8").replace("\0", "").strip()
        if not block:
            return
        self._size += len(block.encode("utf-8")) + 2
        if self._size > self._limit:
            raise ExtractionRefused(f"its text is longer than {self._limit:,} bytes: split it into smaller files")
        self._blocks.append(block)

    def __str__(self) -> str:
        return "\n\n".join(self._blocks) + "\n" if self._blocks else ""

"""Where a model's tensors come from: a GGUF file or a folder in Hugging Face's layout, by the same names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol


class TensorSource(Protocol):
    """Tensors by the names that GGUF gives them (`blk.0.attn_q.weight`); others keep the file's own."""

    @property
    def path(self) -> Path:
        """The file or folder."""

    @property
    def halves(self) -> bool:
        """Whether rotary pairs of query and key rows lie half a head apart here (else: side by side)."""

    def names(self) -> Iterator[str]:
        """All tensors."""

    def tensor(self, name: str) -> Any:
        """One as binary32, rows first. Raises `DamagedModel` where it is missing or not finite."""

    def key(self) -> str:
        """Names what is derived from these files in a cache: changes when they do."""

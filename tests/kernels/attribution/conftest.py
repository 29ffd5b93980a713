import hashlib
from pathlib import Path

import pytest

from openledger.kernels.attribution.index import Index, SourceDocument, build_index
from openledger.kernels.documents import parse_document

WHALE = """# The whale

The skin of the whale is called blubber, and it is something of the consistence of firm, close-grained beef.

In thickness the blubber ranges from eight or ten to twelve and fifteen inches, which keeps him warm.
"""
AMBER = """Amber and ambergris

Amber is a hard, transparent, brittle, odorless substance, used for mouth-pieces to pipes, for beads and ornaments.

Ambergris is soft, waxy, and so highly fragrant and spicy, that it is largely used in perfumery and hair-powders.
"""
BREAD = """Bread

Knead the dough for ten minutes, let it rise for an hour in a warm place, and bake it until the crust is brown.
"""


class WordTokenizer:
    """Words as tokens, numbered as they first appear; enough where a test is not about the tokenizer."""

    hash = hashlib.sha256(b"words").digest()
    vocabulary = 1000

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        return [self._ids.setdefault(w, len(self._ids)) for w in text.split()]


class HashEncoder:
    """384 bytes that depend on the text alone; enough where a test is not about meaning."""

    def digest(self) -> bytes:
        return hashlib.sha256(b"shake").digest()

    def embed(self, text: str) -> bytes:
        return bytes(b if b != 128 else 127 for b in hashlib.shake_256(text.encode()).digest(384))


def source(contribution: int, contributor: int, text: str, name: str = "a.md") -> SourceDocument:
    return SourceDocument(contribution, contributor, parse_document(name, text.encode()))


@pytest.fixture
def words() -> WordTokenizer:
    return WordTokenizer()


@pytest.fixture
def index(tmp_path: Path, words: WordTokenizer) -> Index:
    """Whale by contributor 1; amber by 2 and, copied, by 1; bread by 3."""
    documents = [source(5, 1, WHALE), source(7, 2, AMBER, "b.txt"), source(9, 1, AMBER), source(12, 3, BREAD)]
    build_index(tmp_path / "index", 3, 1, documents, words, HashEncoder())
    return Index(tmp_path / "index")

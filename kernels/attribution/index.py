"""The index of one Datanet version on disk: corpus, suffix array, chunks and vectors, memory-mapped.

A folder appears under its name only when it is complete (written beside it, synced, renamed), so a crash leaves the
old one or none. Arrays are little-endian; `index.json` holds the roots and the size of every file.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from openledger.evm_ext.proofs.content import content_hash
from openledger.evm_ext.proofs.merkle import DomainTree
from openledger.evm_ext.proofs.spans import Segment, corpus_root, information_root
from openledger.kernels.attribution.corpus import (
    DEPTH,
    ContributionTokens,
    Corpus,
    Tokens,
    information_table,
    lay_out,
)
from openledger.kernels.attribution.encoder import DIMENSION
from openledger.kernels.attribution.errors import IndexDamaged, IndexMissing
from openledger.kernels.attribution.retrieval import (
    Vectors,
    commit_vectors,
    cut,
    passage,
    vector_tree,
)
from openledger.kernels.attribution.spans import SegmentIndex
from openledger.kernels.attribution.suffix_array import commit, rank_tree, suffix_array, text_tree
from openledger.kernels.documents import Document

FORMAT: Final = 1
MANIFEST: Final = "index.json"
_ARRAYS: Final[dict[str, np.dtype[Any]]] = {
    "tokens.u32": np.dtype("<u4"),
    "owners.u32": np.dtype("<u4"),
    "suffix_array.u32": np.dtype("<u4"),
    "counts.i64": np.dtype("<i8"),
    "vectors.i8": np.dtype("i1"),
}
_TEXT: Final = "text.utf8"


class TextTokenizer(Protocol):
    """What an index needs of a tokenizer: text to ids without control tokens, its size and its identity."""

    vocabulary: int
    hash: bytes

    def encode(self, text: str) -> list[int]: ...


class TextEncoder(Protocol):
    """What an index needs of an encoder: text to 384 bytes of int8, and its identity."""

    def digest(self) -> bytes: ...
    def embed(self, text: str) -> bytes: ...


@dataclass(frozen=True)
class SourceDocument:
    """One document to index, of an approved contribution."""

    contribution: int
    contributor: int
    document: Document


class ChunkEntry(msgspec.Struct, frozen=True):
    """A chunk's place: a byte range of its contribution's text, and the document's title."""

    contribution: int
    offset: int
    length: int
    title: str


class ContributionEntry(msgspec.Struct, frozen=True):
    """A contribution in the index: whose, where its text stands in `text.utf8`, how many tokens it has."""

    contribution: int
    contributor: int
    offset: int
    length: int
    tokens: int


class Manifest(msgspec.Struct, frozen=True):
    """`index.json`. Hashes are lower-case hex without prefix."""

    format: int
    datanet: int
    version: int
    vocab: int
    depth: int
    tokens: int
    tokenizer_hash: str
    text_root: str
    rank_root: str
    corpus_root: str
    information_root: str
    embedder_hash: str
    retrieval_root: str
    source_hash: str
    contributions: list[ContributionEntry]
    chunks: list[ChunkEntry]
    sizes: dict[str, int]


def source_hash(documents: Sequence[SourceDocument]) -> str:
    """What an index was made from, to tell whether it must be made again."""
    listing = [asdict(d) for d in documents]
    return content_hash(json.dumps([FORMAT, listing], ensure_ascii=False).encode()).hex()


def build_index(
    folder: Path,
    datanet: int,
    version: int,
    documents: Sequence[SourceDocument],
    tokenizer: TextTokenizer,
    encoder: TextEncoder,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Manifest:
    """Build the index and put it at `folder`. One that is already there is kept if it is of the same documents.

    Raises ValueError for documents that make no corpus, OSError if the disk is full or not writable.
    """
    documents = sorted(documents, key=lambda d: d.contribution)
    made_from = source_hash(documents)
    if (folder / MANIFEST).is_file():
        try:
            manifest = Index(folder).manifest
        except IndexDamaged:
            pass
        else:
            same = (manifest.datanet, manifest.version, manifest.source_hash) == (datanet, version, made_from)
            if same and manifest.tokenizer_hash == tokenizer.hash.hex():
                return manifest

    on_progress("tokens", 0, len(documents))
    grouped: dict[int, list[SourceDocument]] = {}
    for item in documents:
        grouped.setdefault(item.contribution, []).append(item)
        if item.contributor != grouped[item.contribution][0].contributor:
            raise ValueError(f"contribution {item.contribution} has two contributors")
        if not 0 <= item.contributor < 2**32:
            raise ValueError(f"contribution {item.contribution} has contributor {item.contributor}, which is no u32")
    ids = {}
    for done, (contribution, items) in enumerate(grouped.items(), 1):
        ids[contribution] = [tokenizer.encode(i.document.text) for i in items]
        on_progress("tokens", done, len(grouped))
    corpus = lay_out((ContributionTokens(c, lists) for c, lists in ids.items()), tokenizer.vocabulary)
    on_progress("suffix array", 0, 1)
    array = suffix_array(corpus.tokens)
    on_progress("commitment", 0, 1)
    segment = commit(corpus, array, tokenizer.hash)
    counts = corpus.counts()

    text, contributions, chunks = _lay_out_text(grouped, ids)
    embedder_hash = encoder.digest()
    text_at = {c.contribution: c.offset for c in contributions}
    rows = []
    for done, chunk in enumerate(chunks):
        on_progress("embeddings", done, len(chunks))
        at = text_at[chunk.contribution] + chunk.offset
        rows.append(encoder.embed(passage(chunk.title, text[at : at + chunk.length].decode())))
    on_progress("embeddings", len(chunks), len(chunks))
    vectors = np.frombuffer(b"".join(rows), np.int8).reshape(-1, DIMENSION)
    tree = vector_tree([c.contribution for c in chunks], [(c.offset, c.length) for c in chunks], vectors)

    on_progress("writing", 0, 1)
    blobs: dict[str, NDArray[Any] | bytes] = {
        "tokens.u32": corpus.tokens,
        "owners.u32": corpus.owners,
        "suffix_array.u32": array,
        "counts.i64": counts,
        "vectors.i8": vectors,
        _TEXT: text,
    }
    manifest = Manifest(
        format=FORMAT,
        datanet=datanet,
        version=version,
        vocab=corpus.vocab,
        depth=DEPTH,
        tokens=len(corpus.tokens),
        tokenizer_hash=tokenizer.hash.hex(),
        text_root=segment.text_root.hex(),
        rank_root=segment.rank_root.hex(),
        corpus_root=corpus_root([segment.root]).hex(),
        information_root=information_root(information_table(counts).tolist()).hex(),
        embedder_hash=embedder_hash.hex(),
        retrieval_root=commit_vectors(tree, embedder_hash).hex(),
        source_hash=made_from,
        contributions=contributions,
        chunks=chunks,
        sizes={name: len(b) if isinstance(b, bytes) else b.nbytes for name, b in blobs.items()},
    )
    _write(folder, blobs, manifest)
    on_progress("writing", 1, 1)
    return manifest


def _lay_out_text(
    grouped: dict[int, list[SourceDocument]], ids: dict[int, list[list[int]]]
) -> tuple[bytes, list[ContributionEntry], list[ChunkEntry]]:
    """All texts joined, and what lies where. A contribution's text is its documents' texts joined by an empty line."""
    text = b""
    contributions, chunks = [], []
    for contribution, items in grouped.items():
        begin = len(text)
        for number, item in enumerate(items):
            text += b"\n\n" if number else b""
            inside = len(text) - begin
            chunks += [
                ChunkEntry(contribution, inside + c.offset, c.length, item.document.title) for c in cut(item.document)
            ]
            text += item.document.text.encode()
        tokens = sum(map(len, ids[contribution]))
        contributions.append(ContributionEntry(contribution, items[0].contributor, begin, len(text) - begin, tokens))
    return text, contributions, chunks


def _write(folder: Path, blobs: dict[str, NDArray[Any] | bytes], manifest: Manifest) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(folder.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    for name, blob in blobs.items():
        data = blob if isinstance(blob, bytes) else blob.astype(_ARRAYS[name], copy=False).data
        _write_synced(building / name, data)
    _write_synced(building / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    _sync_folder(building)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    _sync_folder(folder.parent)


def _write_synced(path: Path, data: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Index:
    """An index opened for searching. Nothing but the manifest is read until it is needed."""

    def __init__(self, folder: Path) -> None:
        """Raises `IndexMissing`, `IndexDamaged`."""
        self.folder = folder
        try:
            data = (folder / MANIFEST).read_bytes()
        except OSError as error:
            raise IndexMissing(f"no index at {folder}: build it first") from error
        try:
            self.manifest = msgspec.json.decode(data, type=Manifest)
        except msgspec.DecodeError as error:
            raise IndexDamaged(f"{folder / MANIFEST} cannot be read ({error}): build the index again") from error
        if self.manifest.format != FORMAT:
            raise IndexDamaged(f"the index at {folder} has format {self.manifest.format}: build it again")
        for name, size in self.manifest.sizes.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise IndexDamaged(f"{path} is missing or not {size} bytes long: build the index again")

    @cached_property
    def segment(self) -> SegmentIndex:
        return SegmentIndex(self.tokens, self.array, self.owners, self.counts, self.manifest.depth)

    @cached_property
    def segment_header(self) -> Segment:
        """What the segment root commits to."""
        m = self.manifest
        roots = (bytes.fromhex(r) for r in (m.tokenizer_hash, m.text_root, m.rank_root))
        return Segment(m.tokens, m.depth, m.vocab, *roots)

    @cached_property
    def tokens(self) -> Tokens:
        return self._map("tokens.u32")

    @cached_property
    def owners(self) -> Tokens:
        return self._map("owners.u32")

    @cached_property
    def array(self) -> Tokens:
        return self._map("suffix_array.u32")

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        return self._map("counts.i64")

    @cached_property
    def vectors(self) -> Vectors:
        rows: Vectors = self._map("vectors.i8").reshape(-1, DIMENSION)
        return rows

    @cached_property
    def contributor_of(self) -> dict[int, int]:
        """contribution -> contributor."""
        return {c.contribution: c.contributor for c in self.manifest.contributions}

    @cached_property
    def text_tree(self) -> DomainTree:
        return text_tree(self.tokens, self.owners)

    @cached_property
    def rank_tree(self) -> DomainTree:
        return rank_tree(self.array, self.owners)

    @cached_property
    def vector_tree(self) -> DomainTree:
        chunks = self.manifest.chunks
        return vector_tree([c.contribution for c in chunks], [(c.offset, c.length) for c in chunks], self.vectors)

    def chunk_text(self, chunk: int) -> str:
        """The words of a chunk."""
        entry = self.manifest.chunks[chunk]
        at = self._text_offset[entry.contribution] + entry.offset
        return bytes(self._text[at : at + entry.length]).decode()

    def check(self) -> None:
        """Recompute every root from the files, embeddings excepted. Raises `IndexDamaged` naming what differs."""
        m = self.manifest
        corpus = Corpus(self.tokens, self.owners, m.vocab)
        found = {
            "token counts": np.array_equal(corpus.counts(), self.counts),
            "suffix array": np.array_equal(suffix_array(self.tokens, m.depth), self.array),
            "corpus root": corpus_root([commit(corpus, self.array, bytes.fromhex(m.tokenizer_hash)).root]).hex()
            == m.corpus_root,
            "information root": information_root(information_table(self.counts).tolist()).hex() == m.information_root,
            "retrieval root": commit_vectors(self.vector_tree, bytes.fromhex(m.embedder_hash)).hex()
            == m.retrieval_root,
        }
        wrong = [name for name, right in found.items() if not right]
        if wrong:
            raise IndexDamaged(f"{self.folder}: wrong {', '.join(wrong)}: build the index again")

    @cached_property
    def _text(self) -> NDArray[np.uint8]:
        return np.memmap(self.folder / _TEXT, np.uint8, "r")

    @cached_property
    def _text_offset(self) -> dict[int, int]:
        return {c.contribution: c.offset for c in self.manifest.contributions}

    def _map(self, name: str) -> NDArray[Any]:
        return np.memmap(self.folder / name, _ARRAYS[name], "r")

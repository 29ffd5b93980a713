"""Content addresses: what bytes are called, and how a piece of them is checked without the rest.

Content is cut into chunks of 1 MiB (the last one shorter). Its manifest lists them and its hash is
the manifest's hash, so the manifest is itself an object that can be fetched and checked by hash:

    manifest = 0x0a | length u64 | keccak(chunk 0) | keccak(chunk 1) ...      contentHash = keccak(manifest)

A folder (an adapter in Hugging Face layout) is named by its files in path order:

    folder = 0x0e | files u16 | files x (path length u16 | path utf-8 | contentHash)      folderHash = keccak(folder)
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from openledger.evm_ext.proofs.domain import CONTENT, FOLDER
from openledger.genesis.hashing import keccak256

CHUNK_BYTES = 1 << 20
MAX_CHUNKS = 32_767
"""Keeps a manifest within one chunk: 32 GiB of content."""
MAX_FOLDER_FILES = 1_024


class InvalidContent(ValueError):
    """Bytes, a chunk, a manifest or a folder listing that is not what its hash says; the message says why."""


@dataclass(frozen=True)
class ContentManifest:
    """Length in bytes and the Keccak-256 of every 1 MiB chunk."""

    length: int
    chunks: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Raises InvalidContent when the number of chunks does not follow from the length."""
        if not 0 <= self.length <= MAX_CHUNKS * CHUNK_BYTES:
            raise InvalidContent(f"content of {self.length} bytes: the limit is {MAX_CHUNKS * CHUNK_BYTES}")
        if len(self.chunks) != -(-self.length // CHUNK_BYTES):
            raise InvalidContent(f"{self.length} bytes do not make {len(self.chunks)} chunks")
        if any(len(chunk) != 32 for chunk in self.chunks):
            raise InvalidContent("every chunk hash is 32 bytes")

    @property
    def hash(self) -> bytes:
        """The content hash."""
        return keccak256(self.encode())

    def encode(self) -> bytes:
        return CONTENT + struct.pack(">Q", self.length) + b"".join(self.chunks)

    @classmethod
    def decode(cls, data: bytes, content_hash: bytes | None = None) -> "ContentManifest":
        """The manifest in these bytes; raises InvalidContent (also when it is not `content_hash`'s)."""
        if len(data) > 9 + 32 * MAX_CHUNKS or len(data) < 9 or (len(data) - 9) % 32 or data[:1] != CONTENT:
            raise InvalidContent(f"{len(data)} bytes are not a content manifest")
        if content_hash is not None and keccak256(data) != content_hash:
            raise InvalidContent(f"the manifest is not that of content 0x{content_hash.hex()}")
        (length,) = struct.unpack(">Q", data[1:9])
        return cls(length, tuple(data[i : i + 32] for i in range(9, len(data), 32)))

    def chunk_length(self, index: int) -> int:
        """How many bytes chunk `index` has; raises InvalidContent when there is no such chunk."""
        if not 0 <= index < len(self.chunks):
            raise InvalidContent(f"no chunk {index}: the content has {len(self.chunks)}")
        return min(CHUNK_BYTES, self.length - index * CHUNK_BYTES)

    def verify_chunk(self, index: int, data: bytes) -> None:
        """Raises InvalidContent unless `data` is chunk `index`."""
        expected = self.chunk_length(index)
        if len(data) != expected:
            raise InvalidContent(f"chunk {index} has {len(data)} bytes instead of {expected}")
        if keccak256(data) != self.chunks[index]:
            raise InvalidContent(f"chunk {index} does not hash to 0x{self.chunks[index].hex()}")


def manifest_of_chunks(chunks: Iterable[bytes]) -> ContentManifest:
    """The manifest of content given as its 1 MiB chunks in order (so a file need not fit in memory).

    Raises InvalidContent when a chunk other than the last is not exactly 1 MiB, or one is empty.
    """
    length = 0
    hashes: list[bytes] = []
    for chunk in chunks:
        if length % CHUNK_BYTES or not 0 < len(chunk) <= CHUNK_BYTES:
            raise InvalidContent(f"chunks are {CHUNK_BYTES} bytes each, only the last may be shorter")
        length += len(chunk)
        hashes.append(keccak256(chunk))
    return ContentManifest(length, tuple(hashes))


def split_chunks(data: bytes) -> list[bytes]:
    """`data` in its 1 MiB chunks; none for no bytes."""
    return [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)]


def content_manifest(data: bytes) -> ContentManifest:
    """The manifest of `data`."""
    return manifest_of_chunks(split_chunks(data))


def content_hash(data: bytes) -> bytes:
    """The content hash of `data`: binds its length and every chunk."""
    return content_manifest(data).hash


def encode_folder(files: Mapping[str, bytes]) -> bytes:
    """The listing of a folder from relative POSIX path to content hash; its hash is `keccak256` of it.

    Raises InvalidContent for no files, too many, or a path that is absolute, empty or climbs.
    """
    if not 0 < len(files) <= MAX_FOLDER_FILES:
        raise InvalidContent(f"a folder has 1 to {MAX_FOLDER_FILES} files, not {len(files)}")
    entries = []
    for path, digest in sorted((path.encode(), digest) for path, digest in files.items()):
        _check_path(path)
        if len(digest) != 32:
            raise InvalidContent(f"the content hash of {path.decode()} is not 32 bytes")
        entries.append(struct.pack(">H", len(path)) + path + digest)
    return FOLDER + struct.pack(">H", len(entries)) + b"".join(entries)


def decode_folder(data: bytes, folder_hash: bytes | None = None) -> dict[str, bytes]:
    """Relative path to content hash; raises InvalidContent for anything but what `encode_folder` makes."""
    if folder_hash is not None and keccak256(data) != folder_hash:
        raise InvalidContent(f"the listing is not that of folder 0x{folder_hash.hex()}")
    if len(data) < 3 or data[:1] != FOLDER:
        raise InvalidContent("not a folder listing")
    (count,) = struct.unpack(">H", data[1:3])
    files: dict[str, bytes] = {}
    at = 3
    for _ in range(count):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end + 32 > len(data):
            raise InvalidContent("a folder listing that ends early")
        try:
            files[data[at + 2 : end].decode()] = data[end : end + 32]
        except UnicodeDecodeError:
            raise InvalidContent("a path in a folder listing is not UTF-8") from None
        at = end + 32
    if at != len(data) or encode_folder(files) != data:
        raise InvalidContent("a folder listing that is not in its one canonical form")
    return files


def folder_hash(files: Mapping[str, bytes]) -> bytes:
    """The hash of a folder from relative POSIX path to content hash."""
    return keccak256(encode_folder(files))


def _check_path(path: bytes) -> None:
    parts = path.split(b"/")
    if len(path) > 1_024 or b"\0" in path or b"\\" in path or any(part in (b"", b".", b"..") for part in parts):
        raise InvalidContent(f"{path!r} is not a plain relative path")

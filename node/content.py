"""Content by hash, on disk: documents, adapters, manifests and receipt bodies.

Every object is at most 1 MiB and is stored under its Keccak-256: a chunk, a content manifest or a folder listing
(`openledger.evm_ext.proofs.content`). *Named* values are stored under a hash that is not their own (a receipt's
body under the receipt's hash): whoever reads one checks it by recomputing that hash.

Nothing is acknowledged before it is on the disk, and a half-written object is never seen.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from openledger.evm_ext.proofs.content import (
    CHUNK_BYTES,
    ContentManifest,
    InvalidContent,
    content_manifest,
    decode_folder,
    encode_folder,
    split_chunks,
)
from openledger.genesis.hashing import keccak256
from openledger.node.network import write_atomically

Fetch = Callable[[bytes], Awaitable[bytes | None]]
"""Gets one object by its hash from elsewhere; None where nobody has it."""


class ContentMissing(Exception):
    """Neither this node nor whom it asked has an object."""

    def __init__(self, digest: bytes) -> None:
        super().__init__(f"nobody asked has the object 0x{digest.hex()}")
        self.digest = digest


class ContentStore:
    """Objects in a folder, one file each, spread over 256 subfolders. Safe to use from any thread."""

    def __init__(self, folder: Path) -> None:
        self._objects = folder / "objects"
        self._named = folder / "named"

    @staticmethod
    def _path(root: Path, key: bytes) -> Path:
        if len(key) != 32:
            raise ValueError(f"a hash is 32 bytes, not {len(key)}")
        name = key.hex()
        return root / name[:2] / name[2:]

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    # objects

    def put_object(self, data: bytes) -> bytes:
        """Keep one object durably and return its hash. Raises InvalidContent above 1 MiB."""
        if len(data) > CHUNK_BYTES:
            raise InvalidContent(f"an object has at most {CHUNK_BYTES} bytes, not {len(data)}")
        digest = keccak256(data)
        path = self._path(self._objects, digest)
        if not path.exists():
            write_atomically(path, data)
        return digest

    def get_object(self, digest: bytes) -> bytes | None:
        """The object of that hash, or None; a damaged file counts as absent and is removed."""
        path = self._path(self._objects, digest)
        data = self._read(path)
        if data is not None and keccak256(data) != digest:
            os.unlink(path)
            return None
        return data

    # named values

    def put_named(self, key: bytes, data: bytes) -> None:
        """Keep a value of at most 1 MiB durably under a 32-byte key that its reader can recompute from it."""
        if len(data) > CHUNK_BYTES:
            raise InvalidContent(f"a named value has at most {CHUNK_BYTES} bytes, not {len(data)}")
        write_atomically(self._path(self._named, key), data)

    def get_named(self, key: bytes) -> bytes | None:
        """The value under `key`, unchecked, or None."""
        return self._read(self._path(self._named, key))

    def serve(self, key: bytes) -> bytes | None:
        """What a peer that asks for `key` is given: the object, else the named value, else None."""
        return self.get_object(key) or self.get_named(key)

    # whole content

    def put(self, data: bytes) -> bytes:
        """Keep content of any length and return its content hash; the manifest is written last."""
        for chunk in split_chunks(data):
            self.put_object(chunk)
        return self.put_object(content_manifest(data).encode())

    def manifest(self, content_hash: bytes) -> ContentManifest | None:
        """The manifest of that content, or None."""
        encoded = self.get_object(content_hash)
        return None if encoded is None else ContentManifest.decode(encoded, content_hash)

    def get(self, content_hash: bytes, limit_bytes: int | None = None) -> bytes | None:
        """The content, or None while any part is missing.

        Raises InvalidContent when it is longer than `limit_bytes`, before reading it.
        """
        manifest = self.manifest(content_hash)
        if manifest is None:
            return None
        if limit_bytes is not None and manifest.length > limit_bytes:
            raise InvalidContent(f"the content has {manifest.length} bytes, more than {limit_bytes}")
        parts = []
        for digest in manifest.chunks:
            chunk = self.get_object(digest)
            if chunk is None:
                return None
            parts.append(chunk)
        return b"".join(parts)

    # folders

    def put_folder(self, folder: Path) -> bytes:
        """Keep every file of `folder` and return the folder's hash (`proofs.content`)."""
        files = {
            path.relative_to(folder).as_posix(): self.put(path.read_bytes())
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        return self.put_object(encode_folder(files))

    def export_folder(self, folder_hash: bytes, target: Path) -> None:
        """Write the files of a folder below `target`, which appears whole or not at all.

        Raises ContentMissing.
        """
        if target.is_dir():
            return
        staging = target.with_name(target.name + ".new")
        for path, content_hash in self._listing(folder_hash).items():
            data = self.get(content_hash)
            if data is None:
                raise ContentMissing(content_hash)
            write_atomically(staging / path, data)
        os.replace(staging, target)

    def _listing(self, folder_hash: bytes) -> dict[str, bytes]:
        encoded = self.get_object(folder_hash)
        if encoded is None:
            raise ContentMissing(folder_hash)
        return decode_folder(encoded, folder_hash)

    # from elsewhere

    async def _obtain(self, digest: bytes, fetch: Fetch) -> bytes:
        held = self.get_object(digest)
        if held is not None:
            return held
        data = await fetch(digest)
        if data is None or keccak256(data) != digest:
            raise ContentMissing(digest)
        self.put_object(data)
        return data

    async def obtain(self, content_hash: bytes, fetch: Fetch, limit_bytes: int) -> bytes:
        """The content, each part fetched where it is not here yet; what arrives is checked against its hash.

        A fetch that broke off goes on from the parts already here. Raises ContentMissing, InvalidContent
        (longer than `limit_bytes`, known from the manifest before any chunk is asked for).
        """
        manifest = ContentManifest.decode(await self._obtain(content_hash, fetch), content_hash)
        if manifest.length > limit_bytes:
            raise InvalidContent(f"the content has {manifest.length} bytes, more than {limit_bytes}")
        return b"".join([await self._obtain(digest, fetch) for digest in manifest.chunks])

    async def obtain_folder(self, folder_hash: bytes, fetch: Fetch, limit_bytes: int) -> None:
        """Fetch what is missing of a folder; errors as in `obtain`, the limit holding for all files together."""
        for content_hash in decode_folder(await self._obtain(folder_hash, fetch), folder_hash).values():
            limit_bytes -= len(await self.obtain(content_hash, fetch, limit_bytes))

    def objects(self) -> Iterator[bytes]:
        """The hashes of all objects held."""
        for path in self._objects.glob("??/*"):
            if not path.name.endswith(".new"):
                yield bytes.fromhex(path.parent.name + path.name)

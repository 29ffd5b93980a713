"""Adapters that the operator loaded by hand: a name, the adapter's hash, and the release whose answers they are.

A release is what is registered and paid for, so a loaded adapter is used *with* one: the answer is that release's, at its
price and by its split, and the request names the adapter by hash, so that who checks the answer uses it as well. Kept in
one JSON file and in the content store, from where other nodes get the adapter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from openledger.node.content import ContentStore
from openledger.node.errors import StartupError, UserError
from openledger.node.factory.releases import store_adapter
from openledger.node.network import write_atomically

MAX_LOADED = 10_000
MAX_ADAPTER_BYTES = 512 << 20


class AdapterNotLoaded(UserError):
    """No adapter can be loaded, or none has that name; the message says why."""


class LoadedAdapter(msgspec.Struct, frozen=True):
    """`release` is the number of the one whose answers it gives; `path` where it was loaded from."""

    name: str
    digest: bytes
    release: int
    path: str


class LoadedAdapters:
    """By name. Methods block for the disk and may be called from any thread."""

    def __init__(self, file: Path, content: ContentStore) -> None:
        """Raises StartupError for a file that is not ours."""
        self._file = file
        self._content = content
        self._lock = threading.Lock()
        try:
            listed = msgspec.json.decode(file.read_bytes(), type=list[LoadedAdapter]) if file.exists() else []
        except msgspec.MsgspecError as error:
            raise StartupError(f"{file} is not a list of adapters ({error}): remove it and load them again") from error
        self._loaded = {adapter.name: adapter for adapter in listed}

    def get(self, name: str) -> LoadedAdapter | None:
        """The adapter of that name."""
        return self._loaded.get(name)

    def all(self) -> list[LoadedAdapter]:
        """In the order in which they were loaded."""
        return list(self._loaded.values())

    def load(
        self, name: str, folder: Path, release: int, *, replace: bool, check: Callable[[bytes], None]
    ) -> LoadedAdapter:
        """Keep the adapter in `folder` under a name. `check(digest)` is asked before it is listed, and may raise.

        Raises AdapterNotLoaded, ReleaseRefused.
        """
        with self._lock:
            if not replace and name in self._loaded:
                raise AdapterNotLoaded(f"an adapter named {name!r} is loaded already: unload it, or say load_inplace")
            if name not in self._loaded and len(self._loaded) >= MAX_LOADED:
                raise AdapterNotLoaded(f"{MAX_LOADED} adapters are loaded already: unload some")
        size = sum(file.stat().st_size for file in folder.glob("adapter_*") if file.is_file())
        if size > MAX_ADAPTER_BYTES:
            raise AdapterNotLoaded(f"the adapter in {folder} has {size:,} bytes, the limit is {MAX_ADAPTER_BYTES:,}")
        digest = store_adapter(self._content, folder)
        check(digest)
        adapter = LoadedAdapter(name, digest, release, str(folder))
        with self._lock:
            self._write({**self._loaded, name: adapter})
        return adapter

    def unload(self, name: str) -> LoadedAdapter:
        """Forget the name. The adapter itself is kept: answers that it gave can still be checked.

        Raises AdapterNotLoaded.
        """
        with self._lock:
            found = self._loaded.get(name)
            if found is None:
                raise AdapterNotLoaded(f"no adapter named {name!r} is loaded")
            self._write({other: adapter for other, adapter in self._loaded.items() if other != name})
        return found

    def _write(self, loaded: dict[str, LoadedAdapter]) -> None:
        write_atomically(self._file, msgspec.json.encode(list(loaded.values())))
        self._loaded = loaded

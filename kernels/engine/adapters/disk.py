"""Quantised adapters on disk: read back without quantising again, checked by a hash, the longest unused let go.

A file is in safetensors layout (tensors `data` int8 and `alphas` binary32, see `ops/lora_layout.py`), named by the adapter's
digest, in a folder named by the model's shape. A file that is damaged counts as absent and is removed.
"""

import json
import os
import struct
import threading
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np

from openledger.kernels.engine.adapters.shapes import group_shapes
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.ops.lora_layout import GROUPS, MODULES, PackedLora, lora_layout

FORMAT: Final = "exact-1 adapter 1"
SUFFIX: Final = ".lora.safetensors"
_MAX_HEADER: Final = 1 << 20


class DiskTier:
    """A folder of at most about `max_bytes` of adapters for one model. Safe to use from any thread, and beside other
    processes that use the same folder."""

    def __init__(self, cache_folder: Path, config: ModelConfig, max_bytes: int) -> None:
        self._shapes, self._layers = group_shapes(config), config.layers
        key = blake2b(repr((FORMAT, self._shapes, config)).encode(), digest_size=8).hexdigest()
        self.folder = cache_folder / "adapters" / key
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._bytes: int | None = None

    def get(self, digest: bytes) -> PackedLora | None:
        """The adapter of that digest, if it is here."""
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        packed = self._decode(data)
        if packed is None:
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
        return packed

    def put(self, digest: bytes, packed: PackedLora) -> None:
        """Keep an adapter, and let go of what was not used for longest. A crash leaves all of a file or none."""
        path = self._path(digest)
        if path.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        encoded = _encode(packed)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
        temporary.write_bytes(encoded)
        temporary.replace(path)
        with self._lock:
            if self._bytes is not None:
                self._bytes += len(encoded)
            if self._bytes is None or self._bytes > self._max_bytes:
                self._bytes = self._shrink()

    def _shrink(self) -> int:
        """Remove files down to nine tenths of what is allowed, if there are more. Returns the bytes that are left."""
        files = []
        for entry in os.scandir(self.folder):
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            files.append((status.st_mtime_ns, status.st_size, entry.path))
        total = sum(size for _, size, _ in files)
        if total > self._max_bytes:
            for _, size, path in sorted(files):
                if total <= self._max_bytes * 9 // 10:
                    break
                Path(path).unlink(missing_ok=True)
                total -= size
        return total

    def _path(self, digest: bytes) -> Path:
        return self.folder / (digest.hex() + SUFFIX)

    def _decode(self, data: bytes) -> PackedLora | None:
        """None if any bit is another than was written."""
        try:
            (length,) = struct.unpack_from("<Q", data)
            if length > _MAX_HEADER:
                return None
            said = json.loads(data[8 : 8 + length])["__metadata__"]
            body = memoryview(data)[8 + length :]
            if said["format"] != FORMAT or _hash(said["ranks"], body) != said["contents"]:
                return None
            ranks = tuple((int(layer), str(module), int(rank)) for layer, module, rank in json.loads(said["ranks"]))
            layout = lora_layout(self._shapes, self._layers, ranks)
            count = self._layers * len(GROUPS) * MODULES
            if len(body) != layout.bytes + 4 * count:
                return None
            alphas = np.frombuffer(body, "<f4", count, layout.bytes).copy()
            return PackedLora(layout, np.frombuffer(body, np.int8, layout.bytes).copy(), alphas)
        except (ValueError, KeyError, TypeError, IndexError, struct.error):
            return None


def _encode(packed: PackedLora) -> bytes:
    ranks = json.dumps(packed.layout.ranks, separators=(",", ":"))
    alphas = np.ascontiguousarray(packed.alphas, "<f4")
    body = packed.data.tobytes() + alphas.tobytes()
    size = int(packed.data.nbytes)
    header: dict[str, Any] = {
        "__metadata__": {"format": FORMAT, "contents": _hash(ranks, body), "ranks": ranks},
        "data": {"dtype": "I8", "shape": [size], "data_offsets": [0, size]},
        "alphas": {"dtype": "F32", "shape": [len(alphas)], "data_offsets": [size, len(body)]},
    }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return b"".join((struct.pack("<Q", len(encoded)), encoded, body))


def _hash(ranks: str, body: bytes | memoryview) -> str:
    state = blake2b(ranks.encode(), digest_size=32)
    state.update(body)
    return state.hexdigest()

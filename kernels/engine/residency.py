"""Which adapters are in memory: loaded just in time on a thread of its own, the least recently used let go."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from openledger.kernels.engine.adapters import (
    AdapterRefused,
    ModuleWeights,
    adapter_digest,
    group_shapes,
    inspect_adapter,
    read_adapter,
)
from openledger.kernels.engine.adapters.folder import WEIGHTS_FILE
from openledger.kernels.engine.adapters.settings import CONFIG_FILE
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.messages import Adapter
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.ops.lora_layout import Lora, PackedLora, pack_lora

Place = Callable[[PackedLora], Lora]
"""Puts an adapter of the whole model where the model computes."""


def stack_adapter(
    modules: Mapping[tuple[int, str], ModuleWeights], config: ModelConfig, array: Callable[[Any], Any]
) -> Lora:
    """The modules of an adapter as the forward pass takes them. `config` may be a share of a model's."""
    return pack_adapter(modules, config).place(array)


def pack_adapter(modules: Mapping[tuple[int, str], ModuleWeights], config: ModelConfig) -> PackedLora:
    """The modules of an adapter in one piece, for a model or a share of it."""
    return pack_lora(group_shapes(config), config.layers, modules)


class AdapterStore:
    """Adapters by digest. `get` may be called from the engine's thread only."""

    def __init__(self, config: ModelConfig, settings: EngineConfig, place: Place) -> None:
        self._config = config
        self._settings = settings
        self._place = place
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="adapter-loader")
        self._lock = threading.Lock()
        self._resident: OrderedDict[bytes, Lora] = OrderedDict()
        self._digests: dict[tuple[Any, ...], bytes] = {}
        self.hits = self.loads = 0  # how often an adapter was here already, and how often it was read

    @property
    def resident(self) -> int:
        return len(self._resident)

    def get(self, adapter: Adapter) -> "Future[tuple[bytes, Lora]]":
        """The adapter and its digest, when it is loaded. The future raises `AdapterRefused`."""
        return self._loader.submit(self._load, adapter)

    def _load(self, adapter: Adapter) -> tuple[bytes, Lora]:
        if adapter.digest and len(adapter.digest) != 32:
            raise AdapterRefused(f"an adapter's digest has 32 bytes, not {len(adapter.digest)}")
        folder = Path(adapter.path)
        try:
            # Sizes first: hashing reads the whole file.
            info = None
            key = self._file_key(folder)
            digest = self._digests.get(key) if key else None
            if digest is None or digest not in self._resident:
                settings = self._settings
                info = inspect_adapter(
                    folder,
                    self._config,
                    max_bytes=settings.max_adapter_bytes,
                    max_rank=settings.max_adapter_rank,
                )
                digest = adapter_digest(folder)
                self._digests[self._file_key(folder)] = digest
            if adapter.digest and digest != adapter.digest:
                raise AdapterRefused(
                    f"the adapter in {folder} has the digest 0x{digest.hex()}, not 0x{adapter.digest.hex()}: "
                    "it is not the one that the release names"
                )
            with self._lock:
                held = self._resident.get(digest)
                if held is not None:
                    self._resident.move_to_end(digest)
                    self.hits += 1
                    return digest, held
            assert info is not None
            lora = self._place(pack_adapter(read_adapter(info, self._config), self._config))
        except OSError as error:
            raise AdapterRefused(f"the adapter in {folder} cannot be read: {error}") from error
        with self._lock:
            self._resident[digest] = lora
            self.loads += 1
            while len(self._resident) > self._settings.max_adapters_resident:
                self._resident.popitem(last=False)
        return digest, lora

    def _file_key(self, folder: Path) -> tuple[Any, ...]:
        key: list[Any] = [str(folder)]
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            try:
                stat = (folder / name).stat()
            except OSError:
                return ()
            key += [stat.st_ino, stat.st_size, stat.st_mtime_ns]
        return tuple(key)

    def close(self) -> None:
        self._loader.shutdown(wait=True, cancel_futures=True)

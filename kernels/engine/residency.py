"""Where adapters are: on the device, in the CPU's memory, on disk in their integer form, or only at their source.

    ask()     when a request comes: its adapters are read and quantised on threads of their own, ahead of their turn
    loaded()  whose adapters are in memory now
    place()   just before a request runs: its adapters onto the device, where they stay while it has not ended
    release() when it has

Each tier is limited by bytes and lets go of what was used longest ago, never of what a request holds. On a CPU the device's
memory is the CPU's own: placing copies nothing.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from openledger.genesis.hashing import keccak256
from openledger.kernels.engine.adapters import AdapterRefused, ModuleWeights, group_shapes, load_adapter
from openledger.kernels.engine.adapters.device import DeviceTier
from openledger.kernels.engine.adapters.device import Place as Place
from openledger.kernels.engine.adapters.disk import DiskTier
from openledger.kernels.engine.adapters.folder import WEIGHTS_FILE, find_adapter
from openledger.kernels.engine.adapters.host import Counts, HostTier
from openledger.kernels.engine.adapters.hub import HUB_PREFIX, fetch_adapter
from openledger.kernels.engine.adapters.pack import quantize_adapter
from openledger.kernels.engine.adapters.settings import CONFIG_FILE
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.messages import Adapter
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.ops.lora_layout import Lora, PackedLora, pack_lora

MAX_WEIGHT_MILLI: Final = 100_000
_LOADERS: Final = 2
_READ_AHEAD: Final = 16
"""Adapters that may be on their way into memory at once."""

_REMEMBERED: Final = 65_536
"""Files whose digests are remembered."""


def stack_adapter(
    modules: Mapping[tuple[int, str], ModuleWeights], config: ModelConfig, array: Callable[[Any], Any]
) -> Lora:
    """The modules of an adapter as the forward pass takes them. `config` may be a share of a model's."""
    return pack_adapter(modules, config).place(array)


def pack_adapter(modules: Mapping[tuple[int, str], ModuleWeights], config: ModelConfig) -> PackedLora:
    """The modules of an adapter in one piece, for a model or a share of it."""
    return pack_lora(group_shapes(config), config.layers, modules)


@dataclass(eq=False)
class _Request:
    """`held`: the adapters it waits for or has, in its order; `on_device` once they were placed."""

    adapters: tuple[Adapter, ...]
    futures: list["Future[tuple[bytes, PackedLora]]"] = field(default_factory=list)
    held: list[tuple[bytes, PackedLora]] = field(default_factory=list)
    on_device: bool = False


class AdapterStore:
    """All tiers. Its methods are for the engine's thread. `place` puts an adapter where the model computes; with `array`,
    where one process computes alone, weights need no copy and a GPU's copies wait for nobody."""

    def __init__(
        self,
        config: ModelConfig,
        settings: EngineConfig,
        place: Place,
        array: Callable[[Any], Any] | None = None,
        *,
        pinned: bool = False,
    ) -> None:
        self._config = config
        self._settings = settings
        self._pinned = pinned
        self.counts = Counts()
        self.host = HostTier(settings.adapter_host_bytes, self.counts)
        self.device = DeviceTier(settings, place, array, self.counts)
        cached = bool(settings.cache_folder) and settings.adapter_disk_bytes > 0
        self.disk = DiskTier(Path(settings.cache_folder), config, settings.adapter_disk_bytes) if cached else None
        self._loaders = ThreadPoolExecutor(_LOADERS, thread_name_prefix="adapter-loader")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="adapter-writer")
        self._requests: dict[str, _Request] = {}
        self._waiting: deque[str] = deque()
        self._flying: dict[Future[tuple[bytes, PackedLora]], str] = {}  # each with the path that it reads
        self._wanted: Counter[bytes] = Counter()
        self._digests: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()

    def ask(self, request_id: str, adapters: Sequence[Adapter]) -> None:
        """Get a request's adapters into memory. They are read in the order of asking, as far ahead as there is room."""
        request = self._requests[request_id] = _Request(tuple(adapters))
        if not self._find_at_once(request):
            self._waiting.append(request_id)
        self._start_loads()

    def loaded(self) -> list[tuple[str, tuple[bytes, ...] | AdapterRefused]]:
        """Requests whose adapters are in memory since the last call, with the adapters' names for the prefix cache; or why
        they never will be."""
        self._start_loads()
        found: list[tuple[str, tuple[bytes, ...] | AdapterRefused]] = []
        for request_id, request in self._requests.items():
            if request.held or not request.futures or not all(future.done() for future in request.futures):
                continue
            errors = [error for future in request.futures if (error := future.exception()) is not None]
            if errors:
                self._unpin(request)
                if not isinstance(errors[0], AdapterRefused):
                    raise errors[0]
                found.append((request_id, errors[0]))
                continue
            request.held = [future.result() for future in request.futures]
            self._wanted.update(digest for digest, _ in request.held)
            if not self.device.fits_alone(dict(request.held)):
                size = sum(packed.bytes for packed in dict(request.held).values())
                refused = AdapterRefused(
                    f"the adapters of this request take {size:,} bytes, adapter_device_bytes is "
                    f"{self._settings.adapter_device_bytes:,} for at most {self._settings.max_adapters_resident}"
                )
                found.append((request_id, refused))
                continue
            self.counts.device_hits += sum(self.device.holds([digest]) for digest in dict(request.held))
            # Ahead of its turn, where that sends nobody away who is wanted.
            self.device.start(dict(request.held), keep=lambda digest: self._wanted[digest] > 0)
            names = [
                adapter_name(digest, each.weight_milli) for (digest, _), each in zip(request.held, request.adapters)
            ]
            found.append((request_id, tuple(names)))
        return found

    def place(self, request_id: str) -> tuple[Lora, ...] | None:
        """The request's adapters, on the device until it is released; None while they are on their way, or while others
        in use leave them no room. Asked again, the same."""
        request = self._requests[request_id]
        digests = [digest for digest, _ in request.held]
        if not request.on_device:
            if not self.device.holds(digests) and not self.device.start(dict(request.held)):
                return None
            if not self.device.use(digests):
                return None
            request.on_device = True
            self._unpin(request)
        return tuple(self.device.get(*held, each.weight_milli) for held, each in zip(request.held, request.adapters))

    def leave(self, request_id: str) -> None:
        """The request does not run now: its adapters may give way until it is placed again."""
        request = self._requests[request_id]
        if request.on_device:
            self.device.leave([digest for digest, _ in request.held])
            request.on_device = False

    def release(self, request_id: str) -> None:
        """The request has ended; nothing happens if it has no adapters."""
        request = self._requests.pop(request_id, None)
        if request is None:
            return
        for digest, _ in request.held:
            self._wanted[digest] -= 1
        if request.on_device:
            self.device.leave([digest for digest, _ in request.held])
        else:
            for future in request.futures:
                if not future.cancel():
                    # Perhaps read for nobody: whoever comes next may still find it.
                    future.add_done_callback(self._drop)
        self._start_loads()

    def close(self) -> None:
        self._loaders.shutdown(wait=True, cancel_futures=True)
        self._writer.shutdown(wait=True)

    def _start_loads(self) -> None:
        """Read ahead while what is held in memory for requests that wait has room there. What is being read is not read
        again beside it: whoever else wants it waits until it is there."""
        self._flying = {future: path for future, path in self._flying.items() if not future.done()}
        passed = []
        while (
            self._waiting
            and len(self._flying) < _READ_AHEAD
            and self.host.pinned_bytes < self._settings.adapter_host_bytes
        ):
            request_id = self._waiting.popleft()
            request = self._requests.get(request_id)
            if request is None or request.futures:
                continue
            if not {adapter.path for adapter in request.adapters}.isdisjoint(self._flying.values()):
                passed.append(request_id)
                continue
            request.futures = [self._loaders.submit(self._load, adapter) for adapter in request.adapters]
            self._flying.update(zip(request.futures, (adapter.path for adapter in request.adapters), strict=True))
        self._waiting.extendleft(reversed(passed))

    def _find_at_once(self, request: _Request) -> bool:
        """Where all its adapters are in memory, by the digests that it names, no thread need look for them."""
        for adapter in request.adapters:
            packed = self.host.pin(adapter.digest) if abs(adapter.weight_milli) <= MAX_WEIGHT_MILLI else None
            if packed is None:
                self._unpin(request)
                return False
            future: Future[tuple[bytes, PackedLora]] = Future()
            future.set_result((adapter.digest, packed))
            request.futures.append(future)
        return True

    def _unpin(self, request: _Request) -> None:
        for future in request.futures:
            self._drop(future)
        request.futures = []

    def _drop(self, future: "Future[tuple[bytes, PackedLora]]") -> None:
        if future.done() and not future.cancelled() and future.exception() is None:
            self.host.unpin(future.result()[0])

    # on the loaders' threads

    def _load(self, adapter: Adapter) -> tuple[bytes, PackedLora]:
        """An adapter and its digest, pinned in memory. Raises `AdapterRefused`."""
        if adapter.digest and len(adapter.digest) != 32:
            raise AdapterRefused(f"an adapter's digest has 32 bytes, not {len(adapter.digest)}")
        if not -MAX_WEIGHT_MILLI <= adapter.weight_milli <= MAX_WEIGHT_MILLI:
            raise AdapterRefused(
                f"an adapter's weight is at most {MAX_WEIGHT_MILLI:,} thousandths, not {adapter.weight_milli:,}"
            )
        try:
            found = self._in_memory(adapter.digest) if adapter.digest else None
            return found or self._from_source(adapter)
        except OSError as error:
            raise AdapterRefused(f"the adapter {adapter.path} cannot be read: {error}") from error

    def _in_memory(self, digest: bytes) -> tuple[bytes, PackedLora] | None:
        packed = self.host.pin(digest)
        if packed is not None:
            return digest, packed
        packed = None if self.disk is None else self.disk.get(digest)
        if packed is None or max(rank for *_, rank in packed.layout.ranks) > self._settings.max_adapter_rank:
            return None
        return digest, self._keep(digest, packed, from_disk=True)

    def _from_source(self, adapter: Adapter) -> tuple[bytes, PackedLora]:
        settings = self._settings
        folder = Path(adapter.path)
        if adapter.path.startswith(HUB_PREFIX):
            folder = fetch_adapter(adapter.path, settings.adapter_hub_folder, settings.max_adapter_bytes)
        key = _file_key(folder)
        known = self._digests.get(key)
        if known is not None and (not adapter.digest or known == adapter.digest):
            found = self._in_memory(known)
            if found is not None:
                return found
        digest, modules, data = load_adapter(
            folder, self._config, max_bytes=settings.max_adapter_bytes, max_rank=settings.max_adapter_rank
        )
        if adapter.digest and digest != adapter.digest:
            raise AdapterRefused(
                f"the adapter in {folder} has the digest 0x{digest.hex()}, not 0x{adapter.digest.hex()}: "
                "it is not the one that the release names"
            )
        if _file_key(folder) == key:
            self._digests[key] = digest
            while len(self._digests) > _REMEMBERED:
                self._digests.popitem(last=False)
        packed = quantize_adapter(modules, data, self._config)
        if self.disk is not None:
            self._writer.submit(self.disk.put, digest, packed)
        return digest, self._keep(digest, packed, from_disk=False)

    def _keep(self, digest: bytes, packed: PackedLora, *, from_disk: bool) -> PackedLora:
        if self._pinned:
            packed = PackedLora(packed.layout, torch.from_numpy(packed.data).pin_memory().numpy(), packed.alphas)
        return self.host.add(digest, packed, from_disk=from_disk)


def adapter_name(digest: bytes, weight_milli: int) -> bytes:
    """What a sequence's keys and values depend on, in 32 bytes."""
    return digest if weight_milli == 1000 else keccak256(digest + weight_milli.to_bytes(4, "little", signed=True))


def _file_key(folder: Path) -> tuple[Any, ...]:
    folder = find_adapter(folder)
    key: list[Any] = [str(folder)]
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            status = (folder / name).stat()
        except FileNotFoundError:
            continue
        key += [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return tuple(key)

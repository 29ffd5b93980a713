"""Adapters where the engine computes: limited by bytes, the longest unused let go, never one that a running request uses."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from openledger.kernels.engine.adapters.host import Counts
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.ops.lora_layout import Lora, PackedLora

Place = Callable[[PackedLora], Lora]
"""Puts an adapter of the whole model where the model computes."""


@dataclass(eq=False)
class _Resident:
    lora: Lora
    bytes: int
    arrived: Callable[[], bool]
    users: int = 0
    weighted: dict[int, Lora] = field(default_factory=dict)


class DeviceTier:
    """Adapters where the engine computes, by digest. For the engine's thread only."""

    def __init__(
        self, settings: EngineConfig, place: Place, array: Callable[[Any], Any] | None, counts: Counts
    ) -> None:
        self._max_bytes = settings.adapter_device_bytes
        self._max_count = settings.max_adapters_resident
        self._place = place
        self._array = array
        self._counts = counts
        self._held: OrderedDict[bytes, _Resident] = OrderedDict()
        self._aside: Any = None
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def fits_alone(self, wanted: Mapping[bytes, PackedLora]) -> bool:
        """Whether these can be here together when nothing else is."""
        return sum(each.bytes for each in wanted.values()) <= self._max_bytes and len(wanted) <= self._max_count

    def start(self, wanted: Mapping[bytes, PackedLora], keep: Callable[[bytes], bool] = lambda digest: False) -> bool:
        """Begin to bring these here, if there is room when others leave that nobody uses and that are not to be kept."""
        missing = {digest: packed for digest, packed in wanted.items() if digest not in self._held}
        count, size = len(missing), sum(packed.bytes for packed in missing.values())
        leaving: list[bytes] = []
        left = self.bytes
        for digest, resident in self._held.items():
            if left + size <= self._max_bytes and len(self._held) - len(leaving) + count <= self._max_count:
                break
            if not resident.users and digest not in wanted and not keep(digest):
                leaving.append(digest)
                left -= resident.bytes
        if left + size > self._max_bytes or len(self._held) - len(leaving) + count > self._max_count:
            return False
        for digest in leaving:
            self.bytes -= self._held.pop(digest).bytes
            self._counts.evictions += 1
        for digest, packed in missing.items():
            self._held[digest] = self._bring(packed)
            self.bytes += packed.bytes
            self._counts.device_loads += 1
        return True

    def use(self, digests: Sequence[bytes]) -> bool:
        """Hold adapters that were started, all at once, if they have arrived."""
        residents = [self._held[digest] for digest in dict.fromkeys(digests)]
        if not all(resident.arrived() for resident in residents):
            return False
        for digest, resident in zip(dict.fromkeys(digests), residents):
            resident.users += 1
            self._held.move_to_end(digest)
        return True

    def leave(self, digests: Sequence[bytes]) -> None:
        """Hold them once less."""
        for digest in dict.fromkeys(digests):
            self._held[digest].users -= 1

    def holds(self, digests: Sequence[bytes]) -> bool:
        """Whether all of them are here, or on their way."""
        return all(digest in self._held for digest in digests)

    def get(self, digest: bytes, packed: PackedLora, weight_milli: int) -> Lora:
        """One that is here, at a weight."""
        resident = self._held[digest]
        if weight_milli == 1000:
            return resident.lora
        found = resident.weighted.get(weight_milli)
        if found is None and self._array is not None:
            found = resident.lora.weighted(weight_milli, self._array)
        elif found is None:
            found = self._place(replace(packed, alphas=packed.weighted(weight_milli)))
        resident.weighted[weight_milli] = found
        return found

    def _bring(self, packed: PackedLora) -> _Resident:
        data = torch.from_numpy(packed.data)
        if self._array is None or not data.is_pinned():
            return _Resident(self._place(packed), packed.bytes, lambda: True)
        # Beside what the device computes: nobody's step waits for a copy.
        if self._aside is None:
            self._aside = torch.cuda.Stream()
        with torch.cuda.stream(self._aside):
            moved = data.to("cuda", non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        moved.record_stream(torch.cuda.current_stream())
        return _Resident(packed.placed(self._array, moved), packed.bytes, event.query)

"""An adapter as one piece of memory: all its integer matrices in one buffer, and a table of where each begins.

Adapters of the same ranks share a layout. Moving one between disk, CPU and GPU is one copy, and a kernel finds every layer
of it from three addresses: the buffer's, that of its scales alpha, and that of the layout's table.

A *place* is a layer and a group of modules that share an input; a row of the table is one place, int64:

| field | is |
|---|---|
| 0, 1, 2 | ranks of its modules together (0: nothing here), offset of A, offset of A's scales |
| 3 + 6m … | module m: rank, first rank, first column of `y`, width, offset of B, offset of B's scales |

A: int8 [ranks, K], the modules' one after the other. B of a module: int8 [rank, width], transposed. Scales: binary32, one per
row of A and per column of `y`. Alphas: binary32, three for every place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import torch

GROUPS: Final = ("qkv", "output", "gate_up", "down")
MODULES: Final = 3
FIELDS: Final = 24
MODULE_FIELDS: Final = 6
FIRST_MODULE: Final = 3
_ALIGNMENT: Final = 16


class LoraGroup(NamedTuple):
    """One adapter's modules of one group, stacked; arrays or tensors.

    `a` [R, K] int8 and `a_scales` [R]: the A matrices one after the other. `b` [sum of rank * width] int8:
    each B transposed to [rank, width]; `b_scales` [sum of widths]. `modules` [M, 4] int64, on the CPU always: rank,
    first column of `y`, width, and where the module's B begins; `alphas` [M].
    """

    a: Any
    a_scales: Any
    b: Any
    b_scales: Any
    modules: Any
    alphas: Any


class ModuleShape(NamedTuple):
    """A module of a group: its name, its first column of the group's `y`, its outputs and its inputs."""

    name: str
    column: int
    width: int
    inputs: int


Shapes = tuple[tuple[ModuleShape, ...], ...]
"""The modules of each of `GROUPS`."""


@dataclass(frozen=True)
class ModuleWeights:
    """One adapted matrix, quantised: `a` int8 [rank, K], `b` int8 [N, rank], a binary32 scale per row of each."""

    a: Any
    a_scales: Any
    b: Any
    b_scales: Any
    alpha: Any


@dataclass(frozen=True, eq=False)
class LoraLayout:
    """Where the parts of all adapters with these ranks lie. `widest` [4]: a group's ranks together, at most."""

    shapes: Shapes
    layers: int
    ranks: tuple[tuple[int, str, int], ...]
    table: Any
    bytes: int
    widest: tuple[int, ...]
    placed: dict[Any, Any] = field(default_factory=dict, repr=False)

    def row(self, layer: int, group: str) -> Any:
        return self.table[layer * len(GROUPS) + GROUPS.index(group)]

    def find(self, layer: int, module: str) -> tuple[int, str, int, int]:
        """(place, group, index in the group, inputs) of a module."""
        for at, group in enumerate(self.shapes):
            for index, shape in enumerate(group):
                if shape.name == module:
                    return layer * len(GROUPS) + at, GROUPS[at], index, shape.inputs
        raise KeyError(module)


@lru_cache(maxsize=256)
def lora_layout(shapes: Shapes, layers: int, ranks: tuple[tuple[int, str, int], ...]) -> LoraLayout:
    """The layout of adapters with these (layer, module, rank), in any order."""
    wanted = {(layer, module): rank for layer, module, rank in ranks}
    table = np.zeros((layers * len(GROUPS), FIELDS), np.int64)
    widest = [0] * len(GROUPS)
    at = 0

    def take(size: int) -> int:
        nonlocal at
        first = at
        at += -(-size // _ALIGNMENT) * _ALIGNMENT
        return first

    for place in range(len(table)):
        layer, group = divmod(place, len(GROUPS))
        modules = shapes[group]
        row = table[place]
        here = [wanted.get((layer, module.name), 0) for module in modules]
        total = sum(here)
        widest[group] = max(widest[group], total)
        if total:
            row[:3] = total, take(total * modules[0].inputs), take(total * 4)
        widths = sum(rank and module.width for rank, module in zip(here, modules))
        b = take(sum(rank * module.width for rank, module in zip(here, modules)))
        b_scales = take(widths * 4)
        first = 0
        for index, (rank, module) in enumerate(zip(here, modules)):
            field_at = FIRST_MODULE + MODULE_FIELDS * index
            row[field_at : field_at + MODULE_FIELDS] = rank, first, module.column, module.width, b, b_scales
            first += rank
            b += rank * module.width
            b_scales += 4 * module.width if rank else 0
    table.setflags(write=False)
    return LoraLayout(shapes, layers, tuple(sorted(ranks)), table, at, tuple(widest))


@dataclass(frozen=True, eq=False)
class Lora:
    """An adapter where it is computed with. `data` int8 and `alphas` as in `LoraLayout`; `addresses`: of `data`, `alphas`
    and the table there. `own_alphas`: the adapter's own, on the CPU. One at another weight than 1000 shares its `origin`'s
    memory."""

    layout: LoraLayout
    data: Any
    alphas: Any
    table: Any
    addresses: tuple[int, int, int]
    own_alphas: Any
    weight_milli: int = 1000
    origin: "Lora | None" = None

    def weighted(self, weight_milli: int, array: Callable[[Any], Any]) -> "Lora":
        """This adapter at a weight: its alphas become binary32(alpha * weight / 1000), computed in binary64."""
        if weight_milli == 1000:
            return self
        alphas = array(torch.from_numpy(_weighted(self.own_alphas, weight_milli)))
        addresses = (self.addresses[0], _address(alphas), self.addresses[2])
        return replace(self, alphas=alphas, addresses=addresses, weight_milli=weight_milli, origin=self)

    @property
    def widest(self) -> tuple[int, ...]:
        """See `LoraLayout`."""
        return self.layout.widest

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of the widest module of each group."""
        return tuple(max(module.width for module in group) for group in self.layout.shapes)

    def group(self, layer: int, name: str) -> LoraGroup | None:
        """The modules of one place, as the definition takes them."""
        row = self.layout.row(layer, name).tolist()
        if not row[0]:
            return None
        at = GROUPS.index(name)
        members = []
        for index in range(len(self.layout.shapes[at])):
            rank, _, column, width, b, b_scales = row[FIRST_MODULE + MODULE_FIELDS * index :][:MODULE_FIELDS]
            if rank:
                members.append((rank, column, width, b, b_scales, (layer * len(GROUPS) + at) * MODULES + index))
        b, b_scales = members[0][3], members[0][4]
        inputs = self.layout.shapes[at][0].inputs
        width = sum(member[2] for member in members)
        alphas = [member[5] for member in members]
        return LoraGroup(
            self._part(row[1], row[0] * inputs, 1).reshape(row[0], inputs),
            self._part(row[2], row[0], 4),
            self._part(b, sum(member[0] * member[2] for member in members), 1),
            self._part(b_scales, width, 4),
            np.array([(rank, column, wide, start - b) for rank, column, wide, start, *_ in members], np.int64),
            self.alphas[alphas],
        )

    def _part(self, offset: int, count: int, size: int) -> Any:
        part = self.data[offset : offset + count * size]
        if size == 1:
            return part
        return part.view(np.float32 if isinstance(part, np.ndarray) else torch.float32)


@dataclass(frozen=True, eq=False)
class PackedLora:
    """An adapter in the CPU's memory, ready to be put where it is used: numpy arrays, never written again."""

    layout: LoraLayout
    data: Any
    alphas: Any

    @property
    def bytes(self) -> int:
        return int(self.data.nbytes + self.alphas.nbytes)

    def module(self, layer: int, name: str) -> ModuleWeights:
        """One matrix of it. Raises `KeyError`."""
        place, _, index, inputs = self.layout.find(layer, name)
        row = self.layout.table[place].tolist()
        rank, first, _, width, b, b_scales = row[FIRST_MODULE + MODULE_FIELDS * index :][:MODULE_FIELDS]
        if not rank:
            raise KeyError((layer, name))
        a = row[1] + first * inputs
        a_scales = row[2] + first * 4
        return ModuleWeights(
            self.data[a : a + rank * inputs].reshape(rank, inputs),
            self.data[a_scales : a_scales + rank * 4].view(np.float32),
            self.data[b : b + rank * width].reshape(rank, width).T,
            self.data[b_scales : b_scales + width * 4].view(np.float32),
            self.alphas[place * MODULES + index],
        )

    def modules(self) -> dict[tuple[int, str], ModuleWeights]:
        """All of its matrices by (layer, module)."""
        return {(layer, name): self.module(layer, name) for layer, name, _ in self.layout.ranks}

    def weighted(self, weight_milli: int) -> Any:
        """The alphas of `Lora.weighted`."""
        return self.alphas if weight_milli == 1000 else _weighted(self.alphas, weight_milli)

    def place(self, array: Callable[[Any], Any]) -> Lora:
        """Copied (or, on a CPU, left) where `array` puts tensors."""
        return self.placed(array, array(torch.from_numpy(self.data)))

    def placed(self, array: Callable[[Any], Any], data: Any) -> Lora:
        """As `place`, with `data` there already."""
        table = self.layout.placed.get(array)
        if table is None:
            table = self.layout.placed[array] = array(_tensor(self.layout.table))
        scales = array(_tensor(self.alphas))
        addresses = (_address(data), _address(scales), _address(table))
        return Lora(self.layout, data, scales, table, addresses, self.alphas)


def empty_lora(shapes: Shapes, layers: int, ranks: Sequence[tuple[int, str, int]]) -> PackedLora:
    """Memory for an adapter of these ranks, of zeros."""
    layout = lora_layout(shapes, layers, tuple(sorted(ranks)))
    return PackedLora(
        layout, np.zeros(layout.bytes, np.int8), np.zeros(layers * len(GROUPS) * MODULES, np.float32)
    )  # fmt: skip


def pack_lora(shapes: Shapes, layers: int, modules: Mapping[tuple[int, str], ModuleWeights]) -> PackedLora:
    """Matrices by (layer, module) put together."""
    packed = empty_lora(shapes, layers, [(*key, weights.a.shape[0]) for key, weights in modules.items()])
    for (layer, name), weights in modules.items():
        into = packed.module(layer, name)
        into.a[:], into.a_scales[:] = weights.a, weights.a_scales
        into.b[:], into.b_scales[:] = weights.b, weights.b_scales
        place, _, index, _ = packed.layout.find(layer, name)
        packed.alphas[place * MODULES + index] = weights.alpha
    return packed


def _weighted(alphas: Any, weight_milli: int) -> Any:
    # The product is exact in binary64, so only the quotient is rounded there. What overflows is a numeric fault later.
    with np.errstate(over="ignore"):
        return (alphas.astype(np.float64) * weight_milli / 1000).astype(np.float32)


def _address(array: Any) -> int:
    if isinstance(array, np.ndarray):
        return int(array.__array_interface__["data"][0])
    return int(array.data_ptr())


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(array if array.flags.writeable else array.copy())

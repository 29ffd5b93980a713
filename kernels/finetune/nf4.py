"""The frozen weights of a base model in four bits, for training an adapter in less memory (QLoRA).

Blocks of 64 neighbouring weights share a scale, the largest magnitude among them; each weight is the nearest of 16 values
between −1 and 1 that are quantiles of a normal distribution (NF4: Dettmers et al. 2023, “QLoRA”, appendix E). 4.5 bits a
weight. They are made whole again for a product and forgotten after it, in the backward pass too: that is where the memory
is saved. Nothing here touches what is served, which is quantised by its own rules.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCK: Final = 64
LEVELS: Final = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
_LEVELS = torch.tensor(LEVELS)
_BETWEEN = (_LEVELS[1:] + _LEVELS[:-1]) / 2


def pack_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Any float tensor -> two levels to a byte (the first in the high half), and a binary32 scale for every block."""
    flat = weight.detach().float().flatten()
    blocks = functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    unit = blocks / torch.where(scales > 0, scales, torch.ones_like(scales))[:, None]
    levels = torch.bucketize(unit, _BETWEEN.to(unit.device)).to(torch.uint8).view(-1, 2)
    return (levels[:, 0] << 4) | levels[:, 1], scales


def unpack_nf4(packed: Tensor, scales: Tensor, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
    """The weights that `pack_nf4` kept, of their shape."""
    pairs = torch.stack([packed >> 4, packed & 15], dim=1).long()
    values = _LEVELS.to(packed.device)[pairs].view(-1, BLOCK) * scales[:, None]
    size = 1
    for extent in shape:
        size *= extent
    return values.flatten()[:size].view(shape).to(kind)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, scales: Tensor, shape: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(packed, scales)
        ctx.shape = shape
        return functional.linear(x, unpack_nf4(packed, scales, shape, x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        packed, scales = ctx.saved_tensors
        return gradient @ unpack_nf4(packed, scales, ctx.shape, gradient.dtype), None, None, None


class Nf4Linear(nn.Module):
    """A linear layer whose weights are frozen in four bits. Takes the place of `nn.Linear`."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        packed, scales = pack_nf4(layer.weight)
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x, self.packed, self.scales, (self.out_features, self.in_features))  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(y.dtype)


def freeze_in_nf4(model: nn.Module) -> int:
    """Put the base layers that a PEFT model adapts in four bits; returns the bytes that they take now."""
    size = 0
    for module in list(model.modules()):
        base = getattr(module, "base_layer", None)
        if isinstance(base, nn.Linear):
            frozen = Nf4Linear(base)
            module.base_layer = frozen
            size += sum(int(kept.nbytes) for kept in frozen.buffers())
    return size

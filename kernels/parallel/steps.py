"""The steps of one rank: those of any backend, and between them what has to be said over ranks.

    q16 of a row that is spread:        a = max over ranks of max|x|, then as ever
    linear over spread inputs:          acc = sum over ranks of the integer sums, then one rescaling
    LoRA there:                         u's integer sums are added likewise; B is whole on every rank
    a numeric fault on one rank         is one on all

What rows give is what one process gives, bit for bit: the maximum and the integer sums are the same numbers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openledger.kernels.model.steps import Steps
from openledger.kernels.ops.activation import silu_product
from openledger.kernels.ops.lora import LoraRows
from openledger.kernels.ops.lora_layout import LoraGroup
from openledger.kernels.parallel.group import Group


def parallel_steps(steps: Steps, group: Group, logit_widths: Sequence[int]) -> Steps:
    """`steps` for one rank of `group`; `logit_widths`: how many columns of the logits each rank computes."""
    across = _Across(steps, group, logit_widths)
    return steps._replace(
        quantize_rows=across.quantize_rows,
        silu_quantize=across.silu_quantize,
        linear_across=across.linear,
        lora_across=across.lora,
        join_logits=across.join_logits,
        join_faults=across.join_faults,
    )


class _Across:
    def __init__(self, steps: Steps, group: Group, logit_widths: Sequence[int]) -> None:
        self._steps = steps
        self._group = group
        self._logit_widths = logit_widths

    def quantize_rows(self, x: Any, limbs: Any, scales: Any, faults: Any) -> None:
        """As `ops/quantize.py`, each rank holding some of a row's elements."""
        self._quantize(_tensor(x), limbs, scales, faults)

    def silu_quantize(self, y: Any, sigmoid: Any, limbs: Any, scales: Any, faults: Any) -> None:
        """As `ops/activation.py`, each rank holding some of the channels."""
        values = _tensor(y)
        wrong = ~torch.isfinite(values).all(-1, keepdim=True)
        gate, up = torch.where(wrong, torch.zeros_like(values), values).chunk(2, -1)
        product = silu_product(gate, up, _tensor(sigmoid))
        self._quantize(product.masked_fill_(wrong, torch.inf), limbs, scales, faults)

    def _quantize(self, values: Tensor, limbs: Any, scales: Any, faults: Any) -> None:
        infinite = torch.full((), torch.inf, device=values.device)
        top = torch.where(torch.isfinite(values).all(-1), values.abs().amax(-1), infinite)
        self._group.largest(top)
        # With the largest magnitude of all ranks as one more element, a row's scale is what it is in one process.
        longer = torch.cat([values, top[:, None]], dim=1)
        parts = torch.empty((2, *longer.shape), dtype=torch.int8, device=longer.device)
        array = self._steps.array
        self._steps.quantize_rows(array(longer), array(parts), scales, faults)
        _tensor(limbs).copy_(parts[:, :, :-1])

    def linear(self, limbs: Any, scales: Any, weight: Any, weight_scales: Any, y: Any) -> None:
        """As `ops/linear.py`, each rank holding some of the columns of `limbs` and `weight`."""
        total = self._steps.integer_product(limbs, weight)
        self._group.add(total)
        _tensor(y).copy_((total.to(torch.float32) * _tensor(scales)[:, None]) * _tensor(weight_scales))

    def lora(self, limbs: Any, scales: Any, users: Sequence[LoraRows], y: Any, faults: Any) -> None:
        """As `ops/lora.py`, each rank holding some of the columns of `limbs` and of every A."""
        parts = _tensor(limbs)
        q = (parts[0].long() * 256 + parts[1].long()).double()
        work = [(user, group) for user in users for group in user.groups]
        # Integers below 2**53, so binary64 holds every sum exactly.
        sums = [(q[user.first : user.last] @ _tensor(group.a).double().t()).long() for user, group in work]
        flat = torch.cat([part.flatten() for part in sums])
        self._group.add(flat)
        for (user, group), part in zip(work, flat.split([part.numel() for part in sums])):
            rows = slice(user.first, user.last)
            u = part.view(user.last - user.first, -1).to(torch.float32)
            u = (u * _tensor(scales)[rows, None]) * _tensor(group.a_scales)
            self._expand(u, group, _tensor(y)[rows], _tensor(faults)[rows])

    def _expand(self, u: Tensor, group: LoraGroup, y: Tensor, faults: Tensor) -> None:
        array = self._steps.array
        rank_offset = width_offset = 0
        for (rank, column, width, start), alpha in zip(group.modules.tolist(), _tensor(group.alphas)):
            limbs = torch.empty((2, len(u), rank), dtype=torch.int8, device=u.device)
            scales = torch.empty(len(u), device=u.device)
            wrong = torch.zeros(len(u), dtype=torch.bool, device=u.device)
            part = u[:, rank_offset : rank_offset + rank].contiguous()
            self._steps.quantize_rows(array(part), array(limbs), array(scales), array(wrong))
            faults |= wrong
            q = (limbs[0].long() * 256 + limbs[1].long()).double()
            b = _tensor(group.b)[start : start + rank * width].view(rank, width).double()
            b_scales = _tensor(group.b_scales)[width_offset : width_offset + width]
            v = ((q @ b).float() * scales[:, None]) * b_scales
            y[:, column : column + width] += alpha * v
            rank_offset += rank
            width_offset += width

    def join_logits(self, part: Tensor) -> Tensor:
        return self._group.join_columns(part, self._logit_widths)

    def join_faults(self, faults: Tensor) -> None:
        anywhere = faults.to(torch.int32)
        self._group.largest(anywhere)
        faults.copy_(anywhere.bool())


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else array

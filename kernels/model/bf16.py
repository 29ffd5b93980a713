"""The mode `bf16`: the same forward pass as exact-1 with another table of steps, weights that are rounded and not
quantised (`weights.py`, 16 bits), and the last hidden states kept for the fingerprint of activations.
"""

from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from openledger.kernels.model.steps import Steps, torch_steps, triton_steps
from openledger.kernels.model.transformer import Buffers, Transformer
from openledger.kernels.ops import bf16
from openledger.kernels.ops.linear import pieces_product

NUMERICS: Final = "bf16"


class AttestedTransformer(Transformer):
    """A transformer that keeps what each row of logits was computed from, in one place for all its steps."""

    _hidden = torch.empty((0, 0))

    def reserve(self, rows: int) -> None:
        """Room for so many rows of logits. Steps that were recorded before would write elsewhere."""
        self._hidden = torch.empty((rows, self.config.hidden), device=self.steps.device)

    def last_hidden(self, rows: int) -> Tensor:
        """The last hidden states, before the last norm, of the first `rows` rows of logits of the last step; binary32
        [rows, D], overwritten by the next."""
        return self._hidden[:rows]

    def _logits(self, x: Tensor, logit_rows: Any, faults: Tensor, buffers: Buffers) -> Tensor:
        wanted = torch.from_numpy(logit_rows) if isinstance(logit_rows, np.ndarray) else logit_rows
        if len(wanted) > len(self._hidden):
            self.reserve(len(wanted))
        self._hidden[: len(wanted)].copy_(x[wanted])
        return super()._logits(x, logit_rows, faults, buffers)


def bf16_steps(backend: Literal["torch", "interpret", "triton"]) -> Steps:
    """The steps of `ops/bf16.py`, by torch on the CPU or by Triton. Raises `BackendUnavailable`."""
    if backend == "torch":
        steps = torch_steps(pieces_product)
        run: Any = bf16
    else:
        steps = triton_steps(backend)
        from openledger.kernels.ops.triton import bf16 as kernels

        run = kernels
    return steps._replace(
        linear=bf16.linear,
        linear_across=bf16.linear,
        embed=bf16.embed,
        norm_heads=bf16.norm_heads,
        norm_quantize=run.norm_quantize,
        quantize_rows=run.quantize_rows,
        rotate_store=run.rotate_store,
        attend=run.attend,
        silu_quantize=run.silu_quantize,
        lora_run=run.lora_run,
        value_kind=np.int16,
    )

"""The two implementations of the steps between the integer products: compiled for this CPU, or in torch.

Both take the same arguments in the same order; host kernels take numpy arrays where torch takes tensors.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from openledger.kernels.ops import activation, attention, linear, lora, norm, quantize, rotary


class Steps(NamedTuple):
    """One implementation. `array` turns a torch tensor into what the others take; `few_rows`, where there is
    one, is product and `rescale` in one."""

    name: str
    array: Callable[[Tensor], Any]
    norm_quantize: Callable[..., None]
    quantize_rows: Callable[..., None]
    rescale: Callable[..., None]
    rotate_store: Callable[..., None]
    attend: Callable[..., None]
    silu_quantize: Callable[..., None]
    lora_add: Callable[..., None]
    few_rows: Callable[..., None] | None
    add: Callable[..., Any]
    scalar: Callable[[float], Any]


TORCH = Steps(
    "torch",
    lambda tensor: tensor,
    norm.norm_quantize,
    quantize.quantize_rows,
    linear.rescale,
    rotary.rotate_store,
    attention.attend,
    activation.silu_quantize,
    lora.lora_add,
    None,
    lambda x, y: x.add_(y),
    lambda value: torch.tensor(value, dtype=torch.float32),
)

HOST = Steps(
    "host",
    lambda tensor: tensor.numpy(),
    norm.norm_quantize_host,
    quantize.quantize_rows_host,
    linear.rescale_host,
    rotary.rotate_store_host,
    attention.attend_host,
    activation.silu_quantize_host,
    lora.lora_add_host,
    linear.few_rows_host,
    lambda x, y: np.add(x, y, out=x),
    np.float32,
)

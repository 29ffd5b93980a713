"""Who computes the steps of the forward pass: one table of operations per backend, chosen in one place.

| backend | is |
|---|---|
| `host` | kernels compiled for this CPU: what the engine runs where there is no GPU |
| `torch` | the definitions, in torch on the CPU |
| `interpret` | the Triton kernels, in Triton's interpreter on the CPU: slow, for comparing |
| `triton` | the Triton kernels on an NVIDIA GPU |

All take the same arguments in the same order and give the same bits; host kernels take numpy arrays where the others take
tensors.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from openledger.kernels.model.errors import BackendUnavailable
from openledger.kernels.ops import (
    activation,
    attention,
    embedding,
    fingerprint,
    head_norm,
    linear,
    linear4,
    lora,
    norm,
    quantize,
    rotary,
    sampling,
)
from openledger.kernels.ops.linear4 import Int4

Backend = Literal["host", "torch", "interpret", "triton"]


def _directly(step: Callable[[], None]) -> Callable[[], None]:
    return step


class Steps(NamedTuple):
    """One backend. `array` turns a torch tensor into what the operations take, on the `device` where they compute;
    `scalar` does so with a number that is rounded to binary32; `linear` takes limbs, scales, weights, their scales and
    where the result goes; `lora_plan` makes of a batch's `Use`s what `lora_run` takes at every layer; `integer_product` gives only its
    sums, an int64 tensor [T, N]; `record` makes a function that does again what a step did, over the same buffers.
    `linear_across` to `join_faults` are for layers whose inputs are spread over processes
    (`openledger.kernels.parallel`); in one process they add nothing. `value_kind`: what a value of the cache is held in."""

    name: Backend
    device: str
    array: Callable[[Tensor], Any]
    scalar: Callable[[float], Any]
    linear: Callable[[Any, Any, Any, Any, Any], None]
    norm_quantize: Callable[..., None]
    quantize_rows: Callable[..., None]
    rotate_store: Callable[..., None]
    attend: Callable[..., None]
    silu_quantize: Callable[..., None]
    lora_plan: Callable[[Any], Any]
    lora_run: Callable[..., None]
    add: Callable[..., Any]
    sample: Callable[..., Any]
    hash_rows: Callable[..., Any]
    embed: Callable[..., None]
    norm_heads: Callable[..., None]
    integer_product: Callable[[Any, Any], Tensor]
    linear_across: Callable[[Any, Any, Any, Any, Any], None]
    lora_across: Callable[..., None] | None = None
    join_logits: Callable[[Tensor], Tensor] = lambda logits: logits
    join_faults: Callable[[Tensor], None] = lambda faults: None
    record: Callable[[Callable[[], None]], Callable[[], None]] = _directly
    value_kind: Any = np.int8


def torch_steps(product: linear.Product) -> Steps:
    """The definitions, with one of the integer products of `ops/linear.py`."""
    scratch = _Scratch()

    def linear_layer(limbs: Tensor, scales: Tensor, weight: Any, weight_scales: Tensor, y: Tensor) -> None:
        if isinstance(weight, Int4):
            weight = linear4.unpack(weight)
        linear.rescale(scratch.product(product, limbs, weight), scales, weight_scales, y)

    return Steps(
        "torch",
        "cpu",
        lambda tensor: tensor,
        lambda value: torch.tensor(value, dtype=torch.float32),
        linear_layer,
        norm.norm_quantize,
        quantize.quantize_rows,
        rotary.rotate_store,
        attention.attend,
        activation.silu_quantize,
        lora.lora_plan,
        lora.lora_run,
        lambda x, y: x.add_(y),
        sampling.sample,
        fingerprint.hash_rows,
        embedding.embed,
        head_norm.norm_heads,
        integer_product=lambda limbs, weight: scratch.sums(product, limbs, weight),
        linear_across=linear_layer,
    )


def host_steps(product: linear.Product) -> Steps:
    """Kernels compiled for this CPU; for few rows they read the weights themselves."""
    scratch = _Scratch()

    def linear_layer(limbs: Any, scales: Any, weight: Any, weight_scales: Any, y: Any) -> None:
        if isinstance(weight, Int4):
            if limbs.shape[1] <= linear.FEW_ROWS:
                linear4.few_rows_host(limbs, scales, weight, weight_scales, y)
                return
            whole = scratch.int8(*weight.shape)
            linear4.unpack_host(weight, whole)
            weight = whole
        if limbs.shape[1] <= linear.FEW_ROWS and limbs.shape[2] % linear.RUN == 0:
            linear.few_rows_host(limbs, scales, weight, weight_scales, y)
        else:
            acc = scratch.product(product, torch.from_numpy(limbs), torch.from_numpy(weight))
            linear.rescale_host(acc.numpy(), scales, weight_scales, y)

    return Steps(
        "host",
        "cpu",
        lambda tensor: tensor.numpy(),
        np.float32,
        linear_layer,
        norm.norm_quantize_host,
        quantize.quantize_rows_host,
        rotary.rotate_store_host,
        attention.attend_host,
        activation.silu_quantize_host,
        lora.lora_plan,
        lora.lora_run_host,
        lambda x, y: np.add(x, y, out=x),
        sampling.sample_host,
        fingerprint.hash_rows_host,
        embedding.embed_host,
        head_norm.norm_heads_host,
        integer_product=lambda limbs, weight: scratch.sums(product, torch.from_numpy(limbs), torch.from_numpy(weight)),
        linear_across=linear_layer,
    )


def triton_steps(backend: Literal["interpret", "triton"]) -> Steps:
    """The Triton kernels. Raises `BackendUnavailable`.

    Triton decides when it is imported whether it interprets, so a process has either of the two.
    """
    if backend == "interpret" and "triton" not in sys.modules:
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        from openledger.kernels.ops.triton import (
            activation,
            attention,
            fingerprint,
            head_norm,
            launch,
            linear,
            linear4,
            lora,
            norm,
            quantize,
            rotary,
            sampling,
        )  # fmt: skip
    except ImportError as error:
        raise BackendUnavailable(
            f"the backend {backend} needs Triton ({error}): on Linux, run `pip install openledger-node[serve]`"
        ) from error
    if launch.INTERPRETED and backend == "triton":
        raise BackendUnavailable("TRITON_INTERPRET is set, so nothing runs on a GPU: unset it, or use interpret")
    if not launch.INTERPRETED and backend == "interpret":
        raise BackendUnavailable("Triton is already there to compile: start the process with TRITON_INTERPRET=1")
    if backend == "triton" and not torch.cuda.is_available():
        raise BackendUnavailable(
            "the backend triton needs an NVIDIA GPU and a torch that can use it, and there is none here: use host, torch "
            "or interpret, which give the same bits"
        )
    device = "cuda" if backend == "triton" else "cpu"

    def linear_layer(limbs: Tensor, scales: Tensor, weight: Any, weight_scales: Tensor, y: Tensor) -> None:
        run = linear4.linear4 if isinstance(weight, Int4) else linear.linear
        run(limbs, scales, weight, weight_scales, y)

    return Steps(
        backend,
        device,
        lambda tensor: tensor.to(device),
        lambda value: float(np.float32(value)),
        linear_layer,
        norm.norm_quantize,
        quantize.quantize_rows,
        rotary.rotate_store,
        attention.attend,
        activation.silu_quantize,
        lambda uses: lora.lora_plan(uses, device),
        lora.lora_run,
        lambda x, y: x.add_(y),
        sampling.sample,
        fingerprint.hash_rows,
        embedding.embed,
        head_norm.norm_heads,
        linear.integer_product,
        linear_layer,
        record=_cuda_graph if backend == "triton" else _directly,
    )


def _cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Run the step until all its kernels are compiled, then record what it launches: a graph, started as one."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


class _Scratch:
    """Where an integer product is put before it is rescaled: kept, and grown when a layer needs more."""

    def __init__(self) -> None:
        self._held = torch.empty(0, dtype=torch.int32)
        self._weights = np.empty(0, np.int8)

    def int8(self, rows: int, columns: int) -> Any:
        """A numpy matrix for weights that are unpacked."""
        if self._weights.size < rows * columns:
            self._weights = np.empty(rows * columns, np.int8)
        return self._weights[: rows * columns].reshape(rows, columns)

    def product(self, product: linear.Product, limbs: Tensor, weight: Tensor) -> Tensor:
        """`limbs` [2, T, K], `weight` [N, K] -> [2, T, N]."""
        rows, outputs = 2 * limbs.shape[1], weight.shape[0]
        if self._held.numel() < rows * outputs:
            self._held = torch.empty(rows * outputs, dtype=torch.int32)
        acc = self._held[: rows * outputs].view(rows, outputs)
        product(limbs.view(rows, -1), weight, acc)
        return acc.view(2, -1, outputs)

    def sums(self, product: linear.Product, limbs: Tensor, weight: Tensor) -> Tensor:
        """int64 [T, N]."""
        acc = self.product(product, limbs, weight).to(torch.int64)
        return (acc[0] << 8) + acc[1]

"""From a model's files to a model that runs: tokenizer, integer weights, the fastest product proved exact here."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from openledger.genesis.tables import tables_root
from openledger.kernels.model.bf16 import NUMERICS as BF16
from openledger.kernels.model.bf16 import AttestedTransformer, bf16_steps
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.files import open_model
from openledger.kernels.model.steps import Backend, Steps, host_steps, torch_steps, triton_steps
from openledger.kernels.model.tokenizer import ModelTokenizer
from openledger.kernels.model.transformer import Transformer
from openledger.kernels.model.weights import Bits, Weights, load_weights
from openledger.kernels.ops.host import set_threads
from openledger.kernels.ops.linear import native_product, native_product_is_exact, pieces_product

NUMERICS = "exact-1"


@dataclass(frozen=True)
class Model:
    """A model ready to run, and what names its parts in a release."""

    config: ModelConfig
    tokenizer: ModelTokenizer
    transformer: Transformer
    tables_root: bytes
    linear: Literal["native", "pieces", "triton"]
    threads: int
    numerics: str = NUMERICS


def available_threads() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_model(
    cache_folder: Path,
    *,
    model_file: Path | None = None,
    threads: int | None = None,
    linear: Literal["auto", "native", "pieces"] = "auto",
    backend: Backend | Literal["auto"] = "host",
    weight_bits: Bits = 8,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
    build: Callable[[ModelConfig, Weights, Steps], Transformer] = Transformer,
) -> Model:
    """Sets the process's thread count. `build` makes the transformer: a process that holds a share of it makes its own.
    `linear` is how the CPU's backends compute integer products; `backend` `auto` is `triton` where torch sees a GPU, else
    `host`. Raises a `ModelError`; `ValueError` if `linear` is `native` and the CPU's native product is not exact."""
    if backend == "auto":
        backend = "triton" if torch.cuda.is_available() else "host"
    count = available_threads() if threads is None else threads
    torch.set_num_threads(count)
    set_threads(count)
    torch.set_flush_denormal(False)
    progress("opening the model", 0.0)
    files = open_model(model_file, cache_folder)
    config = files.config()
    tokenizer = ModelTokenizer.of(files)
    weights = load_weights(files, config, cache_folder, progress, weight_bits)
    steps, chosen = _steps(backend, linear, progress)
    transformer = build(config, weights, steps)
    return Model(config, tokenizer, transformer, tables_root(config.tables), chosen, count)


def _steps(
    backend: Backend, linear: Literal["auto", "native", "pieces"], progress: Callable[[str, float], None]
) -> tuple[Steps, Literal["native", "pieces", "triton"]]:
    if backend == "interpret" or backend == "triton":
        return triton_steps(backend), "triton"
    progress("proving the integer product", 0.0)
    exact = linear != "pieces" and native_product_is_exact()
    if linear == "native" and not exact:
        raise ValueError("this CPU's native int8 product is not exact: use linear = auto or pieces")
    product = native_product if exact else pieces_product
    return (host_steps if backend == "host" else torch_steps)(product), "native" if exact else "pieces"


def load_bf16(
    cache_folder: Path,
    *,
    model_file: Path | None = None,
    threads: int | None = None,
    backend: Backend | Literal["auto"] = "auto",
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> Model:
    """As `load_model`, in the mode `bf16`: its transformer is an `AttestedTransformer`. On a CPU torch computes, whether
    `backend` is `torch` or `host`."""
    if backend == "auto":
        backend = "triton" if torch.cuda.is_available() else "torch"
    computed_by: Literal["torch", "interpret", "triton"] = "torch" if backend == "host" else backend
    model = load_model(
        cache_folder, model_file=model_file, threads=threads, linear="pieces", backend=computed_by, weight_bits=16,
        progress=progress,
        build=lambda config, weights, _: AttestedTransformer(config, weights, bf16_steps(computed_by)),
    )  # fmt: skip
    return replace(model, numerics=BF16)

"""A model in one process or in several, as `EngineConfig.tensor_parallel` says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from openledger.kernels.engine.residency import Place, stack_adapter
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.errors import UnsupportedModel
from openledger.kernels.model.load import Model, available_threads, load_model
from openledger.kernels.model.steps import Backend, Steps
from openledger.kernels.model.transformer import Transformer
from openledger.kernels.model.weights import Bits, Weights
from openledger.kernels.parallel.group import Group
from openledger.kernels.parallel.leader import LeadingTransformer, Ranks
from openledger.kernels.parallel.messages import Join
from openledger.kernels.parallel.slicing import check_ranks, share_of_config, share_of_weights, vocabulary_shares
from openledger.kernels.parallel.steps import parallel_steps


def load_parallel(
    cache_folder: Path,
    ranks: int,
    *,
    model_file: Path | None = None,
    weight_bits: Bits = 8,
    threads: int | None = None,
    linear: Literal["auto", "native", "pieces"] = "auto",
    backend: Backend | Literal["auto"] = "host",
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> Model:
    """As `load_model`, cut over `ranks` processes of which this is the first; `threads` are those of all together.

    `Model.config` is the whole model's, `Model.transformer.config` this rank's share. End the others by `close_ranks`.
    Raises `UnsupportedModel` too, where the model cannot be cut so.
    """
    if ranks == 1:
        return load_model(
            cache_folder, model_file=model_file, weight_bits=weight_bits, threads=threads, linear=linear,
            backend=backend, progress=progress,
        )  # fmt: skip
    if weight_bits != 8:
        raise UnsupportedModel(f"tensor_parallel needs weight_bits = 8, not {weight_bits}: use tensor_parallel = 1")
    each = max(1, (available_threads() if threads is None else threads) // ranks)

    def build(config: ModelConfig, weights: Weights, steps: Steps) -> Transformer:
        check_ranks(config, ranks)

        def join(rank: int, store: str) -> Join:
            return Join(
                rank=rank, ranks=ranks, store=store, cache_folder=str(cache_folder), threads=each, linear=linear,
                model_file=None if model_file is None else str(model_file), backend=steps.name,
            )  # fmt: skip

        # The others read what was imported here, so they start only now.
        progress("starting the other ranks", 0.0)
        others = Ranks(ranks, join, steps.device)
        return LeadingTransformer(*_share(config, weights, steps, others.group), others)

    return load_model(
        cache_folder,
        model_file=model_file,
        threads=each,
        linear=linear,
        backend=backend,
        progress=progress,
        build=build,
    )


def load_share(join: Join) -> Transformer:
    """The share of a rank other than 0, once all ranks are there."""

    def build(config: ModelConfig, weights: Weights, steps: Steps) -> Transformer:
        group = Group(join.rank, join.ranks, Path(join.store), steps.device)
        return Transformer(*_share(config, weights, steps, group))

    linear: Any = join.linear
    backend: Any = join.backend
    return load_model(
        Path(join.cache_folder),
        model_file=None if join.model_file is None else Path(join.model_file),
        threads=join.threads,
        linear=linear,
        backend=backend,
        build=build,
    ).transformer


def _share(config: ModelConfig, weights: Weights, steps: Steps, group: Group) -> tuple[ModelConfig, Weights, Steps]:
    widths = vocabulary_shares(config.vocabulary, group.ranks)
    return (
        share_of_config(config, group.ranks),
        share_of_weights(weights, config, group.rank, group.ranks),
        parallel_steps(steps, group, widths),
    )


def adapter_placer(model: Model) -> Place:
    """What turns an adapter of the whole model into what `model.transformer` takes, on every rank."""
    transformer = model.transformer

    array = transformer.steps.array
    if not isinstance(transformer, LeadingTransformer):
        return lambda packed: packed.place(array)
    ranks, share = transformer.ranks, transformer.config
    return lambda packed: ranks.place(
        packed.modules(), model.config, lambda modules: stack_adapter(modules, share, array)
    )


def close_ranks(model: Model) -> None:
    """End the other ranks of a model; none is there where it runs in one process."""
    if isinstance(model.transformer, LeadingTransformer):
        model.transformer.ranks.close()

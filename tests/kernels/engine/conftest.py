"""Adapters as peft's folder layout has them, written without peft, and engines over the real model."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import FromWorker, Generate, Verify
from openledger.kernels.model.load import Model

SHAPES = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}
CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "modules_to_save": None}


def adapter_tensors(seed: int, rank: int = 4, layers: int = 3) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(layers):
        for module, (outputs, inputs) in SHAPES.items():
            name = f"base_model.model.model.layers.{layer}.{module}.lora_"
            tensors[f"{name}A.weight"] = (random.standard_normal((rank, inputs)) * 0.1).astype(np.float32)
            tensors[f"{name}B.weight"] = (random.standard_normal((outputs, rank)) * 0.1).astype(np.float32)
    return tensors


@pytest.fixture
def write_adapter(tmp_path: Path) -> Callable[..., Path]:
    def write(seed: int = 1, *, tensors: dict[str, Any] | None = None, **changes: Any) -> Path:
        folder = tmp_path / f"adapter-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        save_file(adapter_tensors(seed) if tensors is None else tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **changes}))
        return folder

    return write


class Harness:
    """Runs requests through an engine in this process until all are over."""

    def __init__(self, engine: ServingEngine) -> None:
        self.engine = engine

    def run(self, *requests: Generate | Verify) -> dict[str, list[FromWorker]]:
        heard: dict[str, list[FromWorker]] = {request.request_id: [] for request in requests}
        messages = [message for request in requests for message in self.engine.submit(request)]
        while True:
            for message in messages:
                heard[message.request_id].append(message)  # type: ignore[union-attr]
            if self.engine.idle:
                return heard
            messages = self.engine.step()

    def last(self, request: Generate | Verify) -> Any:
        return self.run(request)[request.request_id][-1]


@pytest.fixture
def make_engine(model: Model) -> Iterator[Callable[..., Harness]]:
    made = []

    def make(**settings: Any) -> Harness:
        sizes = {"max_context": 256, "kv_tokens": 2048, **settings}
        engine = ServingEngine(model, EngineConfig(cache_folder="", **sizes))
        made.append(engine)
        return Harness(engine)

    yield make
    for engine in made:
        engine.close()

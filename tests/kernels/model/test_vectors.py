"""The test vectors of the folder's README: what is written there is what the code gives."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import openledger.kernels
from openledger.genesis.tables import EXP, load_table
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Finished, Generate, Sampling
from openledger.kernels.model.files import open_model
from openledger.kernels.model.load import Model
from openledger.kernels.model.quantize4 import quantize_rows
from openledger.kernels.model.rotary_table import Llama3Scaling, rotary_table
from openledger.kernels.model.tokenizer import Message
from openledger.kernels.model.weights import load_weights
from openledger.kernels.ops.fingerprint import chain_next, chain_start, fingerprint_keys, hash_logits
from openledger.kernels.ops.head_norm import norm_heads
from openledger.kernels.ops.quantize import quantize
from openledger.kernels.ops.sampling import candidates, draw

README = (Path(openledger.kernels.__file__).parent / "README.md").read_text()
SEED = bytes(range(32))
LOGITS = np.array([1.0, 2.0, 2.0, 0.5, -3.0], np.float32)
TABLE = np.frombuffer(load_table(EXP), "<u4").astype(np.int64)


def row(begins: str) -> str:
    """The value of the vector whose name begins so."""
    (found,) = re.findall(rf"^\| {re.escape(begins)}[^|]* \| ([^|]+) \|$", README, re.MULTILINE)
    return str(found)


def test_small_vectors() -> None:
    q, s, _ = quantize(torch.tensor([[1.0, -0.5, 0.001, 3.25]]))
    assert ", ".join(str(v).replace("-", "−") for v in q[0].tolist()) in row("`q16(1")
    assert f"{int(s.numpy().view(np.uint32)[0, 0]):08x}" in row("`q16(1")
    assert ", ".join(str(TABLE[i]) for i in (0, 1, 4096)) == row("`EXP[0]")
    found = candidates(LOGITS, 800, len(TABLE))
    for name, top_k, top_p in (("draws at", 0, 10**6), ("the same with top-k", 3, 900_000)):
        drawn = [
            draw(found, TABLE, top_k=top_k, top_p_ppm=top_p, min_p_ppm=0, seed=SEED, position=i) for i in range(12)
        ]
        assert " ".join(map(str, drawn)) == row(name)
    hashed = hash_logits(LOGITS, fingerprint_keys(SEED, 5))
    assert f"`{hashed:016x}`" == row("hash of those logits")
    start = chain_start(SEED)
    assert f"`{start.hex()}`; `{chain_next(start, hashed, 2).hex()}`" == row("F[0]; F[1]")


def test_vectors_of_the_families_and_of_four_bits() -> None:
    def sha(base: float, scaling: Llama3Scaling | None) -> str:
        return f"`{hashlib.sha256(rotary_table(base, 128, 1024, scaling).tobytes()).hexdigest()}`"

    assert row("SHA-256 of a rotary table") == sha(10000.0, None)
    assert row("likewise with llama3") == sha(500000.0, Llama3Scaling(8.0, 1.0, 4.0, 8192))
    head, weight = torch.tensor([[1.0, -0.5, 0.001, 3.25]]), torch.tensor([1.0, 2.0, 0.5, 1.0])
    norm_heads(head, weight, weight, torch.tensor(1e-6), 1, 0, torch.zeros(1, dtype=torch.bool))
    assert row("norm of the head") == f"`{' '.join(f'{bits:08x}' for bits in head.numpy().view(np.uint32)[0])}`"
    packed, groups, scales = quantize_rows(((np.arange(40) ** 2 % 37 - 11) / 8).astype(np.float32)[None])
    found = f"`{packed.tobytes().hex()}`; `{groups.tobytes().hex()}`; `{scales.view(np.uint32)[0]:08x}`"
    assert row("4 bits of") == found


@pytest.mark.slow
def test_the_root_of_smollm2_in_four_bits(model: Model, model_cache: Path) -> None:
    files = open_model(cache_folder=model_cache)
    assert row("the same model in 4 bits") == f"`{load_weights(files, model.config, model_cache, bits=4).root.hex()}`"


def test_roots_and_hashes(model: Model) -> None:
    assert row("SmolLM2-135M-Instruct") == f"`{model.transformer.root.hex()}`"
    assert row("tables root") == f"`{model.tables_root.hex()}`"
    assert row("its tokenizer hash") == f"`{model.tokenizer.hash.hex()}`"
    assert row("its template hash") == f"`{model.tokenizer.template_hash.hex()}`"


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("chat “What is", Sampling()),
        ("the same chat", Sampling(temperature_milli=900, top_k=40, top_p_ppm=950_000)),
    ],
)
def test_fingerprints_of_answers(model: Model, name: str, sampling: Sampling) -> None:
    engine = ServingEngine(model, EngineConfig(cache_folder="", max_context=128, kv_tokens=128))
    request = Generate(
        request_id="",
        prompt_tokens=model.tokenizer.chat_prompt([Message("user", "What is the capital of France?")]),
        max_tokens=20,
        sampling=sampling,
        seed=SEED,
        request_hash=SEED,
    )
    assert engine.submit(request) == []
    messages = []
    while not engine.idle:
        messages += engine.step()
    engine.close()
    done = messages[-1]
    assert isinstance(done, Finished)
    assert row(name) == f"`{done.fingerprint.hex()}`"

"""The test vectors of the folder's README: what is written there is what the code gives."""

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
from openledger.kernels.model.load import Model
from openledger.kernels.model.tokenizer import Message
from openledger.kernels.ops.fingerprint import chain_next, chain_start, fingerprint_keys, hash_logits
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

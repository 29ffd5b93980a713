"""The sentence encoder gives the same bits by another library's integers and by other CPUs' kernels."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from openledger.genesis.hashing import keccak256
from openledger.genesis.tables import EXP, NORMAL, load_table
from openledger.kernels.attribution.encoder import Encoder, model_folder

torch = pytest.importorskip("torch")

TEXTS = ["How do I bake bread?", "", "é ß 漢字 🐋", "Ambergris is soft, waxy, and highly fragrant. " * 40]


def q16(x: Any) -> tuple[Any, Any]:
    a = x.abs().amax(-1, keepdim=True)
    tiny = a < 2.0**-100
    s = torch.where(tiny, torch.ones_like(a), a / 32639)
    q = torch.where(tiny, torch.zeros_like(x), torch.round(x / s).clamp(-32639, 32639))
    return q.to(torch.int64), s


def root(x: Any) -> Any:
    return x.double().sqrt().float()


def product(a: Any, b: Any) -> Any:
    """Sums in int64, never in floating point."""
    return (a @ b).float()


class Reference:
    """The README's steps with torch: integers are int64, the rest binary32."""

    def __init__(self) -> None:
        safetensors = pytest.importorskip("safetensors.torch")
        self.w = safetensors.load_file(model_folder() / "model.safetensors")
        self.config = json.loads((model_folder() / "config.json").read_text())
        self.exp = torch.from_numpy(np.frombuffer(load_table(EXP), "<u4").astype(np.int64))
        self.normal = torch.from_numpy(np.frombuffer(load_table(NORMAL), "<f4").copy())

    def linear(self, x: Any, name: str) -> Any:
        (q, s), (w, sw) = q16(x), q16(self.w[name + ".weight"])
        return ((product(q, w.t()) * s) * sw[:, 0]) + self.w[name + ".bias"]

    def norm(self, x: Any, name: str) -> Any:
        q, s = q16(x)
        c = x - (q.sum(-1, keepdim=True).float() / 384) * s
        q, s = q16(c)
        v = (((q * q).sum(-1, keepdim=True).float() / 384) * s) * s
        return (c / root(v + torch.tensor(self.config["layer_norm_eps"]))) * self.w[name + ".weight"] + self.w[
            name + ".bias"
        ]

    def attention(self, x: Any, name: str) -> Any:
        joined = torch.empty_like(x)
        whole = {part: self.linear(x, f"{name}.{part}") for part in ("query", "key", "value")}
        for at in range(0, 384, 32):
            (q, qs), (k, ks) = (q16(whole[part][:, at : at + 32].contiguous()) for part in ("query", "key"))
            score = ((product(q, k.t()) * qs) * ks[:, 0]) * torch.tensor(1 / math.sqrt(32), dtype=torch.float32)
            d = torch.round(((score.amax(-1, keepdim=True) - score) * 4096).clamp_max(55296)).long()
            p = (self.exp[d] + 2048) >> 12
            v, vs = q16(whole["value"][:, at : at + 32].reshape(-1))
            joined[:, at : at + 32] = (product(p, v.reshape(-1, 32)) / p.sum(-1, keepdim=True).float()) * vs
        return joined

    def gelu(self, x: Any) -> Any:
        t = self.normal[torch.round(x.abs().clamp_max(6) * 4096).long()]
        return x * torch.where(x < 0, t, 1 - t)

    def embed(self, ids: list[int]) -> bytes:
        e = "embeddings.{}_embeddings.weight"
        x = (self.w[e.format("word")][ids] + self.w[e.format("position")][: len(ids)]) + self.w[e.format("token_type")][
            0
        ]
        x = self.norm(x, "embeddings.LayerNorm")
        for layer in range(self.config["num_hidden_layers"]):
            name = f"encoder.layer.{layer}"
            attended = self.linear(self.attention(x, f"{name}.attention.self"), f"{name}.attention.output.dense")
            x = self.norm(x + attended, f"{name}.attention.output.LayerNorm")
            inner = self.gelu(self.linear(x, f"{name}.intermediate.dense"))
            x = self.norm(x + self.linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        q, _ = q16(x.reshape(-1))
        total = q.reshape(x.shape).sum(0)
        steps = torch.round((total.float() / root((total * total).sum().float())) * 512)
        return bytes(steps.clamp(-127, 127).to(torch.int8).numpy().tobytes())


def test_the_steps_of_the_readme_done_with_another_library_give_the_same_bytes() -> None:
    ours, reference = Encoder(), Reference()
    for text in TEXTS:
        assert reference.embed(ours._tokenizer.encode(text).ids) == ours.embed(text)


DIGEST = """
import sys
from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.encoder import Encoder
encoder = Encoder()
print(keccak256(b"".join(encoder.embed(text) for text in sys.argv[1:])).hex())
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2", "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512_SKX"},
    ],
    ids=["SSE3", "AVX2"],
)
def test_a_cpu_with_other_vector_instructions_gives_the_same_bytes(settings: dict[str, str]) -> None:
    ours = Encoder()
    expected = keccak256(b"".join(ours.embed(text) for text in TEXTS)).hex()
    environment = {**os.environ, **settings, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", DIGEST, *TEXTS], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == expected

"""Decode and prefill of SmolLM2-135M on CPU: the exact engine beside plain transformers (fp32), in one run.

    python benchmarks/inference.py [--threads N] [--output benchmarks/results/inference.json]

Batch 1 without an adapter, and batch 8 over 4 LoRA adapters of rank 16 (the peer: peft's mixed `adapter_names`).
The engine's figures include sampling and the fingerprint of every token; the peer's only its forward and argmax.
Rounds alternate between the two. Both wall-clock and CPU time are medians; on a busy machine trust CPU time.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Adapter, Generate, Token
from openledger.kernels.model.gguf import default_model_file
from openledger.kernels.model.load import load_model

PROMPT, STEPS, ROUNDS, ADAPTERS, RANK = 256, 24, 3, 4, 16
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Clock:
    """Wall and CPU seconds of one piece of work."""

    def __enter__(self) -> "Clock":
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._start[0]
        self.cpu = time.process_time() - self._start[1]


def make_adapters(base: Any, folder: Path) -> list[Path]:
    """Random adapters as peft saves them."""
    made = []
    for index in range(ADAPTERS):
        torch.manual_seed(index)
        settings = peft.LoraConfig(r=RANK, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM")
        adapted = peft.get_peft_model(base, settings)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.01)
        path = folder / f"a{index}"
        adapted.save_pretrained(str(path))
        base = adapted.unload()
        made.append(path)
    return made


def run_engine(
    engine: ServingEngine, prompts: list[list[int]], adapters: list[Path | None]
) -> tuple[Clock, list[Clock]]:
    """One batch: the clock of its prefill, and one per decode step."""
    for index, (prompt, adapter) in enumerate(zip(prompts, adapters)):
        request = Generate(
            request_id=str(index), prompt_tokens=prompt, max_tokens=STEPS + 1, stop_tokens=[],
            adapters=[Adapter(str(adapter))] if adapter else [], request_hash=bytes([index + 1]) * 32,
        )  # fmt: skip
        assert engine.submit(request) == []
    while engine.only_loading:
        engine.step()
    decode: list[Clock] = []
    started: set[str] = set()
    with Clock() as prefill:
        while len(started) < len(prompts):
            started |= {m.request_id for m in engine.step() if isinstance(m, Token)}
    while not engine.idle:
        with Clock() as clock:
            tokens = sum(isinstance(m, Token) for m in engine.step())
        if tokens == len(prompts):
            decode.append(clock)
    return prefill, decode


@torch.inference_mode()
def run_peer(model: Any, prompts: list[list[int]], names: list[str] | None) -> tuple[Clock, list[Clock]]:
    extra = {} if names is None else {"adapter_names": names}
    with Clock() as prefill:
        out = model(torch.tensor(prompts), use_cache=True, logits_to_keep=1, **extra)
        token = out.logits[:, -1].argmax(-1)
    decode = []
    for _ in range(STEPS):
        with Clock() as clock:
            out = model(token[:, None], past_key_values=out.past_key_values, use_cache=True, **extra)
            token = out.logits[:, -1].argmax(-1)
        decode.append(clock)
    return prefill, decode


def rates(runs: list[tuple[Clock, list[Clock]]], batch: int) -> dict[str, float]:
    """Tokens per second, medians over rounds and steps."""
    figures = {}
    for kind in ("wall", "cpu"):
        prefill = statistics.median(getattr(clock, kind) for clock, _ in runs)
        step = statistics.median(getattr(clock, kind) for _, steps in runs for clock in steps)
        figures[f"prefill_{kind}"] = round(batch * PROMPT / prefill, 1)
        figures[f"decode_{kind}"] = round(batch / step, 1)
    return figures


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "openledger" / "models")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    model = load_model(options.cache, threads=options.threads)
    engine = ServingEngine(
        model, EngineConfig(cache_folder=str(options.cache), max_context=1024, kv_tokens=8192, kept_tokens=0)
    )
    engine.warm_up()
    file = default_model_file()
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32
    ).eval()
    tokens = np.random.default_rng(0).integers(100, 40_000, (8, PROMPT)).tolist()
    results: dict[str, Any] = {}

    def measure(name: str, batch: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
        ours(), theirs()
        mine, others = [], []
        for _ in range(ROUNDS):
            mine.append(ours())
            others.append(theirs())
        exact, fp32 = rates(mine, batch), rates(others, batch)
        ratio = {key: round(exact[key] / fp32[key], 2) for key in exact}
        results[name] = {"exact_tokens_per_s": exact, "transformers_fp32_tokens_per_s": fp32, "ratio": ratio}
        print(name, json.dumps(results[name]), flush=True)

    measure(
        "batch 1",
        1,
        lambda: run_engine(engine, tokens[:1], [None]),
        lambda: run_peer(peer, tokens[:1], None),
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = make_adapters(peer, Path(folder))
        mixed = peft.PeftModel.from_pretrained(peer, str(paths[0]), adapter_name="a0")
        for index, path in enumerate(paths[1:], 1):
            mixed.load_adapter(str(path), adapter_name=f"a{index}")
        mixed.eval()
        names = [f"a{i % ADAPTERS}" for i in range(8)]
        measure(
            "batch 8, 4 adapters",
            8,
            lambda: run_engine(engine, tokens, [paths[i % ADAPTERS] for i in range(8)]),
            lambda: run_peer(mixed, tokens, names),
        )
    report = {
        "machine": processor(),
        "threads": model.threads,
        "integer_product": model.linear,
        "prompt_tokens": PROMPT,
        "decode_steps": STEPS,
        "rounds": ROUNDS,
        "results": results,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }
    print(json.dumps(report, indent=1))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    engine.close()


if __name__ == "__main__":
    main()

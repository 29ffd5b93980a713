"""Decode and prefill of SmolLM2-135M on a CPU: the exact engine beside transformers and peft in fp32, in one run.

    python benchmarks/inference.py [--quick] [--threads N] [--output benchmarks/results/inference.json]

Batches of 1, 8 and 32 over 0, 1, 8 and 64 LoRA adapters of rank 16 on all projections (row i uses adapter i modulo their
number, so a batch of 1 has 1 at most, and a batch of 32 has 32 of 64 in use while 64 are loaded). Beside it

- transformers: the base model, which has no adapters;
- peft mixed: one batch with `adapter_names`;
- peft loop: `set_adapter`, then the rows of that adapter, one adapter after the other.

The engine's figures include scheduling, sampling and the fingerprint of every token; the peers' only forward and argmax.
Rounds of all alternate. Wall-clock and CPU time are medians over rounds and steps; on a busy machine trust CPU time.
`outside_kernels_ms` is the part of the engine's decode step that no kernel of the forward pass, sampling or hashing takes.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import peft
import torch
import transformers
from inference_parts.machine import Clock, machine

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Adapter, Generate, Token
from openledger.kernels.model.gguf import default_model_file
from openledger.kernels.model.load import load_model

RANK = 16
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Measured = tuple[Clock, list[Clock]]
"""The clock of a batch's prefill, and one per decode step."""


class Sizes:
    def __init__(self, quick: bool) -> None:
        self.batches = (1, 2) if quick else (1, 8, 32)
        self.adapters = (0, 1, 2) if quick else (0, 1, 8, 64)
        self.prompts = {1: 24, 2: 16} if quick else {1: 256, 8: 256, 32: 64}
        self.steps = 2 if quick else 8
        self.rounds = 1 if quick else 3


def make_adapters(base: Any, folder: Path, count: int) -> list[Path]:
    """Random adapters as peft saves them."""
    made = []
    for index in range(count):
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


def run_engine(engine: ServingEngine, prompts: list[list[int]], adapters: list[Path | None], steps: int) -> Measured:
    for index, (prompt, adapter) in enumerate(zip(prompts, adapters)):
        request = Generate(
            request_id=str(index), prompt_tokens=prompt, max_tokens=steps + 2 * len(prompts) + 1, stop_tokens=[],
            adapters=[Adapter(str(adapter))] if adapter else [], request_hash=bytes([index + 1]) * 32,
        )  # fmt: skip
        assert engine.submit(request) == []
    decode: list[Clock] = []
    started: set[str] = set()
    with Clock() as prefill:
        while len(started) < len(prompts):
            started |= {m.request_id for m in engine.step() if isinstance(m, Token)}
            if engine.only_loading:
                # They are in memory since the first round; that a thread looks for them there belongs to the prefill.
                time.sleep(0.0005)
    # Prompts begin one after the other, so answers are long enough for steps in which all decode; then they are let go.
    while len(decode) < steps:
        with Clock() as clock:
            tokens = sum(isinstance(m, Token) for m in engine.step())
        if tokens == len(prompts):
            decode.append(clock)
    for index in range(len(prompts)):
        engine.cancel(str(index))
    return prefill, decode


@torch.inference_mode()
def run_peer(model: Any, prompts: list[list[int]], names: list[str] | None, steps: int) -> Measured:
    extra = {} if names is None else {"adapter_names": names}
    with Clock() as prefill:
        out = model(torch.tensor(prompts), use_cache=True, logits_to_keep=1, **extra)
        token = out.logits[:, -1].argmax(-1)
    decode = []
    for _ in range(steps):
        with Clock() as clock:
            out = model(token[:, None], past_key_values=out.past_key_values, use_cache=True, **extra)
            token = out.logits[:, -1].argmax(-1)
        decode.append(clock)
    return prefill, decode


@torch.inference_mode()
def run_loop(model: Any, prompts: list[list[int]], names: list[str], steps: int) -> Measured:
    """One adapter after the other, the rows of each together."""
    rows = {name: [at for at, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
    held: dict[str, Any] = {}

    def everyone(tokens: Callable[[str], Any]) -> None:
        for name in rows:
            model.set_adapter(name)
            past = held[name].past_key_values if name in held else None
            held[name] = model(tokens(name), past_key_values=past, use_cache=True, logits_to_keep=1)

    with Clock() as prefill:
        everyone(lambda name: torch.tensor([prompts[at] for at in rows[name]]))
    decode = []
    for _ in range(steps):
        with Clock() as clock:
            everyone(lambda name: held[name].logits[:, -1].argmax(-1)[:, None])
        decode.append(clock)
    return prefill, decode


def rates(runs: list[Measured], batch: int, prompt: int) -> dict[str, float]:
    """Tokens per second, medians over rounds and steps."""
    figures = {}
    for kind in ("wall", "cpu"):
        prefill = statistics.median(getattr(clock, kind) for clock, _ in runs)
        step = statistics.median(getattr(clock, kind) for _, steps in runs for clock in steps)
        figures[f"prefill_{kind}"] = round(batch * prompt / prefill, 1)
        figures[f"decode_{kind}"] = round(batch / step, 1)
    return figures


def outside_kernels(engine: ServingEngine, prompts: list[list[int]], steps: int) -> dict[str, float]:
    """CPU milliseconds of a decode step, and how many of them are outside what `Steps` computes."""
    transformer, judge = engine.model.transformer, engine._judge
    spent = [0.0]
    whole = transformer.steps

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            begin = time.process_time()
            try:
                return work(*arguments)
            finally:
                spent[0] += time.process_time() - begin

        return run

    names = (
        "linear", "linear_across", "norm_quantize", "quantize_rows", "rotate_store", "attend", "silu_quantize", "lora_run",
        "add", "sample", "hash_rows", "embed",
    )  # fmt: skip
    watched = whole._replace(**{name: timed(getattr(whole, name)) for name in names})
    transformer.steps = judge._steps = watched
    try:
        for index, prompt in enumerate(prompts):
            request = Generate(
                request_id=str(index), prompt_tokens=prompt, max_tokens=steps + 2, stop_tokens=[],
                request_hash=bytes([index + 1]) * 32,
            )  # fmt: skip
            assert engine.submit(request) == []
        found = []
        while not engine.idle:
            spent[0] = 0.0
            with Clock() as clock:
                tokens = sum(isinstance(m, Token) for m in engine.step())
            if tokens == len(prompts):
                found.append((1e3 * clock.cpu, 1e3 * (clock.cpu - spent[0])))
    finally:
        transformer.steps = judge._steps = whole
    step, outside = (statistics.median(column) for column in zip(*found[1:]))
    return {"step_ms": round(step, 3), "outside_kernels_ms": round(outside, 3)}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute: batches of 1 and 2, 0 to 2 adapters, one round")
    parser.add_argument("--batches", type=_numbers, help="only these batch sizes, as 1,8")
    parser.add_argument("--adapters", type=_numbers, help="only these numbers of adapters, as 0,8; 0 first")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "openledger" / "models")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    sizes = Sizes(options.quick)
    sizes.batches = options.batches or sizes.batches
    sizes.adapters = options.adapters or sizes.adapters
    sizes.rounds = options.rounds or sizes.rounds
    model = load_model(options.cache, threads=options.threads)
    results: dict[str, Any] = {}
    overhead: dict[str, Any] = {}
    tokens = np.random.default_rng(0).integers(100, 40_000, (max(sizes.batches), max(sizes.prompts.values()))).tolist()
    with tempfile.TemporaryDirectory() as folder:
        config = EngineConfig(
            cache_folder=folder, max_context=512, kv_tokens=16384, kept_tokens=0, max_batch=64, backend="host",
        )  # fmt: skip
        engine = ServingEngine(model, config)
        engine.warm_up()
        file = default_model_file()
        peer: Any = transformers.AutoModelForCausalLM.from_pretrained(
            str(file.parent), gguf_file=file.name, dtype=torch.float32
        ).eval()
        paths = make_adapters(peer, Path(folder), max(sizes.adapters))
        for adapters in sizes.adapters:
            if adapters and not isinstance(peer, peft.PeftModel):
                peer = peft.PeftModel.from_pretrained(peer, str(paths[0]), adapter_name="a0").eval()
            for index in range(1, adapters):
                if f"a{index}" not in peer.peft_config:
                    peer.load_adapter(str(paths[index]), adapter_name=f"a{index}")
            for batch in sizes.batches:
                if adapters > 1 and batch == 1:
                    continue
                name = f"batch {batch}, {adapters} adapters"
                results[name] = measure(engine, peer.eval(), tokens, paths, batch, adapters, sizes)
                print(name, json.dumps(results[name]), flush=True)
        for batch in sizes.batches:
            overhead[f"batch {batch}"] = outside_kernels(engine, [row[:16] for row in tokens[:batch]], sizes.steps)
            print("a decode step", batch, json.dumps(overhead[f"batch {batch}"]), flush=True)
        engine.close()
    report = {
        **machine(),
        "threads": model.threads,
        "integer_product": model.linear,
        "prompt_tokens": sizes.prompts,
        "decode_steps": sizes.steps,
        "rounds": sizes.rounds,
        "results": results,
        "decode_step": overhead,
    }
    report["versions"] |= {"transformers": transformers.__version__, "peft": peft.__version__}
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")


def measure(
    engine: ServingEngine,
    peer: Any,
    tokens: list[list[int]],
    paths: list[Path],
    batch: int,
    adapters: int,
    sizes: Sizes,
) -> dict[str, Any]:
    """All that can run this batch, round by round."""
    prompt = sizes.prompts[batch]
    prompts = [row[:prompt] for row in tokens[:batch]]
    chosen = [paths[row % adapters] if adapters else None for row in range(batch)]
    names = [f"a{row % adapters}" for row in range(batch)] if adapters else []
    runners: dict[str, Callable[[int], Measured]] = {"exact": lambda steps: run_engine(engine, prompts, chosen, steps)}
    if adapters:
        runners["peft mixed"] = lambda steps: run_peer(peer, prompts, names, steps)
        runners["peft loop"] = lambda steps: run_loop(peer, prompts, names, steps)
    else:
        runners["transformers"] = lambda steps: run_peer(peer, prompts, None, steps)
    runs: dict[str, list[Measured]] = {name: [] for name in runners}
    runners["exact"](1)
    # The largest batches take long enough to be measured once; so do the loops.
    rounds = sizes.rounds if batch <= 8 else 1
    for _ in range(rounds):
        for name, run in runners.items():
            if name == "exact" or len(runs[name]) < (rounds if batch == 1 else 1):
                runs[name].append(run(sizes.steps))
    found = {name: rates(each, batch, prompt) for name, each in runs.items()}
    best = {kind: max(row[kind] for name, row in found.items() if name != "exact") for kind in found["exact"]}
    ratio = {kind: round(found["exact"][kind] / best[kind], 2) for kind in best}
    return {"tokens_per_s": found, "ratio_to_best": ratio}


if __name__ == "__main__":
    main()

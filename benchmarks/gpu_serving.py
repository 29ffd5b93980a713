"""Serving on a GPU from end to end: tokens per second and time to the first token, by adapters in use.

    python benchmarks/gpu_serving.py [--output benchmarks/results/gpu_serving.json] [--model FILE_OR_FOLDER]
    python benchmarks/gpu_serving.py --toy        on any CPU, a tiny model: figures mean nothing

Without --model, weights are random numbers in the shape of Llama-3.1-8B. Adapters are random, rank 16 on query and value,
read from a disk as a node would. Requests choose theirs by Zipf's law (exponent 1); as many run at once as a batch holds.
Throughput counts generated tokens from the first step to the last, prefill included. Time to the first token: adapters are
125 times the slots of the device, beside the same traffic without adapters. The fingerprint of the exact mode is
compared with the CPU's on a small model. transformers, and peft with mixed `adapter_names`, decode in bf16 the same batch.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from inference_parts.machine import Clock, machine
from inference_parts.random_model import LLAMA_8B, TOY, Numerics, random_adapters, random_model, steps_of

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Adapter, Failed, Finished, Generate, Token
from openledger.kernels.model.generate import generate
from openledger.kernels.model.load import Model, load_bf16, load_model

MODULES = ("q_proj", "v_proj")
RANK = 16


class Sizes:
    """What is run: a batch, prompts, answers, and how many adapters there are."""

    def __init__(self, toy: bool) -> None:
        self.toy = toy
        self.config = TOY if toy else LLAMA_8B
        self.backend: Any = "host" if toy else "triton"
        self.batch = 2 if toy else 64
        self.prompt = 8 if toy else 256
        self.answer = 4 if toy else 64
        self.requests = 4 if toy else 256
        self.adapters = (0, 1, 2) if toy else (0, 1, 16, 64, 256, 1000)
        self.slots = 1 if toy else 8
        self.many = 5 if toy else 1000


def load(sizes: Sizes, numerics: Numerics, file: Path | None, cache: Path) -> Model:
    if file is None:
        return random_model(sizes.config, steps_of(sizes.backend, numerics), numerics)
    if numerics == "bf16":
        return load_bf16(cache, model_file=file, backend=sizes.backend)
    return load_model(cache, model_file=file, backend=sizes.backend)


def engine_for(model: Model, sizes: Sizes, cache: Path, slots: int) -> ServingEngine:
    length = max(256, sizes.prompt + sizes.answer + 16)
    return ServingEngine(
        model,
        EngineConfig(
            cache_folder=str(cache), max_batch=sizes.batch, max_context=length, kv_tokens=(sizes.batch + 1) * length,
            kept_tokens=0, max_waiting=4096, max_waiting_per_payer=4096, max_adapters_resident=max(slots, 1),
            max_step_tokens=32 if sizes.toy else 2048, numerics="bf16" if model.numerics == "bf16" else "exact-1",
        ),
    )  # fmt: skip


def serve(engine: ServingEngine, sizes: Sizes, paths: list[Path], count: int, seed: int) -> dict[str, float]:
    """`sizes.requests` requests, `sizes.batch` at once, over the first `count` adapters."""
    random = np.random.default_rng(seed)
    chance = 1.0 / np.arange(1, count + 1) if count else np.ones(0)
    chosen = random.choice(count, sizes.requests, p=chance / chance.sum()).tolist() if count else []
    vocabulary = min(sizes.config.vocabulary, engine.model.config.vocabulary)
    first: dict[str, float] = {}
    asked: dict[str, float] = {}
    running: set[str] = set()
    waiting = list(range(sizes.requests))[::-1]
    with Clock() as clock:
        while waiting or running:
            while waiting and len(running) < sizes.batch:
                index = waiting.pop()
                name = f"{seed}-{index}"
                request = Generate(
                    request_id=name, prompt_tokens=random.integers(0, vocabulary, sizes.prompt).tolist(),
                    max_tokens=sizes.answer, stop_tokens=[], request_hash=index.to_bytes(32, "little"),
                    adapters=[Adapter(str(paths[chosen[index]]))] if count else [],
                )  # fmt: skip
                refused = engine.submit(request)
                assert not refused, refused
                asked[name] = time.perf_counter()
                running.add(name)
            for message in engine.step():
                if isinstance(message, Token):
                    first.setdefault(message.request_id, time.perf_counter())
                elif isinstance(message, Finished):
                    running.discard(message.request_id)
                elif isinstance(message, Failed):
                    raise RuntimeError(message.message)
    waits = sorted(1e3 * (first[name] - asked[name]) for name in asked)
    return {
        "adapters": count,
        "tokens_per_s": round(sizes.requests * sizes.answer / clock.wall, 1),
        "ttft_p50_ms": round(statistics.median(waits), 1),
        "ttft_p99_ms": round(waits[min(len(waits) - 1, int(0.99 * len(waits)))], 1),
    }


def ours(sizes: Sizes, file: Path | None, paths: list[Path], cache: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kinds: tuple[Numerics, ...] = ("exact-1", "bf16")
    for numerics in kinds:
        model = load(sizes, numerics, file, cache)
        engine = engine_for(model, sizes, cache, 4096)
        engine.warm_up()
        serve(engine, sizes, paths, 1, 1)
        rows = []
        for count in sizes.adapters:
            # Once so that adapters are there, once to measure.
            serve(engine, sizes, paths, count, 2)
            rows.append(serve(engine, sizes, paths, count, 2))
            print(numerics, json.dumps(rows[-1]), flush=True)
        engine.close()
        del engine
        gc.collect()
        few = engine_for(model, sizes, cache, sizes.slots)
        few.warm_up()
        alone = serve(few, sizes, paths, 0, 3)
        crowded = serve(few, sizes, paths, sizes.many, 3)
        few.close()
        found[numerics] = {
            "throughput": rows,
            "adapters_over_slots": {
                "slots": sizes.slots, "adapters": sizes.many, "without": alone, "with": crowded,
                "cliff": round(crowded["ttft_p50_ms"] / alone["ttft_p50_ms"], 2),
            },
        }  # fmt: skip
        print(numerics, json.dumps(found[numerics]["adapters_over_slots"]), flush=True)
        del few, model
        gc.collect()
        torch.cuda.empty_cache()
    pairs = zip(found["exact-1"]["throughput"], found["bf16"]["throughput"])
    found["exact_over_bf16"] = [round(exact["tokens_per_s"] / fast["tokens_per_s"], 2) for exact, fast in pairs]
    return found


def fingerprints(sizes: Sizes) -> dict[str, Any]:
    """The same small model here and on the CPU."""
    prompts = [[1, 2, 3, 4, 5], list(range(40))]
    found = []
    for backend in ("host", sizes.backend if not sizes.toy else "torch"):
        model = random_model(TOY, steps_of(backend, "exact-1"), "exact-1")
        found.append([one.fingerprint.hex() for one in generate(model, prompts, max_tokens=16, batch=2, chunk=7)])
    return {"cpu": found[0], "here": found[1], "equal": found[0] == found[1]}


@torch.inference_mode()
def transformers_decode(sizes: Sizes, adapters: int) -> float:
    """Tokens per second of transformers' own decoding; over adapters, of peft's mixed batches."""
    import peft
    import transformers

    config = sizes.config
    device = "cpu" if sizes.toy else "cuda"
    with torch.device(device):
        model: Any = transformers.LlamaForCausalLM._from_config(
            transformers.LlamaConfig(
                vocab_size=config.vocabulary, hidden_size=config.hidden, intermediate_size=config.feed_forward,
                num_hidden_layers=config.layers, num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads, max_position_embeddings=config.context,
            ),
            dtype=torch.bfloat16,
        ).eval()  # fmt: skip
    extra: dict[str, Any] = {}
    if adapters:
        settings = peft.LoraConfig(r=RANK, lora_alpha=32, target_modules=list(MODULES), task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, settings, adapter_name="a0")
        for index in range(1, adapters):
            model.add_adapter(f"a{index}", settings)
        model = model.to(device, torch.bfloat16).eval()
        extra = {"adapter_names": [f"a{index % adapters}" for index in range(sizes.batch)]}
    tokens = torch.randint(0, config.vocabulary, (sizes.batch, sizes.prompt), device=device)
    for _ in range(2):
        with Clock() as clock:
            out = model(tokens, use_cache=True, logits_to_keep=1, **extra)
            token = out.logits[:, -1].argmax(-1)
            for _ in range(sizes.answer - 1):
                out = model(token[:, None], past_key_values=out.past_key_values, use_cache=True, **extra)
                token = out.logits[:, -1].argmax(-1)
    return round(sizes.batch * sizes.answer / clock.wall, 1)


def peers(sizes: Sizes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for adapters in (0, 1, 2) if sizes.toy else (0, 1, 16, 64):
        who = "peft, mixed adapter_names" if adapters else "transformers"
        try:
            found.append({"who": who, "adapters": adapters, "tokens_per_s": transformers_decode(sizes, adapters)})
        except torch.cuda.OutOfMemoryError:
            found.append({"who": who, "adapters": adapters, "tokens_per_s": None, "why": "not enough memory"})
        print(json.dumps(found[-1]), flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="a tiny model on the CPU: figures mean nothing")
    parser.add_argument(
        "--model", type=Path, help="a GGUF or a folder in Hugging Face's layout; adapters must fit Llama-3.1-8B"
    )
    parser.add_argument("--adapters", type=int, help="at most so many (default 1,000)")
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not options.toy and not torch.cuda.is_available():
        print("there is no NVIDIA GPU here that torch can use: try --toy", file=sys.stderr)
        return 1
    sizes = Sizes(options.toy)
    if options.toy:
        torch.set_num_threads(1)
    if options.adapters is not None:
        sizes.adapters = tuple(count for count in sizes.adapters if count <= options.adapters)
        sizes.many = min(sizes.many, options.adapters)
        sizes.slots = max(1, sizes.many // 125)
    with tempfile.TemporaryDirectory() as folder:
        shape = sizes.config
        paths = random_adapters(shape, Path(folder), max(*sizes.adapters, sizes.many), RANK, MODULES)
        engine = ours(sizes, options.model, paths, Path(folder) / "cache")
    report = {
        **machine(),
        "toy": options.toy,
        "model": shape.name if options.model is None else options.model.name,
        "batch": sizes.batch, "prompt_tokens": sizes.prompt, "answer_tokens": sizes.answer, "requests": sizes.requests,
        "adapter": f"rank {RANK} on {', '.join(MODULES)}",
        "engine": engine,
        "fingerprints": fingerprints(sizes),
        "peers": [] if options.without_peers else peers(sizes),
        "not_compared": "vLLM, SGLang, S-LoRA, LoRAX: not among this benchmark's packages",
    }  # fmt: skip
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if report["fingerprints"]["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())

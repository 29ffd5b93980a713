"""What adapters cost: bytes by rank, memory by their number, time from each tier, and first tokens when they outnumber slots.

    python benchmarks/adapters.py [--quick] [--output benchmarks/results/adapters.json]

Adapters are synthetic (random weights); the model that answers is SmolLM2-135M-Instruct. *Slots* are the adapters that
`adapter_device_bytes` has room for: on a CPU the device's memory is the CPU's, so what is measured there is the order of
serving and the bookkeeping, not a copy over a bus. Times to first token are those of 8 clients, each of whom asks again when
it was answered, over adapters drawn at random; the machine may be busy with other work, so ratios are of the CPU time that this
process took until the first token came, which no other process adds to.
"""

import argparse
import json
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from safetensors.numpy import save_file

from openledger.kernels.engine.adapters import load_adapter
from openledger.kernels.engine.adapters.disk import DiskTier
from openledger.kernels.engine.adapters.host import Counts, HostTier
from openledger.kernels.engine.adapters.pack import quantize_adapter
from openledger.kernels.engine.adapters.shapes import MODULES, group_shapes, module_shape
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Adapter, Finished, Generate, Token
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.load import load_model
from openledger.kernels.ops.lora_layout import PackedLora, empty_lora

SIZES: dict[str, dict[str, Any]] = {
    "SmolLM2-135M": {"layers": 30, "hidden": 576, "feed_forward": 1536, "heads": 9, "kv_heads": 3, "head_size": 64},
    "Llama-3.1-8B": {"layers": 32, "hidden": 4096, "feed_forward": 14336, "heads": 32, "kv_heads": 8, "head_size": 128},
}
ALL = tuple(MODULES)
CLIENTS, SLOTS, PROMPT, ANSWER = 8, 8, 16, 4


def machine(threads: int) -> dict[str, Any]:
    """Where it was measured, and with what."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "processor": names[0] if names else platform.machine(), "cores": len(names), "threads": threads,
        "python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__, "torch": torch.__version__,
    }  # fmt: skip


def shape_of(name: str) -> ModelConfig:
    """A model's sizes, for counting."""
    return ModelConfig(name=name, vocabulary=49152, context=8192, epsilon=1e-5, rotary_base=100000.0, **SIZES[name])


def empty(config: ModelConfig, rank: int, modules: tuple[str, ...] = ALL) -> PackedLora:
    ranks = [(layer, module, rank) for layer in range(config.layers) for module in modules]
    return empty_lora(group_shapes(config), config.layers, ranks)


def bytes_by_rank() -> dict[str, Any]:
    """Of adapters for every matrix of all layers, in their integer form."""
    found: dict[str, Any] = {}
    for name in SIZES:
        config = shape_of(name)
        found[name] = {}
        for rank in (4, 8, 16, 64):
            size = empty(config, rank).bytes
            floats = 2 * rank * config.layers * sum(sum(module_shape(config, module)) for module in ALL)
            found[name][str(rank)] = {
                "bytes": size, "per_gib": (1 << 30) // size, "fp16_bytes": floats,
            }  # fmt: skip
    return found


def resident_set(count: int, rank: int) -> int:
    """Bytes of this process's memory that so many adapters in the host tier add."""
    config, tier = shape_of("SmolLM2-135M"), HostTier(1 << 50, Counts())

    def measured() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = measured()
    for index in range(count):
        packed = empty(config, rank)
        packed.data.fill(index % 100 + 1)
        tier.add(index.to_bytes(32, "big"), packed, from_disk=False)
    return measured() - before


def available() -> int:
    """Bytes of memory that are free or can be."""
    (line,) = (line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
    return 1024 * int(line.split()[1])


def resident_sets(*, quick: bool) -> dict[str, dict[str, int]]:
    """By rank and count, each in a process of its own, as far as there is memory."""
    found: dict[str, dict[str, int]] = {}
    for rank in (8,) if quick else (8, 16):
        size = empty(shape_of("SmolLM2-135M"), rank).bytes
        found[str(rank)] = {
            str(count): int(
                subprocess.check_output([sys.executable, __file__, "--resident", f"{count},{rank}"], text=True)
            )
            for count in ((1, 20) if quick else (1, 100, 1000, 2000))
            if count * size < available() // 2
        }
    return found


def write_source(folder: Path, config: ModelConfig, rank: int, seed: int) -> Path:
    """An adapter as peft saves it, fp32."""
    draw = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config.layers):
        for module, (parent, _) in MODULES.items():
            outputs, inputs = module_shape(config, module)
            name = f"base_model.model.model.layers.{layer}.{parent}.{module}.lora_"
            tensors[f"{name}A.weight"] = draw.standard_normal((rank, inputs), np.float32) * np.float32(0.02)
            tensors[f"{name}B.weight"] = draw.standard_normal((outputs, rank), np.float32) * np.float32(0.02)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(ALL)}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    return folder


def tiers(model: Any, folder: Path, rank: int, count: int) -> dict[str, Any]:
    """Milliseconds for one adapter of all matrices, from each tier."""
    config, array = model.config, model.transformer.steps.array
    disk = DiskTier(folder / "disk", config, 1 << 40)
    times: dict[str, list[float]] = {"source": [], "disk": [], "device": []}
    for seed in range(count):
        source = write_source(folder / f"s{seed}", config, rank, seed)
        started = time.perf_counter()
        digest, modules, data = load_adapter(source, config)
        packed = quantize_adapter(modules, data, config)
        times["source"].append(time.perf_counter() - started)
        disk.put(digest, packed)
        started = time.perf_counter()
        read = disk.get(digest)
        times["disk"].append(time.perf_counter() - started)
        assert read is not None
        started = time.perf_counter()
        read.place(array)
        times["device"].append(time.perf_counter() - started)
    # The first of each compiles kernels and makes the layout.
    return {f"{name}_ms": round(1000 * statistics.median(found[1:]), 3) for name, found in times.items()}


def loads(model: Any, folder: Path, *, quick: bool) -> dict[str, Any]:
    """`tiers` by rank."""
    found = {}
    for rank in (8, 16):
        (folder / str(rank)).mkdir()
        found[str(rank)] = tiers(model, folder / str(rank), rank, 3 if quick else 15)
    return found


def first_tokens(model: Any, cache: Path, digests: list[bytes], slots: int, requests: int) -> dict[str, Any]:
    """Times to first token with room for so many adapters on the device; all begin in the CPU's memory."""
    size = empty(model.config, 8, ("q_proj", "v_proj")).bytes
    config = EngineConfig(
        cache_folder=str(cache), max_context=64, kv_tokens=2048, kept_tokens=0, adapter_device_bytes=slots * size,
        max_batch=CLIENTS,
    )  # fmt: skip
    engine = ServingEngine(model, config)
    draw = random.Random(7)
    order = [digests[draw.randrange(len(digests))] for _ in range(requests)]
    asked: dict[str, tuple[float, float]] = {}
    first: dict[str, tuple[float, float]] = {}

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def ask(number: int) -> None:
        asked[str(number)] = now()
        prompt = [100 + draw.randrange(1000) for _ in range(PROMPT)]
        adapter = Adapter("/none", order[number])
        engine.submit(Generate(
            request_id=str(number), prompt_tokens=prompt, max_tokens=ANSWER, stop_tokens=[], adapters=[adapter]
        ))  # fmt: skip

    # Every adapter once, in bulk: into the CPU's memory, and as many as fit onto the device.
    for start in range(0, len(digests), 64):
        for at, digest in enumerate(digests[start : start + 64]):
            engine._adapters.ask(f"w{at}", [Adapter("/none", digest)])
        waiting = len(digests[start : start + 64])
        while waiting:
            waiting -= len(engine._adapters.loaded())
            time.sleep(0.001)
        for at in range(len(digests[start : start + 64])):
            engine._adapters.release(f"w{at}")
    for number in range(CLIENTS):
        ask(number)
    next_number, started = CLIENTS, time.perf_counter()
    while not engine.idle:
        for message in engine.step():
            if isinstance(message, Token):
                first.setdefault(message.request_id, now())
            elif isinstance(message, Finished):
                if next_number < requests:
                    ask(next_number)
                    next_number += 1
            else:
                raise SystemExit(f"a request failed: {message}")
    load = engine.load()
    engine.close()
    waits, work = (sorted(first[name][clock] - asked[name][clock] for name in asked) for clock in (0, 1))
    return {
        "slots": slots,
        "ttft_p50_ms": round(1000 * statistics.median(waits), 1),
        "ttft_p99_ms": round(1000 * waits[int(len(waits) * 0.99)], 1),
        "ttft_p50_cpu_ms": round(1000 * statistics.median(work), 1),
        "ttft_p99_cpu_ms": round(1000 * work[int(len(work) * 0.99)], 1),
        "requests_per_s": round(requests / (time.perf_counter() - started), 2),
        "device_loads": load.adapter_device_loads_total,
        "evictions": load.adapter_evictions_total,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="toy numbers, to see that it runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "openledger")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--requests", type=int, default=200, help="requests of each run for first tokens")
    parser.add_argument("--again", type=Path, help="a result of which only first tokens are measured again")
    parser.add_argument("--resident", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.resident:
        count, rank = map(int, options.resident.split(","))
        print(resident_set(count, rank))
        return
    model = load_model(options.cache, threads=options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.again:
            result: dict[str, Any] = json.loads(options.again.read_text())
        else:
            result = {
                "bytes_by_rank": bytes_by_rank(),
                "resident_set_bytes": resident_sets(quick=options.quick),
                "load_ms": loads(model, folder, quick=options.quick),
            }
        result["machine"] = machine(options.threads)
        disk = DiskTier(folder / "cache", model.config, 1 << 40)
        digests = []
        draw = np.random.default_rng(1)
        for index in range(24 if options.quick else 125 * SLOTS):
            packed = empty(model.config, 8, ("q_proj", "v_proj"))
            packed.data[:] = draw.integers(-127, 128, len(packed.data), np.int8)
            # Bytes that are scales must be small numbers: all of them alike.
            for layer in range(model.config.layers):
                for module in ("q_proj", "v_proj"):
                    weights = packed.module(layer, module)
                    weights.a_scales[:] = weights.b_scales[:] = 1e-4
            packed.alphas.fill(1.0)
            digests.append(index.to_bytes(32, "big"))
            disk.put(digests[-1], packed)
        requests = 16 if options.quick else options.requests
        runs: dict[str, Any] = {}
        # Alternating, and the first round is not counted: it compiles.
        for _ in range(2):
            for name, slots in (
                ("all on the device", len(digests)),
                (f"{len(digests) // SLOTS} adapters for each slot", SLOTS),
            ):
                runs[name] = first_tokens(model, folder / "cache", digests, slots, requests)
        result["first_tokens"] = {
            "adapters": len(digests),
            "clients": CLIENTS,
            "rank": 8,
            "requests": requests,
            "runs": runs,
        }
        few, many = list(runs.values())
        result["first_tokens"]["cliff_p50"] = round(many["ttft_p50_cpu_ms"] / few["ttft_p50_cpu_ms"], 2)
        result["first_tokens"]["cliff_p99"] = round(many["ttft_p99_cpu_ms"] / few["ttft_p99_cpu_ms"], 2)
    text = json.dumps(result, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()

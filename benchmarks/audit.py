"""What checking an answer costs beside giving it: one teacher-forced pass against one step for every token.

    python benchmarks/audit.py [--threads N] [--tokens 128] [--output benchmarks/results/audit.json]

SmolLM2-135M, prompts of 64 and 512 random tokens, alone; greedy, and drawn at temperature 0.8. Both include sampling and the
fingerprint of every token, and both compute the prompt; `answer_ratio` leaves out what that alone takes. Rounds alternate;
CPU time and wall-clock time are medians.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Finished, Generate, Sampling, Verified, Verify
from openledger.kernels.model.load import load_model

ROUNDS = 3


def run(engine: ServingEngine, request: Generate | Verify) -> tuple[Any, float, float]:
    """The last message about a request, and the CPU and wall seconds that it took."""
    assert engine.submit(request) == []
    cpu, wall, last = time.process_time(), time.perf_counter(), None
    while not engine.idle:
        for message in engine.step():
            last = message
    return last, time.process_time() - cpu, time.perf_counter() - wall


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "openledger" / "models")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    model = load_model(options.cache, threads=options.threads)
    settings = EngineConfig(cache_folder=str(options.cache), max_context=1024, kv_tokens=8192, kept_tokens=0)
    engine = ServingEngine(model, settings)
    engine.warm_up()
    results: dict[str, Any] = {}
    for prompt_tokens in (64, 512):
        prompt = np.random.default_rng(prompt_tokens).integers(100, 40_000, prompt_tokens).tolist()
        for name, sampling in (("greedy", Sampling()), ("drawn", Sampling(temperature_milli=800))):
            shared: dict[str, Any] = {
                "prompt_tokens": prompt, "max_tokens": options.tokens, "stop_tokens": [], "sampling": sampling,
                "request_hash": b"\x01" * 32, "seed": b"\x02" * 32,
            }  # fmt: skip
            times: dict[str, list[tuple[float, float]]] = {"generate": [], "verify": [], "prompt": []}
            for _ in range(ROUNDS):
                given, *took = run(engine, Generate(request_id="given", **shared))
                assert isinstance(given, Finished)
                assert len(given.output_tokens) == options.tokens
                times["generate"].append((took[0], took[1]))
                claim = Verify(
                    request_id="checked", output_tokens=given.output_tokens, stop_reason=given.stop_reason,
                    fingerprint=given.fingerprint, **shared,
                )  # fmt: skip
                checked, *took = run(engine, claim)
                assert isinstance(checked, Verified)
                assert checked.ok, checked.detail
                times["verify"].append((took[0], took[1]))
                _, *took = run(engine, Generate(request_id="prompt", **{**shared, "max_tokens": 1}))
                times["prompt"].append((took[0], took[1]))
            row: dict[str, Any] = {}
            for index, kind in enumerate(("cpu", "wall")):
                generate, verify, prompt_s = (statistics.median(t[index] for t in times[what]) for what in times)
                row[f"generate_{kind}_s"], row[f"verify_{kind}_s"] = round(generate, 3), round(verify, 3)
                row[f"{kind}_ratio"] = round(generate / verify, 2)
                row[f"{kind}_answer_ratio"] = round((generate - prompt_s) / (verify - prompt_s), 2)
            results[f"prompt {prompt_tokens}, {name}"] = row
            print(prompt_tokens, name, json.dumps(row), flush=True)
    report = {
        "machine": {
            "processor": processor(), "cores": os.cpu_count(), "threads": model.threads, "linear": model.linear,
            "python": platform.python_version(), "torch": torch.__version__,
        },
        "answer_tokens": options.tokens,
        "results": results,
    }  # fmt: skip
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What exactness costs in quality: perplexity of `exact-1` against the fp32 model in transformers, same tokens.

    python benchmarks/perplexity.py [--tokens 20480] [--weight-bits 8|4] [--text FILE ...] [--output benchmarks/results/perplexity.json]

Without --text it reads the Python language reference that ships with Python (`pydoc_data.topics`). The text is
cut into windows of 1,024 tokens. Also printed: mean Kullback-Leibler divergence per token and how often both
models put the same token first.
"""

import argparse
import json
import math
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from openledger.kernels.model.gguf import default_model_file
from openledger.kernels.model.load import Model, load_model
from openledger.kernels.model.transformer import Batch, KvCache

WINDOW = 1024
LOGIT_ROWS = 128
PAGE = 64


def reference_text() -> str:
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def exact_logits(model: Model, tokens: list[int], cache: KvCache) -> Any:
    """Logits of every position, [T, V]."""
    table = np.arange(cache.pages)[None]
    parts = []
    for first in range(0, len(tokens), LOGIT_ROWS):
        chunk = tokens[first : first + LOGIT_ROWS]
        positions = np.arange(first, first + len(chunk))
        batch = Batch(
            tokens=np.array(chunk),
            positions=positions,
            slots=positions,
            previous=positions - 1,
            sequences=np.zeros(len(chunk), np.int64),
            tables=table,
            logit_rows=np.arange(len(chunk)),
        )
        logits, faults = model.transformer.step(batch, cache)
        assert not faults.any()
        parts.append(torch.from_numpy(logits).clone())
    return torch.cat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=20_480)
    parser.add_argument("--text", type=Path, nargs="*")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "openledger" / "models")
    parser.add_argument("--weight-bits", type=int, choices=(8, 4), default=8)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    model = load_model(options.cache, weight_bits=options.weight_bits, threads=options.threads)
    text = "\n".join(p.read_text() for p in options.text) if options.text else reference_text()
    tokens = model.tokenizer.encode(text[: options.tokens * 12])[: options.tokens]
    windows = [tokens[i : i + WINDOW] for i in range(0, len(tokens) - 1, WINDOW)]
    file = default_model_file()
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32
    ).eval()
    cache = KvCache(model.config, -(-WINDOW // PAGE), PAGE, model.transformer.steps)
    sums = np.zeros(4)
    count = 0
    for index, window in enumerate(windows):
        if len(window) < 2:
            continue
        target = torch.tensor(window[1:])
        with torch.inference_mode():
            theirs = torch.log_softmax(peer(torch.tensor([window])).logits[0, :-1].double(), -1)
            ours = torch.log_softmax(exact_logits(model, window, cache)[:-1].double(), -1)
        pick = torch.arange(len(target))
        sums += [
            -theirs[pick, target].sum().item(),
            -ours[pick, target].sum().item(),
            (theirs.exp() * (theirs - ours)).sum().item(),
            (theirs.argmax(-1) == ours.argmax(-1)).sum().item(),
        ]
        count += len(target)
        ratio = math.exp((sums[1] - sums[0]) / count)
        print(f"{index + 1}/{len(windows)} windows: {count} tokens, perplexity x {ratio:.5f}", flush=True)
    fp32, exact = math.exp(sums[0] / count), math.exp(sums[1] / count)
    result = {
        "tokens": count,
        "text": [p.name for p in options.text] if options.text else f"Python {platform.python_version()} topics",
        "perplexity_fp32_transformers": round(fp32, 5),
        "perplexity_exact": round(exact, 5),
        "increase_percent": round((exact / fp32 - 1) * 100, 4),
        "mean_kl": round(sums[2] / count, 7),
        "same_first_token_percent": round(100 * sums[3] / count, 3),
        "weight_bits": options.weight_bits,
        "weights_root": model.transformer.root.hex(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(result, indent=1))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

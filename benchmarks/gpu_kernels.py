"""Kernels on a GPU: bytes per second, beside the measured bandwidth of a copy and beside what torch does.

    python benchmarks/gpu_kernels.py [--output benchmarks/results/gpu_kernels.json]
    python benchmarks/gpu_kernels.py --toy        anywhere, in Triton's interpreter, at sizes that measure nothing

LoRA: one batch of rows over 1, 16, 64 and 256 distinct adapters on the query, key and value projection of a model with
the shape of Llama-3.1-8B; exact-1, bf16, and in torch: the adapters' matrices gathered and multiplied by `bmm`, and a loop
over adapters. Paged decode: so many sequences of one context, beside torch's attention over keys and values in one piece.
Linear: exact-1 (16-bit activations, int8 weights), beside torch's bf16 product. Bytes are those that have to move once.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

if __name__ == "__main__" and "--toy" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from inference_parts.machine import machine, seconds
from inference_parts.random_model import LLAMA_8B, TOY
from torch import Tensor

from openledger.kernels.engine.adapters import ModuleWeights, group_shapes
from openledger.kernels.ops.lora_layout import pack_lora
from openledger.kernels.ops.lora_plan import Use
from openledger.kernels.ops.rotary import KvLayer
from openledger.kernels.ops.triton import attention, bf16, linear, lora

Row = dict[str, Any]


class Bench:
    """Sizes and where they run."""

    def __init__(self, toy: bool, rounds: int) -> None:
        self.toy = toy
        self.config = TOY if toy else LLAMA_8B
        self.device = "cpu" if toy else "cuda"
        self.rounds = rounds
        self.rows = 4 if toy else 256
        self.counts = (1, 4) if toy else (1, 16, 64, 256)
        self.ranks = (4,) if toy else (8, 16, 64)
        self.context = 40 if toy else 2048
        self.copy = self._copy()

    def _copy(self) -> float:
        size = (1 << 16) if self.toy else (1 << 30)
        source = torch.zeros(size, dtype=torch.int8, device=self.device)
        target = torch.empty_like(source)
        return 2 * size / seconds(lambda: target.copy_(source), self.rounds)

    def row(self, what: str, who: str, moved: int, work: Callable[[], Any], **more: Any) -> Row:
        spent = seconds(work, self.rounds)
        found = {
            "what": what, "who": who, **more, "microseconds": round(1e6 * spent, 1),
            "gb_per_s": round(moved / spent / 1e9, 3), "of_copy": round(moved / spent / self.copy, 3),
        }  # fmt: skip
        print(json.dumps(found), flush=True)
        return found

    def zeros(self, kind: torch.dtype, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=kind, device=self.device)


def lora_rows(bench: Bench) -> list[Row]:
    config, found = bench.config, []
    modules = ("q_proj", "k_proj", "v_proj")
    for rank in bench.ranks:
        for count in bench.counts:
            random = np.random.default_rng(rank)
            shapes = group_shapes(config)
            widths = {module.name: module.width for module in shapes[0] if module.name in modules}
            parts = {
                (0, name): ModuleWeights(
                    random.integers(-127, 128, (rank, config.hidden)).astype(np.int8), np.full(rank, 1e-4, np.float32),
                    random.integers(-127, 128, (width, rank)).astype(np.int8), np.full(width, 1e-4, np.float32),
                    np.float32(2),
                )
                for name, width in widths.items()
            }  # fmt: skip
            packed = pack_lora(shapes, 1, parts)

            def array(tensor: Tensor) -> Tensor:
                # Each adapter has memory of its own.
                return tensor.to(bench.device, copy=True)

            placed = [packed.place(array) for _ in range(count)]
            each = bench.rows // count
            uses = [Use(at * each, (at + 1) * each, (one,)) for at, one in enumerate(placed)]
            tables = lora.lora_plan(uses, bench.device)
            width = config.qkv_width
            limbs, scales = (
                bench.zeros(torch.int8, 2, bench.rows, config.hidden),
                bench.zeros(torch.float32, bench.rows),
            )
            y, faults = bench.zeros(torch.float32, bench.rows, width), bench.zeros(torch.bool, bench.rows)
            moved = count * packed.data.nbytes + limbs.nbytes + 2 * y.nbytes
            more = {"adapters": count, "rank": rank, "rows": bench.rows}
            for who, run in (("exact-1", lora.lora_run), ("bf16", bf16.lora_run)):
                found.append(
                    bench.row(
                        "LoRA of qkv",
                        who,
                        moved,
                        partial(run, limbs, scales, tables, 0, "qkv", y, faults),
                        **more,
                    )
                )
            found += _lora_in_torch(bench, count, rank, list(widths.values()), more)
    return found


def _lora_in_torch(bench: Bench, count: int, rank: int, widths: list[int], more: Row) -> list[Row]:
    kind, rows = torch.bfloat16, bench.rows
    hidden, each = bench.config.hidden, rows // count
    x, y = bench.zeros(kind, rows, hidden), bench.zeros(kind, rows, sum(widths))
    a = [bench.zeros(kind, count, hidden, rank) for _ in widths]
    b = [bench.zeros(kind, count, rank, width) for width in widths]
    owner = torch.arange(rows, device=bench.device) // each
    edges = np.cumsum([0, *widths]).tolist()
    moved = sum(part.nbytes for part in (*a, *b)) + x.nbytes + 2 * y.nbytes

    def gathered() -> None:
        for at, (down, up) in enumerate(zip(a, b)):
            u = torch.bmm(x[:, None], down[owner])
            y[:, edges[at] : edges[at + 1]] += torch.bmm(u, up[owner])[:, 0]

    def loop() -> None:
        for adapter in range(count):
            mine = slice(adapter * each, (adapter + 1) * each)
            for at, (down, up) in enumerate(zip(a, b)):
                y[mine, edges[at] : edges[at + 1]] += (x[mine] @ down[adapter]) @ up[adapter]

    return [
        bench.row("LoRA of qkv", "torch: gather and bmm, bf16", moved, gathered, **more),
        bench.row("LoRA of qkv", "torch: a loop, bf16", moved, loop, **more),
    ]


def decode_rows(bench: Bench) -> list[Row]:
    config, found, page = bench.config, [], 16
    heads, kv_heads, size = config.heads, config.kv_heads, config.head_size
    for count in bench.counts:
        pages = -(-bench.context // page)
        shape = (count * pages, kv_heads, page)
        tables = torch.randperm(count * pages, device=bench.device).view(count, pages)
        sequences = torch.arange(count, device=bench.device)
        positions = torch.full((count,), bench.context - 1, device=bench.device)
        q, q_scales = bench.zeros(torch.int16, count, heads, size), bench.zeros(torch.float32, count, heads)
        out, faults = bench.zeros(torch.float32, count, heads * size), bench.zeros(torch.bool, count)
        exp = bench.zeros(torch.int32, 55297)
        where = (tables, sequences, positions, exp)
        for who, values, run, entry in (
            ("exact-1", torch.int8, attention.attend, 3 * size + 8), ("bf16", torch.int16, bf16.attend, 4 * size)
        ):  # fmt: skip
            scale = bench.zeros(torch.float32, *shape)
            cache = KvLayer(
                bench.zeros(torch.int16, *shape, size), scale, bench.zeros(values, *shape, size), scale, scale
            )  # fmt: skip
            work = partial(run, q, q_scales, cache, *where, size**-0.5, out, faults)
            moved = count * bench.context * kv_heads * entry
            found.append(bench.row("paged decode", who, moved, work, sequences=count, context=bench.context))
        keys, other = (bench.zeros(torch.bfloat16, count, kv_heads, bench.context, size) for _ in range(2))
        query = bench.zeros(torch.bfloat16, count, heads, 1, size)
        found.append(
            bench.row(
                "paged decode", "torch: attention over one piece, bf16", keys.nbytes + other.nbytes,
                partial(torch.nn.functional.scaled_dot_product_attention, query, keys, other, enable_gqa=True),
                sequences=count, context=bench.context,
            )
        )  # fmt: skip
    return found


def linear_rows(bench: Bench) -> list[Row]:
    config, found = bench.config, []
    outputs, columns = 2 * config.feed_forward, config.hidden
    weight, weight_scales = bench.zeros(torch.int8, outputs, columns), bench.zeros(torch.float32, outputs)
    wide = bench.zeros(torch.bfloat16, outputs, columns)
    for rows in bench.counts:
        limbs, scales = bench.zeros(torch.int8, 2, rows, columns), bench.zeros(torch.float32, rows)
        y, x = bench.zeros(torch.float32, rows, outputs), bench.zeros(torch.bfloat16, rows, columns)
        arguments = (limbs, scales, weight, weight_scales, y)
        moved = weight.nbytes + limbs.nbytes + y.nbytes
        found.append(bench.row("gate and up", "exact-1", moved, partial(linear.linear, *arguments), rows=rows))
        moved = wide.nbytes + x.nbytes + y.nbytes // 2
        found.append(
            bench.row("gate and up", "torch: bf16 product", moved, partial(torch.matmul, x, wide.t()), rows=rows)
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="tiny sizes in Triton's interpreter: figures mean nothing")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not options.toy and not torch.cuda.is_available():
        print("there is no NVIDIA GPU here that torch can use: try --toy", file=sys.stderr)
        return 1
    bench = Bench(options.toy, options.rounds or (1 if options.toy else 30))
    results = [*lora_rows(bench), *decode_rows(bench), *linear_rows(bench)]
    report = {**machine(), "toy": options.toy, "copy_gb_per_s": round(bench.copy / 1e9, 3), "results": results}
    report["not_compared"] = (
        "published multi-LoRA kernels (Punica, S-LoRA, vLLM, SGLang): not among this benchmark's packages"
    )
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

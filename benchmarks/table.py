"""Builds the README's table of figures from the committed results.

Run: python benchmarks/table.py          prints the table
     python benchmarks/table.py --write  puts it into README.md between its two marks
     python benchmarks/table.py --check  exits 1 when README.md is behind the results
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures: made by benchmarks/table.py -->", "<!-- end of figures -->"

Row = tuple[str, str, str, str]


def read(name: str) -> dict[str, Any] | None:
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def evm_rows() -> list[Row]:
    found = read("evm")
    if found is None:
        return []
    rows: list[Row] = []
    for what, row in found["results"].items():
        beside = f"stock py-evm {row['stock_py_evm']:,.1f}" + (
            f", anvil {row['anvil']:,.1f}" if row.get("anvil") else ""
        )
        if row["unit"] == "transactions/s":
            ours = f"{row['ours']:,.0f} transactions per CPU-second"
            rows.append((f"blocks of 400: {what}", ours, beside, f"{row['ratio']:.1f}×"))
        elif what.endswith("import"):
            ours = f"{row['ours']:,.0f} Mgas per CPU-second"
            rows.append((what.removesuffix(" import"), ours, beside, f"{row['ratio']:.0f}×"))
    for size, row in found["microseconds_per_transfer_by_block_size"].items():
        ours, stock = row["ours_import_us"], row["stock_import_us"]
        rows.append(
            (
                f"a transfer imported in a block of {int(size):,}",
                f"{ours:,.0f} µs of CPU",
                f"stock py-evm {stock:,.0f} µs",
                f"{stock / ours:.1f}×",
            )
        )
    for accounts, row in found["microseconds_per_transfer_by_accounts"].items():
        rows.append(
            (
                f"a transfer imported into a state of {int(accounts):,} accounts",
                f"{row['ours_import_us']:,.0f} µs",
                "",
                "",
            )
        )
    return rows


def inference_rows() -> list[Row]:
    found = read("inference")
    rows: list[Row] = []
    if found is None:
        return rows
    for batch, row in found["results"].items():
        speeds = row["tokens_per_s"]
        for phase in ("decode", "prefill"):
            kind = f"{phase}_cpu"
            best = max((name for name in speeds if name != "exact"), key=lambda name: speeds[name][kind])
            rows.append(
                (
                    f"SmolLM2-135M, {phase}, {batch}",
                    f"exact {speeds['exact'][kind]:.0f} tokens per CPU-second",
                    f"the best, {best}, fp32: {speeds[best][kind]:.0f}",
                    f"{row['ratio_to_best'][kind]:.1f}×",
                )
            )
    for batch, row in found["decode_step"].items():
        outside = f"{row['outside_kernels_ms']:.1f} ms of CPU outside its kernels"
        rows.append((f"a decode step of SmolLM2-135M, {batch}", outside, f"of {row['step_ms']:.1f} ms", ""))
    return rows


def gpu_rows() -> list[Row]:
    waiting = "not yet measured: no GPU was available"
    rows: list[Row] = []
    kernels, serving = read("gpu_kernels"), read("gpu_serving")
    if kernels is None:
        for what in ("LoRA shrink and expand, 1 to 256 adapters", "paged decode, 1 to 256 sequences", "int8 linear"):
            rows.append((f"GPU, {what}: share of a copy's bandwidth", waiting, "`benchmarks/gpu_kernels.py`", ""))
    else:
        for row in kernels["results"]:
            if row["who"] in ("exact-1", "bf16"):
                count = row.get("adapters") or row.get("sequences") or row["rows"]
                rank = f", rank {row['rank']}" if "rank" in row else ""
                name = f"{kernels['device']}, {row['what']}, {count}{rank}, {row['who']}"
                rows.append(
                    (
                        name,
                        f"{row['gb_per_s']:,.0f} GB/s",
                        f"a copy {kernels['copy_gb_per_s']:,.0f}",
                        f"{row['of_copy']:.2f}",
                    )
                )
    if serving is None:
        for what in (
            "tokens/s by adapters, 0 to 1,000",
            "first token, adapters 125 times the slots",
            "exact beside bf16",
        ):
            rows.append((f"GPU, the shape of Llama-3.1-8B: {what}", waiting, "`benchmarks/gpu_serving.py`", ""))
    else:
        engine = serving["engine"]
        for exact, fast, ratio in zip(
            engine["exact-1"]["throughput"], engine["bf16"]["throughput"], engine["exact_over_bf16"]
        ):
            name = f"{serving['device']}, {serving['model']}, {exact['adapters']:,} adapters"
            beside = f"our own bf16 {fast['tokens_per_s']:,.0f}"
            rows.append((name, f"exact {exact['tokens_per_s']:,.0f} tokens/s", beside, f"{ratio:.2f}×"))
        crowded = engine["exact-1"]["adapters_over_slots"]
        rows.append(
            (
                f"first token, {crowded['adapters']:,} adapters in {crowded['slots']} slots",
                f"p50 {crowded['with']['ttft_p50_ms']:,.0f} ms, p99 {crowded['with']['ttft_p99_ms']:,.0f} ms",
                f"without adapters p50 {crowded['without']['ttft_p50_ms']:,.0f} ms",
                f"{crowded['cliff']:.2f}×",
            )
        )
    return rows


def audit_rows() -> list[Row]:
    found = read("audit")
    if found is None:
        return []
    tokens, rows = found["answer_tokens"], []
    for what, row in found["results"].items():
        rows.append(
            (
                f"SmolLM2-135M, an answer of {tokens} tokens checked again, {what}",
                f"{row['verify_cpu_s']:.2f} CPU-seconds",
                f"giving it {row['generate_cpu_s']:.2f}",
                f"{row['cpu_ratio']:.1f}× ({row['cpu_answer_ratio']:.1f}× without the prompt)",
            )
        )
    return rows


def perplexity_rows() -> list[Row]:
    return [
        (
            f"perplexity on {found['tokens']:,} tokens{weights}",
            f"exact {found['perplexity_exact']:.3f}",
            f"transformers fp32 {found['perplexity_fp32_transformers']:.3f}",
            f"{found['increase_percent']:+.2f} %",
        )
        for name, weights in (("perplexity", ""), ("perplexity_int4", ", weights of 4 bits"))
        if (found := read(name)) is not None
    ]


def state_rows() -> list[Row]:
    found = read("state")
    if found is None:
        return []
    return [
        (
            f"first read of an account, {size}",
            f"flat table {row['first_read_us']['flat']:.1f} µs",
            f"through the trie {row['first_read_us']['trie']:.1f} µs",
            f"{row['first_read_us']['ratio']:.1f}×",
        )
        for size, row in found["results"].items()
    ]


def derive_rows() -> list[Row]:
    found = (read("derive") or {}).get("results")
    if found is None:
        return []
    chain = found["chain"]
    what = f"{chain['l2_blocks']:,} blocks, {chain['l1_reorgs']} reorgs of L1, {chain['da_failovers']} failovers of DA"
    return [
        (
            f"a chain derived from L1 and DA alone ({what})",
            f"{found['derived_blocks_per_cpu_s']:,.0f} blocks per CPU-second",
            f"executing them alone {found['executed_blocks_per_cpu_s']:,.0f}",
            f"{found['ratio']:.2f}×",
        )
    ]


def rpc_rows() -> list[Row]:
    found = (read("rpc") or {}).get("results")
    if found is None:
        return []
    ours, anvil = found["ours"], found.get("anvil")
    rows: list[Row] = []
    for name, row in ours["load"].items():
        beside = None if anvil is None else anvil["load"][name]
        rows.append(
            (
                f"JSON-RPC, {name}",
                f"{row['server_cpu_us']:,.0f} µs of server CPU",
                "" if beside is None else f"anvil {beside['server_cpu_us']:,.0f} µs",
                "" if beside is None else f"{beside['server_cpu_us'] / row['server_cpu_us']:.2f}×",
            )
        )
    for name, row in found["while_importing"].items():
        floor = f"a server that does nothing, beside a thread that computes: {found['floor']['p99_ms']:.1f} ms"
        alone = row.get("p99_ms_without_waits_for_a_core")
        served = f"p99 {row['p99_ms']:.1f} ms{'' if alone is None else f', {alone:.1f} with a free core'}; aim 10 ms"
        rows.append((f"{name} while full blocks are imported", served, floor, ""))
    sockets = ours["idle_websockets"]
    beside = None if anvil is None else anvil["idle_websockets"]
    rows.append(
        (
            f"an idle WebSocket, of {sockets['sockets']:,}",
            f"{sockets['kib_each']:.0f} KiB",
            "" if beside is None else f"anvil {beside['kib_each']:.0f} KiB",
            "" if beside is None else f"{beside['kib_each'] / sockets['kib_each']:.1f}×",
        )
    )
    return rows


def da_rows() -> list[Row]:
    found = read("da")
    if found is None:
        return []
    published, rows = found["published"], []
    per_core = published["mb_per_s"] / published["cores"]
    theirs = f"EigenDA's client {per_core:.1f} (published: {published['mb_per_s']} on {published['cores']} cores)"
    for size, row in found["sizes"].items():
        ours = row["mb_per_s"]["three commitments"]
        library = row.get("library_three_commitments_s")
        beside = "" if library is None else f"zksnake {row['payload_bytes'] / library / 1e6:.2f}"
        ratio = "" if library is None else f"{library / row['seconds']['three commitments']:.1f}×"
        rows.append((f"EigenDA's three commitments to {size}", f"{ours:.2f} MB per CPU-second", beside, ratio))
        if size == f"{found['three_commitments']['kib']} KiB":
            rows.append(
                (
                    f"EigenDA's three commitments to {size}",
                    f"{ours:.2f} MB per CPU-second",
                    theirs,
                    f"{ours / per_core:.1f}×",
                )
            )
    largest = list(found["sizes"])[-1]
    for step in ("encode", "chunks", "verify", "reconstruct from an eighth"):
        ours = found["sizes"][largest]["mb_per_s"][step]
        rows.append((f"DA, {step}, {largest}", f"{ours:.2f} MB per CPU-second", "", ""))
    for size, row in found["sizes"].items():
        if "chunk proofs" in row["seconds"]:
            spent = row["seconds"]["chunk proofs"]
            rows.append((f"{found['chunks']:,} chunk proofs of {size}", f"{spent:.1f} s of CPU", "", ""))
    slow = found["py_ecc"]
    rows.append(
        (
            f"EigenDA's three commitments to {slow['kib']:g} KiB",
            f"{1e3 * slow['ours_s']:.0f} ms of CPU",
            f"py_ecc {slow['three_commitments_s']:.1f} s",
            f"{slow['ratio']:,.0f}×",
        )
    )
    return rows


def attribution_rows() -> list[Row]:
    found = read("attribution")
    if found is None:
        return []
    rows: list[Row] = []
    for size, row in found["spans"].items():
        what = f"spans of an answer of {found['answer_tokens']} tokens in {int(size):,}"
        peer = row.get("infini_gram_warm_ms")
        beside = "" if peer is None else f"infini-gram {peer:.1f} ms"
        ratio = "" if peer is None else f"{peer / row['warm_ms']:.0f}×"
        rows.append((what, f"{row['warm_ms']:.2f} ms of CPU, {row['cold_ms']:.0f} ms from a cold disk", beside, ratio))
        if "python_scan_ms" in row:
            scan = row["python_scan_ms"]
            rows.append(
                (
                    what,
                    f"{row['warm_ms']:.2f} ms of CPU",
                    f"scan in Python {scan:.0f} ms",
                    f"{scan / row['warm_ms']:.0f}×",
                )
            )
        if "account_bytes" in row:
            rows.append(
                (
                    f"a whole account of it, proved: {row['account_bytes'] / 1000:.0f} kB",
                    f"checked in {row['account_check_ms']:.1f} ms, {row['account_gas']:,.0f} gas",
                    f"{row['least_gas_per_us']:.0f} gas per µs at least, ecrecover {row['ecrecover_gas_per_us']:.0f}",
                    f"{row['least_gas_per_us'] / row['ecrecover_gas_per_us']:.1f}×",
                )
            )
    search = found["retrieval"]
    rows.append(
        (
            f"search in {search['chunks']:,} chunks",
            f"{search['search_ms']:.1f} ms of CPU; aim 5",
            f"numpy {search['numpy_ms']:.0f} ms",
            f"{search['ratio']:.0f}×",
        )
    )
    return rows


def devnet_rows() -> list[Row]:
    found = read("devnet")
    if found is None:
        return []
    rows: list[Row] = []
    aim = found["aim"]["while_serving_mib"]
    for key, state in (
        ("idle_mib", "idle"),
        ("serving_peak_mib", "while serving, peak"),
        ("quickstart_peak_mib", "in the quickstart with its fine-tuning, peak"),
    ):
        if key in found:
            rows.append((f"memory of the whole devnet, {state}", f"{found[key]['together']:,} MiB", f"aim {aim:,}", ""))
    story = found.get("quickstart")
    if story:
        rows.append(("quickstart, wall time", f"{story['total_s'] / 60:.1f} minutes", "", ""))
    return rows


def adapter_rows() -> list[Row]:
    found = read("adapters")
    if found is None:
        return []
    rows: list[Row] = []
    for model, ranks in found["bytes_by_rank"].items():
        for rank in ("8", "16"):
            row = ranks[rank]
            rows.append(
                (
                    f"an adapter of all matrices, rank {rank}, {model}",
                    f"{row['bytes'] / 1e6:.1f} MB, {row['per_gib']:,} in a GiB",
                    f"as fp16 {row['fp16_bytes'] / 1e6:.1f} MB",
                    f"{row['fp16_bytes'] / row['bytes']:.1f}×",
                )
            )
    for count, size in found["resident_set_bytes"]["8"].items():
        if int(count) > 1:
            rows.append((f"{int(count):,} adapters of rank 8 in memory", f"resident set +{size / 1e9:.2f} GB", "", ""))
    for rank, times in found["load_ms"].items():
        rows.append(
            (
                f"an adapter of rank {rank}, read in its integer form from disk",
                f"{times['disk_ms']:.1f} ms",
                f"from its source, hashed and quantised, {times['source_ms']:.0f} ms",
                f"{times['source_ms'] / times['disk_ms']:.1f}×",
            )
        )
    first = found["first_tokens"]
    few, many = first["runs"].values()
    rows.append(
        (
            f"first token with {first['adapters'] // many['slots']} adapters for each slot, median ({first['clients']} clients)",
            f"{many['ttft_p50_cpu_ms']:.0f} ms of CPU",
            f"all on the device {few['ttft_p50_cpu_ms']:.0f} ms",
            f"{first['cliff_p50']:.2f}×",
        )
    )
    return rows


def table() -> str:
    rows = (
        evm_rows()
        + state_rows()
        + rpc_rows()
        + derive_rows()
        + da_rows()
        + inference_rows()
        + audit_rows()
        + adapter_rows()
        + gpu_rows()
        + perplexity_rows()
        + attribution_rows()
        + devnet_rows()
    )
    lines = ["| what | ours | beside it | ratio |", "|---|---|---|---|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def main(arguments: list[str]) -> int:
    made = table()
    if not arguments:
        print(made)
        return 0
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    wanted = f"{before}{BEGIN}\n{made}\n{END}{after}"
    if arguments == ["--check"]:
        if wanted != text:
            print("README.md is behind benchmarks/results: python benchmarks/table.py --write")
            return 1
        return 0
    readme.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The execution client beside stock py-evm, anvil and revm: payments, token transfers, loops, in one run.

All times are CPU time, medians. Ours and py-evm build and import whole blocks from the same plain Prague genesis,
signatures, receipts and all roots included; ours on LevelDB on disk, py-evm in memory. Every block that ours builds is
imported by py-evm and must get the same hash. anvil takes the same transactions by JSON-RPC and mines them (its process's
CPU time; it keeps no tries); revm runs their messages alone. Cold start: the first call of contracts never seen before.
Building from the pool begins with transactions whose senders are known, as a node's are since it admitted them; py-evm gets
such ones too. Also what a block costs by its size and by the size of the state. Writes results/evm.json.

    python benchmarks/evm.py [--rounds N] [--accounts 1000 10000 100000 1000000] [--only PART ...]

Fails if ours is slower than py-evm anywhere. anvil is `npm ci` in tests/clients; without it its column is empty.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from evm_parts.chains import Ours, Stock, timed
from evm_parts.peers import anvil, anvil_binary, revm_seconds
from evm_parts.workloads import (
    FEE_RECIPIENT,
    LOOP_GAS,
    LOOPS,
    Senders,
    genesis,
    loop_address,
    loop_data,
)

from openledger.genesis.genesis import Genesis

TRANSACTIONS = 400
BLOCK_SIZES = (50, 400, 2_000)
Row = dict[str, Any]


def measure(start: Genesis, blocks: list[list[bytes]], *, stock: bool = True) -> dict[str, float]:
    """Median CPU seconds per block by who did what; `ours gas` is gas of the last block."""
    times: dict[str, list[float]] = {"ours build": [], "ours import": []}
    with tempfile.TemporaryDirectory() as folder:
        builder = Ours(Path(folder) / "builder", start, FEE_RECIPIENT)
        importer = Ours(Path(folder) / "importer", start, FEE_RECIPIENT)
        stock_builder, stock_importer = (Stock(start), Stock(start)) if stock else (None, None)
        gas = 0
        for raw in blocks:
            block = timed(times["ours build"], builder.build, raw)
            builder.check(block, len(raw))
            gas = block.header.gas_used
            encoded = block.encode()
            timed(times["ours import"], importer.import_, encoded)
            if stock_builder is not None and stock_importer is not None:
                stock_hash = timed(times.setdefault("stock import", []), stock_importer.import_, encoded)
                assert stock_hash == block.hash, "py-evm gets another block"
                timed(times.setdefault("stock build", []), stock_builder.build, raw, block)
        builder.close()
        importer.close()
    return {"gas": gas, **{name: statistics.median(values) for name, values in times.items()}}


def measure_from_pool(start: Genesis, blocks: list[list[bytes]]) -> dict[str, float]:
    """As `measure`, of building from transactions that are decoded, their senders known."""
    times: dict[str, list[float]] = {"ours": [], "stock": []}
    with tempfile.TemporaryDirectory() as folder:
        ours, stock = Ours(Path(folder), start, FEE_RECIPIENT), Stock(start)
        for raw in blocks:
            block = timed(times["ours"], ours.build_from, ours.decode(raw, with_senders=True))
            ours.check(block, len(raw))
            timed(times["stock"], stock.build_from, stock.decode(raw, with_senders=True), block)
        ours.close()
    return {name: statistics.median(values) for name, values in times.items()}


def anvil_seconds(start: Genesis, blocks: list[list[bytes]]) -> float | None:
    if anvil_binary() is None:
        return None
    with anvil(start) as server:
        return statistics.median([server.seconds(raw) for raw in blocks])


def revm_median(start: Genesis, blocks: list[list[bytes]]) -> float:
    return statistics.median([revm_seconds(start, raw) for raw in blocks[:3]])


def compare(
    rows: dict[str, Row], what: str, amount: float, unit: str, start: Genesis, blocks: list[list[bytes]]
) -> None:
    """Rows for building and importing; figures are `unit` per CPU second."""
    medians = measure(start, blocks)
    others = {"anvil": anvil_seconds(start, blocks), "revm": revm_median(start, blocks)}
    for action in ("build", "import"):
        row = _row(unit, *(amount / medians[f"{who} {action}"] for who in ("ours", "stock")))
        row |= {name: round(amount / seconds, 1) if seconds else None for name, seconds in others.items()}
        _show(rows, f"{what} {action}", row)


def _row(unit: str, ours: float, stock: float) -> Row:
    return {
        "unit": unit,
        "ours": round(ours, 1),
        "stock_py_evm": round(stock, 1),
        "ratio": round(ours / stock, 2),
    }


def _show(rows: dict[str, Row], name: str, row: Row) -> None:
    rows[name] = row
    anvil, revm = (f"{row[who]:,.1f}" if row.get(who) else "-" for who in ("anvil", "revm"))
    print(
        f"{name:36}{row['unit']:>16}{row['ours']:12,.1f}{row['stock_py_evm']:12,.1f}{row['ratio']:8.2f}×{anvil:>12}{revm:>14}",
        flush=True,
    )


def payments(rows: dict[str, Row], rounds: int) -> None:
    start = genesis()
    for kind in ("transfer", "token"):
        senders = Senders()
        blocks = [senders.payments(number, TRANSACTIONS, kind) for number in range(rounds)]
        compare(rows, f"{kind}s", TRANSACTIONS, "transactions/s", start, blocks)
        medians = measure_from_pool(start, blocks)
        row = _row("transactions/s", TRANSACTIONS / medians["ours"], TRANSACTIONS / medians["stock"])
        _show(rows, f"{kind}s build from the pool", row)


def loops(rows: dict[str, Row], rounds: int) -> None:
    start = genesis()
    for name in LOOPS:
        senders = Senders()
        blocks = [
            [senders.sign(number, loop_address(name), gas=LOOP_GAS, data=loop_data(name))] for number in range(rounds)
        ]
        with tempfile.TemporaryDirectory() as folder:
            once = Ours(Path(folder), start, FEE_RECIPIENT)
            gas = once.build(blocks[0]).header.gas_used
            once.close()
        compare(rows, name, gas / 1e6, "Mgas/s", start, blocks)


def cold(rows: dict[str, Row]) -> None:
    """Contracts that were never run in this process, each called once."""
    start = genesis(cold_contracts=TRANSACTIONS)
    blocks = [Senders().payments(0, TRANSACTIONS, "cold")]
    compare(rows, "first calls of contracts", TRANSACTIONS, "transactions/s", start, blocks)


def block_sizes(rounds: int) -> dict[str, Row]:
    """Microseconds per transaction of building and importing by the size of the block."""
    found: dict[str, Row] = {}
    for size in BLOCK_SIZES:
        senders = Senders()
        blocks = [senders.payments(number, size, "transfer") for number in range(max(2, rounds // 2))]
        medians = measure(genesis(), blocks)
        found[str(size)] = {
            name.replace(" ", "_") + "_us": round(medians[name] / size * 1e6, 1)
            for name in ("ours build", "ours import", "stock build", "stock import")
        }
        print(f"block of {size:>9,} transfers: {_microseconds(found[str(size)])}", flush=True)
    return found


def state_sizes(rounds: int, accounts: list[int]) -> dict[str, Row]:
    """The same by the number of accounts in the state, of which each transfer goes to another; ours alone."""
    found: dict[str, Row] = {}
    for number in accounts:
        senders = Senders()
        blocks = [senders.payments(block, TRANSACTIONS, "transfer", number) for block in range(max(3, rounds // 2))]
        medians = measure(genesis(accounts=number), blocks, stock=False)
        found[str(number)] = {
            name.replace(" ", "_") + "_us": round(medians[name] / TRANSACTIONS * 1e6, 1)
            for name in ("ours build", "ours import")
        }
        print(f"state of {number:>9,} accounts:  {_microseconds(found[str(number)])}", flush=True)
    return found


def _microseconds(row: Row) -> str:
    return ", ".join(f"{name.removesuffix('_us').replace('_', ' ')} {value:,.0f} µs" for name, value in row.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="blocks of payments; loops take a third")
    parser.add_argument("--accounts", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    parts = ("payments", "loops", "cold", "block-sizes", "state-sizes")
    parser.add_argument("--only", nargs="*", choices=parts, default=parts, help="these parts; nothing is written then")
    arguments = parser.parse_args()
    if anvil_binary() is None:
        print("anvil is not there: npm ci --prefix tests/clients; its column stays empty")
    rows: dict[str, Row] = {}
    print(f"{'':36}{'':>16}{'ours':>12}{'py-evm':>12}{'ratio':>9}{'anvil':>12}{'revm, bare':>14}")
    by_part: dict[str, Callable[[], None]] = {
        "payments": lambda: payments(rows, arguments.rounds),
        "loops": lambda: loops(rows, max(2, arguments.rounds // 3)),
        "cold": lambda: cold(rows),
    }
    for part, work in by_part.items():
        if part in arguments.only:
            work()
    sizes = block_sizes(arguments.rounds) if "block-sizes" in arguments.only else {}
    states = state_sizes(arguments.rounds, arguments.accounts) if "state-sizes" in arguments.only else {}
    if set(arguments.only) == set(parts):
        _write(
            {
                "what": f"medians of CPU time; blocks of {TRANSACTIONS} transactions, of one for loops",
                "machine": {
                    "processor": _processor(),
                    "cores": os.cpu_count(),
                    "system": platform.platform(),
                    "python": platform.python_version(),
                },
                "versions": {
                    name: importlib.metadata.version(name) for name in ("py-evm", "pyrevm", "plyvel", "coincurve")
                },
                "rounds": arguments.rounds,
                "results": rows,
                "microseconds_per_transfer_by_block_size": sizes,
                "microseconds_per_transfer_by_accounts": states,
            }
        )
    if rows and min(row["ratio"] for row in rows.values()) < 1:
        sys.exit("slower than stock py-evm")


def _write(document: dict[str, Any]) -> None:
    path = Path(__file__).parent / "results" / "evm.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()

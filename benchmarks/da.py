"""Data availability by blob size and by worker processes: MB/s of encoding, commitments, verifying, chunks and their proofs.

Blobs are committed to as on a real network, over SRS files of EigenDA's form (made here, over a secret of ours: the work is
the same). Beside ours stand the library's own sums (zksnake), py_ecc at a size it can do, and a number that is not measured
here: the 2.8 MB/s that EigenDA publishes for all three commitments to 1 MiB by its own client, on four cores of an EPYC 7R13.

    python benchmarks/da.py                           32 KiB to 2 MiB; writes results/da.json
    python benchmarks/da.py --sizes 1024,16384 --workers 1,2,4,8

Figures are medians of CPU time, so MB/s are per core. A payload's bytes count, not those of its padded blob. Fails if the
commitments of the blob nearest to 1 MiB are slower per core than EigenDA's published figure is per core, or if a doubling of
the blob costs much more than n log n allows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from py_ecc import optimized_bn128 as slow_curve

from openledger.rollup.da import curve, native
from openledger.rollup.da.chunk_proofs import prove_chunks, verify_chunks
from openledger.rollup.da.chunks import ChunkParameters, encode_chunks, reconstruct
from openledger.rollup.da.encoding import (
    blob_from_encoded_payload,
    decode_payload,
    elements_to_bytes,
    encode_payload,
    encoded_payload_from_blob,
    max_payload_length,
)
from openledger.rollup.da.srs import SRS_ORDER, DevelopmentSrs, FileSrs

RESULT = Path(__file__).parent / "results" / "da.json"
PUBLISHED = {
    "mb_per_s": 2.8,
    "cores": 4,
    "what": "EigenDA's client, all three commitments to 1 MiB, EPYC 7R13 (published)",
}
CHANCE = random.Random(1)
MOST_PER_DOUBLING = 1.35
"""Times n log n by which the cost of a step may grow when the blob doubles; the clock of a busy machine is in it."""


class BenchmarkSrs(FileSrs):
    """Over a secret of ours, whose shifted points the published ones are not."""

    def shifted_g1(self, length: int) -> Any:
        return DevelopmentSrs().shifted_g1(length)


def write_files(folder: Path, count: int) -> dict[str, str]:
    """SRS files of so many points; their SHA-256 by name."""
    tau, order = DevelopmentSrs.tau, curve.GROUP_ORDER
    scalars = {"first": [1], "last": [pow(tau, SRS_ORDER - count, order)]}
    for powers in scalars.values():
        while len(powers) < count:
            powers.append(powers[-1] * tau % order)
    digests = {}
    for name, generator, powers in (
        ("g1.point", curve.g1_generator(), scalars["first"]),
        ("g2.point", curve.g2_generator(), scalars["first"]),
        ("g2.trailing.point", curve.g2_generator(), scalars["last"]),
    ):
        if native.is_available():
            from openledger.rollup.da.native import points

            data = points.compressed(points.multiples(generator, points.scalars(powers)))
        else:
            data = b"".join(curve.to_compressed(generator * power) for power in powers)
        (folder / name).write_bytes(data)
        digests[name] = hashlib.sha256(data).hexdigest()
    return digests


def seconds(work: Callable[[], Any], repeat: int) -> float:
    """Median CPU time, after one run that is not counted. What takes longer than a second is run once more only."""
    times: list[float] = []
    for _ in range(repeat + 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
        if len(times) == 2 and times[1] > 1:
            break
    return statistics.median(times[1:])


def measure(size: int, srs: FileSrs, parameters: ChunkParameters, repeat: int, proofs: bool) -> dict[str, Any]:
    """CPU seconds of every step with the fullest payload of a blob of `size` bytes."""
    payload = CHANCE.randbytes(max_payload_length(size))
    coefficients = blob_from_encoded_payload(encode_payload(payload))
    chunks = encode_chunks(coefficients, parameters)
    commitment = srs.commit_with_length(coefficients)
    blob = elements_to_bytes(coefficients)
    needed = parameters.needed(len(coefficients))
    left = {index: chunks[index] for index in CHANCE.sample(range(parameters.chunks), needed)}
    if reconstruct(left, len(coefficients), parameters) != coefficients:
        raise SystemExit("what was reconstructed is not the blob")

    def verify() -> None:
        from openledger.rollup.da.verification import verify_length

        verify_length(commitment, srs)
        if srs.commit(blob_from_encoded_payload(encode_payload(payload))) != commitment.commitment:
            raise SystemExit("the commitment is not the blob's")

    found = {
        "encode": seconds(lambda: blob_from_encoded_payload(encode_payload(payload)), repeat),
        "decode": seconds(lambda: decode_payload(encoded_payload_from_blob(blob, len(coefficients))), repeat),
        "chunks": seconds(lambda: encode_chunks(coefficients, parameters), repeat),
        "commitment": seconds(lambda: srs.commit(coefficients), repeat),
        "three commitments": seconds(lambda: srs.commit_with_length(coefficients), repeat),
        "verify": seconds(verify, repeat),
        "reconstruct from an eighth": seconds(lambda: reconstruct(left, len(coefficients), parameters), repeat),
    }
    row: dict[str, Any] = {"elements": len(coefficients), "payload_bytes": len(payload)}
    if proofs:
        times = []
        for _ in range(2):  # the first works out what later blobs of the length share
            start = time.process_time()
            made = prove_chunks(coefficients, chunks, parameters, srs)
            times.append(time.process_time() - start)
        row["first_chunk_proofs_s"], found["chunk proofs"] = round(times[0], 4), times[1]
        kept = {index: (made[index], chunks[index]) for index in left}
        found["verify an eighth of the chunks"] = seconds(
            lambda: verify_chunks(commitment.commitment, kept, len(coefficients), parameters, srs), 1
        )
    row["seconds"] = {name: round(value, 6) for name, value in found.items()}
    row["mb_per_s"] = {name: round(len(payload) / value / 1e6, 4) for name, value in found.items()}
    return row


def library_seconds(size: int, srs: FileSrs) -> float:
    """All three commitments by the library's own sums, its points made beforehand."""
    from openledger.rollup.da.native import points

    count = size // 32
    coefficients = [CHANCE.randrange(curve.GROUP_ORDER) for _ in range(count)]
    first, second, third = (
        [points.to_library(row) for row in srs.compiled_points(name, count)]
        for name in ("g1.point", "g2.point", "g2.trailing.point")
    )
    expected = srs.commit_with_length(coefficients)
    start = time.process_time()
    found = (
        curve.g1_sum_of_products(first, coefficients),
        curve.g2_sum_of_products(second, coefficients),
        curve.g2_sum_of_products(third, coefficients),
    )
    spent = time.process_time() - start
    if (curve.g1_to_integers(found[0]), *map(curve.g2_to_integers, found[1:])) != (
        expected.commitment,
        expected.length_commitment,
        expected.length_proof,
    ):
        raise SystemExit("the library gives other commitments")
    return spent


def slow_seconds(size: int) -> float:
    """All three commitments by py_ecc, its points made beforehand."""
    count, tau, order = size // 32, DevelopmentSrs.tau, curve.GROUP_ORDER
    last = pow(tau, SRS_ORDER - count, order)
    first = [pow(tau, exponent, order) for exponent in range(count)]
    points = {
        "commitment": [slow_curve.multiply(slow_curve.G1, power) for power in first],
        "length commitment": [slow_curve.multiply(slow_curve.G2, power) for power in first],
        "length proof": [slow_curve.multiply(slow_curve.G2, power * last % order) for power in first],
    }
    coefficients = [CHANCE.randrange(order) for _ in range(count)]
    start = time.process_time()
    sums = []
    for of in points.values():
        total = slow_curve.multiply(of[0], coefficients[0])
        for point, coefficient in zip(of[1:], coefficients[1:]):
            total = slow_curve.add(total, slow_curve.multiply(point, coefficient))
        sums.append(total)
    spent = time.process_time() - start
    expected = DevelopmentSrs().commit_with_length(coefficients)
    x, y = slow_curve.normalize(sums[0])
    if (int(x), int(y)) != (expected.commitment.x, expected.commitment.y):
        raise SystemExit("py_ecc gives another commitment")
    return spent


def work(folder: Path, size: int, blobs: int, digests: dict[str, str]) -> None:
    """A worker process: says when it is ready, then encodes and commits to blobs and says what CPU time they took."""
    srs = BenchmarkSrs(folder, (folder / "g1.point").stat().st_size // 32, digests)
    payload = CHANCE.randbytes(max_payload_length(size))

    def once() -> None:
        srs.commit_with_length(blob_from_encoded_payload(encode_payload(payload)))

    once()
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.process_time()
    for _ in range(blobs):
        once()
    print(json.dumps(time.process_time() - start), flush=True)


def by_workers(folder: Path, size: int, counts: list[int], digests: dict[str, str]) -> dict[str, Any]:
    """MB/s of encoding and all three commitments with so many processes at once."""
    blobs = 2
    rows: dict[str, Any] = {}
    for count in counts:
        command = [sys.executable, __file__, "--worker", str(folder), str(size), str(blobs), json.dumps(digests)]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]
        try:
            for process in processes:
                if process.stdout is None or process.stdout.readline() != "ready\n":
                    raise SystemExit("a worker process did not start")
            start = time.monotonic()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            spent = [json.loads(process.stdout.readline()) for process in processes if process.stdout]
            wall = time.monotonic() - start
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        handled = count * blobs * max_payload_length(size) / 1e6
        rows[str(count)] = {
            "mb_per_cpu_s": round(handled / sum(spent), 4),
            "mb_per_s_wall": round(handled / wall, 4),
            "load": round(os.getloadavg()[0], 1),
        }
        print(f"{count} worker processes, {size >> 10} KiB", rows[str(count)], flush=True)
    return rows


def growth(rows: dict[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Of each step, for each pair of sizes: the exponent of the cost, and the cost per n log n beside the smaller size's."""
    found: dict[str, list[dict[str, float]]] = {}
    ordered = sorted(rows.values(), key=lambda row: int(row["elements"]))
    for small, large in pairwise(ordered):
        n, m = small["elements"], large["elements"]
        for name, before in small["seconds"].items():
            if name not in large["seconds"]:
                continue
            ratio = large["seconds"][name] / before
            found.setdefault(name, []).append(
                {
                    "from": n,
                    "to": m,
                    "exponent": round(math.log(ratio) / math.log(m / n), 3),
                    "over_n_log_n": round(ratio / (m * math.log2(m) / (n * math.log2(n))), 3),
                }
            )
    return found


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--worker"]:
        work(Path(arguments[1]), int(arguments[2]), int(arguments[3]), json.loads(arguments[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="32,128,1024,2048", help="KiB of blobs")
    parser.add_argument("--workers", default="1,2", help="numbers of worker processes")
    parser.add_argument("--chunks", type=int, default=8_192)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--proofs", default="128,1024", help="KiB of blobs whose chunks are proved")
    parser.add_argument("--py-ecc-elements", type=int, default=64, help="length of the blob py_ecc commits to")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    sizes = [1_024 * int(size) for size in options.sizes.split(",")]
    parameters = ChunkParameters(options.chunks, 8, options.chunks * 3_537 // 8_192)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slow_size = 32 * options.py_ecc_elements
        points = max(*sizes, slow_size) // 32
        digests = write_files(folder, points)
        srs = BenchmarkSrs(folder, points, digests)
        rows: dict[str, Any] = {}
        for size in sizes:
            proofs = str(size >> 10) in options.proofs.split(",")
            rows[f"{size >> 10} KiB"] = row = measure(size, srs, parameters, options.repeat, proofs)
            print(f"{size >> 10} KiB", json.dumps(row["mb_per_s"]), flush=True)
        nearest = min(sizes, key=lambda size: abs(math.log2(size) - 20))
        if native.is_available():
            for size in sizes:
                row = rows[f"{size >> 10} KiB"]
                row["library_three_commitments_s"] = round(library_seconds(size, srs), 6)
        coefficients = [CHANCE.randrange(curve.GROUP_ORDER) for _ in range(slow_size // 32)]
        ours = seconds(lambda: srs.commit_with_length(coefficients), 3)
        slow = slow_seconds(slow_size)
        workers = by_workers(folder, nearest, [int(count) for count in options.workers.split(",")], digests)
    row = rows[f"{nearest >> 10} KiB"]
    per_core = row["mb_per_s"]["three commitments"]
    result = {
        "machine": f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1),
        "versions": {package: version(package) for package in ("zksnake", "numba", "py-ecc", "numpy")},
        "compiled": native.is_available(),
        "chunks": parameters.chunks,
        "sizes": rows,
        "growth": growth(rows),
        "py_ecc": {
            "kib": slow_size / 1_024,
            "three_commitments_s": round(slow, 4),
            "ours_s": round(ours, 6),
            "ratio": round(slow / ours, 1),
        },
        "published": PUBLISHED,
        "three_commitments": {
            "kib": nearest >> 10,
            "mb_per_cpu_s": per_core,
            "beside_published": round(per_core / PUBLISHED["mb_per_s"], 3),
            "beside_published_per_core": round(per_core * PUBLISHED["cores"] / PUBLISHED["mb_per_s"], 3),
        },
        "workers": workers,
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for step, pairs in result["growth"].items():
        print(
            f"{step}: exponents {[pair['exponent'] for pair in pairs]}, over n log n {[pair['over_n_log_n'] for pair in pairs]}"
        )
    print("py_ecc", result["py_ecc"])
    print("three commitments", result["three_commitments"])
    failed = []
    if options.out == RESULT and result["three_commitments"]["beside_published_per_core"] < 1:
        failed.append("the commitments are slower per core than EigenDA's published figure is per core")
    for step in ("three commitments", "chunks", "reconstruct from an eighth"):
        worst = max((pair["over_n_log_n"] for pair in result["growth"].get(step, ())), default=0)
        if options.out == RESULT and worst > MOST_PER_DOUBLING:
            failed.append(f"{step}: {worst} times what n log n allows from one size to the next")
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a precompile can cost: CPU time of the largest call that 60,000,000 gas pays for, and one usual call beside py-evm's.

Prices are Prague's; MODEXP also at Byzantium's and Osaka's, at whatever sizes of numbers take longest. Inputs are distinct valid
points, so nothing is found in a cache. Writes results/precompiles.json.

    python benchmarks/precompiles.py
    python benchmarks/precompiles.py BN254       again only the calls with that in their name

BN254_KZG, which is ours, stands among them: once over EigenDA's ceremony and once over what its caller names.

Fails if a call takes more than two seconds, if a usual call takes longer than in py-evm, or if a unit of gas buys more time
in BN254_KZG than in a pairing.
"""

from __future__ import annotations

import json
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eth.vm.forks.prague.computation import PragueComputation
from py_arkworks_bls12381 import G1Point, G2Point, Scalar
from zksnake._algebra import ec_bn254

from openledger.evm_ext.precompiles import PRECOMPILES
from openledger.evm_ext.precompiles.bn254 import g2_from_bytes
from openledger.evm_ext.precompiles.bn254_kzg import GROUP_ORDER
from openledger.evm_ext.precompiles.ethereum import precompiles_at
from openledger.evm_ext.precompiles.precompile import Precompile
from openledger.evm_ext.signatures import sign_digest
from openledger.genesis import predeploys
from openledger.genesis.hardforks import Hardfork

GAS = 60_000_000
MOST_SECONDS = 2.0
RESULT = Path(__file__).parent / "results" / "precompiles.json"
CHANCE = random.Random(1)
MODEXP_SIZES = (1, 8, 16, 24, 32, 64, 128, 256, 1_024, 4_096, 16_384)


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def padded(encoded: bytes) -> bytes:
    return b"".join(bytes(16) + encoded[start : start + 48] for start in range(0, len(encoded), 48))


def bls_g1() -> bytes:
    return padded((G1Point() * Scalar(CHANCE.getrandbits(250))).to_xy_bytes_be())


def bls_g2() -> bytes:
    return padded((G2Point() * Scalar(CHANCE.getrandbits(250))).to_xy_bytes_be())


def bn_g1() -> bytes:
    point = ec_bn254.g1() * CHANCE.getrandbits(250)
    return word(point.x) + word(point.y)


def bn_g2() -> bytes:
    point = ec_bn254.g2() * CHANCE.getrandbits(250)
    return word(point.x[1]) + word(point.x[0]) + word(point.y[1]) + word(point.y[0])


def signature() -> bytes:
    digest = CHANCE.randbytes(32)
    parity, r, s = sign_digest(digest, CHANCE.randbytes(32))
    return digest + word(27 + parity) + word(r) + word(s)


def many(count: int, make: Callable[[], bytes]) -> bytes:
    return b"".join(make() for _ in range(count))


def affordable(gas: Callable[[int], int], most: int = 1 << 40) -> int:
    """The largest number whose price is not above `GAS`."""
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        low, most = (middle, most) if gas(middle) <= GAS else (low, middle - 1)
    return low


def calls() -> Iterator[tuple[str, bytes, bytes, bytes]]:
    """(name, address, a usual input, the largest input)."""
    yield "ECRECOVER", predeploys.ECRECOVER, signature(), signature()
    yield "SHA256", predeploys.SHA256, bytes(64), bytes(32 * ((GAS - 60) // 12))
    yield "RIPEMD160", predeploys.RIPEMD160, bytes(64), bytes(32 * ((GAS - 600) // 120))
    yield "BN254 addition", predeploys.BN254_ADD, bn_g1() + bn_g1(), bn_g1() + bn_g1()
    yield "BN254 product", predeploys.BN254_MUL, bn_g1() + word(2**256 - 1), bn_g1() + word(2**256 - 1)

    def pair() -> bytes:
        return bn_g1() + bn_g2()

    yield "BN254 pairing", predeploys.BN254_PAIRING, pair(), many((GAS - 45_000) // 34_000, pair)
    rest = CHANCE.randbytes(208) + b"\1"
    yield "BLAKE2F", predeploys.BLAKE2F, b"\0\0\0\x0c" + rest, GAS.to_bytes(4, "big") + rest
    yield "BLS12-381 G1 addition", predeploys.BLS12_G1ADD, bls_g1() + bls_g1(), bls_g1() + bls_g1()
    yield "BLS12-381 G2 addition", predeploys.BLS12_G2ADD, bls_g2() + bls_g2(), bls_g2() + bls_g2()

    def term1() -> bytes:
        return bls_g1() + CHANCE.randbytes(32)

    def term2() -> bytes:
        return bls_g2() + CHANCE.randbytes(32)

    def bls_pair() -> bytes:
        return bls_g1() + bls_g2()

    yield "BLS12-381 G1 sum", predeploys.BLS12_G1MSM, term1(), many(GAS * 1_000 // (12_000 * 519), term1)
    yield "BLS12-381 G2 sum", predeploys.BLS12_G2MSM, term2(), many(GAS * 1_000 // (22_500 * 524), term2)
    yield "BLS12-381 pairing", predeploys.BLS12_PAIRING_CHECK, bls_pair(), many((GAS - 37_700) // 32_600, bls_pair)
    number = padded(b"\1" * 48)
    yield "BLS12-381 map to G1", predeploys.BLS12_MAP_FP_TO_G1, number, number
    yield "BLS12-381 map to G2", predeploys.BLS12_MAP_FP2_TO_G2, number * 2, number * 2
    yield "P256VERIFY", predeploys.P256VERIFY, CHANCE.randbytes(160), p256()
    for name, form in (("BN254_KZG, the ceremony", 0), ("BN254_KZG, named by the caller", 1)):
        yield name, predeploys.BN254_KZG, kzg(form), kzg(form)


def kzg(form: int) -> bytes:
    """An opening of a commitment over a tau of its own: true under version 1, false under version 0, as much work."""
    tau, value, z, y = (CHANCE.randrange(GROUP_ORDER) for _ in range(4))
    quotient = (value - y) * pow(tau - z, -1, GROUP_ORDER) % GROUP_ORDER
    commitment, proof = ec_bn254.g1() * value, ec_bn254.g1() * quotient
    numbers = [commitment.x, commitment.y, z, y, proof.x, proof.y]
    if form == 1:
        tau_g2 = ec_bn254.g2() * tau
        numbers += [tau_g2.x[1], tau_g2.x[0], tau_g2.y[1], tau_g2.y[0]]
    return bytes([form]) + b"".join(word(number) for number in numbers)


def p256() -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    key = ec.derive_private_key(CHANCE.getrandbits(250), ec.SECP256R1())
    digest = CHANCE.randbytes(32)
    r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))))
    public = key.public_key().public_numbers()
    return digest + word(r) + word(s) + word(public.x) + word(public.y)


def modexp_input(size: int, exponent_size: int, parity: int) -> bytes:
    modulus = bytearray(CHANCE.randbytes(size))
    modulus[0] |= 0x80
    modulus[-1] = modulus[-1] & 0xFE | parity
    lengths = word(size) + word(exponent_size) + word(size)
    return lengths + b"\xff" * size + b"\xff" * exponent_size + bytes(modulus)


def worst_modexp(fork: Hardfork) -> tuple[float, int, int]:
    """(seconds, bytes of the numbers, bytes of the exponent) of the slowest, with the memory for its input paid."""
    price = precompiles_at(fork, False)[predeploys.MODEXP].gas
    worst = (0.0, 0, 0)
    for size in MODEXP_SIZES:
        if fork == Hardfork.OSAKA and size > 1_024:
            continue

        def gas(exponent_size: int, size: int = size) -> int:
            words = (exponent_size + 2 * size + 127) // 32
            head = word(size) + word(exponent_size) + word(size) + b"\xff" * (size + 32)
            return price(head) + 3 * words + words * words // 512

        exponent_size = affordable(gas, 1_024 if fork == Hardfork.OSAKA else 1 << 24)
        if exponent_size:
            for parity in (0, 1):
                data = modexp_input(size, exponent_size, parity)
                worst = max(worst, (seconds(fork, predeploys.MODEXP, data, 1), size, exponent_size))
    return worst


def precompile(fork: Hardfork, address: bytes) -> Precompile:
    """Ethereum's, or ours."""
    found: Any = PRECOMPILES.get(address) or precompiles_at(fork, address == predeploys.P256VERIFY)[address]
    return found


def seconds(fork: Hardfork, address: bytes, data: bytes, repeat: int) -> float:
    """Least CPU time of a call."""
    run = precompile(fork, address).run
    times = []
    for _ in range(repeat):
        g2_from_bytes.cache_clear()
        start = time.process_time()
        run(data)
        times.append(time.process_time() - start)
    return min(times)


def seconds_in_pyevm(address: bytes, data: bytes) -> float | None:
    stock: Any = PragueComputation.get_precompiles().get(address)
    if stock is None:
        return None
    call = SimpleNamespace(
        msg=SimpleNamespace(data=data, data_as_bytes=data), output=b"", consume_gas=lambda *_, **__: None
    )
    times = []
    for _ in range(3):
        start = time.process_time()
        stock(call)
        times.append(time.process_time() - start)
    return min(times)


def main(only: str = "") -> int:
    rows: dict[str, dict[str, float | int | None]] = json.loads(RESULT.read_text())["calls"] if only else {}
    for name, address, usual, largest in calls():
        if only not in name:
            continue
        mine, theirs = seconds(Hardfork.PRAGUE, address, usual, 80), seconds_in_pyevm(address, usual)
        longest = seconds(Hardfork.PRAGUE, address, largest, 1 if len(largest) > 10_000 else 80)
        rows[name] = {
            "usual_ms": round(1_000 * mine, 4),
            "pyevm_ms": None if theirs is None else round(1_000 * theirs, 4),
            "times_pyevm": None if theirs is None else round(theirs / mine, 1),
            "gas_per_us": round(precompile(Hardfork.PRAGUE, address).gas(usual) / (1e6 * mine), 1),
            "largest_bytes": len(largest),
            "largest_ms": round(1_000 * longest, 3),
        }
        print(f"{name:24}", rows[name], flush=True)
    for fork in () if only else (Hardfork.BYZANTIUM, Hardfork.BERLIN, Hardfork.OSAKA):
        longest, size, exponent_size = worst_modexp(fork)
        row = {"largest_ms": round(1_000 * longest, 3), "number_bytes": size, "exponent_bytes": exponent_size}
        rows[f"MODEXP at {fork.name.capitalize()}"] = row
        print(f"MODEXP at {fork.name:14}", row, flush=True)
    packages = ("coincurve", "gmpy2", "zksnake", "py-arkworks-bls12381", "cryptography", "py-evm")
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "versions": {package: version(package) for package in packages},
        "gas": GAS,
        "calls": rows,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    slow = [name for name, row in rows.items() if (row["largest_ms"] or 0) > 1_000 * MOST_SECONDS]
    behind = [name for name, row in rows.items() if (row.get("times_pyevm") or 1) < 0.9]
    pairing = rows["BN254 pairing"]["gas_per_us"] or 0
    cheap = [name for name, row in rows.items() if name.startswith("BN254_KZG") and (row["gas_per_us"] or 0) < pairing]
    for name in cheap:
        print(f"{name}: a unit of gas buys more time than in a pairing", file=sys.stderr)
    for name in slow:
        print(f"{name}: more than {MOST_SECONDS} s", file=sys.stderr)
    for name in behind:
        print(f"{name}: slower than py-evm", file=sys.stderr)
    return 1 if slow or behind or cheap else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))

"""BN254_KZG at 0x…A704: whether the polynomial behind a KZG commitment over BN254, such as an EigenDA blob's, takes a
value at a point.

Input: u8 version || commitment || z || y || proof, numbers of 32 bytes, big endian, points x || y as ECADD takes them;
version 1 continues with tau G2, x1 || x0 || y1 || y0 as ECPAIRING takes it. Version 0 is for commitments over the
ceremony whose files EigenDA publishes; with version 1 the caller says over which. Output: a word, 1 or 0. Malformed
input fails the call.

The proof is [(p(tau) - y) / (tau - z)] G1, so what is checked is e(C - y G1 + z proof, G2) = e(proof, tau G2).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from zksnake._algebra import ec_bn254

from openledger.evm_ext.precompiles.bn254 import g1_coordinates, g2_point, pairings_are_one
from openledger.evm_ext.precompiles.precompile import PrecompileFailed

CEREMONY: Final = 0
NAMED_BY_CALLER: Final = 1

GROUP_ORDER: Final = 21888242871839275222246405745257275088548364400416034343698204186575808495617
INPUT_BYTES: Final = {CEREMONY: 193, NAMED_BY_CALLER: 321}

CEREMONY_GAS: Final = 115_000
NAMED_BY_CALLER_GAS: Final = 140_000

# tau G2 of Perpetual Powers of Tau, challenge 85: the first of EigenDA's g2.point after the generator.
CEREMONY_TAU_G2: Final = bytes.fromhex(
    "172aa93c41f16e1e04d62ac976a5d945f4be0acab990c6dc19ac4a7cf68bf77b"
    "2ae0c8c3a090f7200ff398ee9845bbae8f8c1445ae7b632212775f60a0e21600"
    "1754a9fc3b7e4da9197c283c7401773208190c5555caf254e644e99c29366704"
    "1459fe6cc8a1222fd4290864ff9e47d4b8cf7a403593c7107c39538ddefd857e"
)

_COMMITMENT, _Z, _Y, _PROOF, _TAU_G2 = 1, 65, 97, 129, 193


def gas(data: bytes) -> int:
    """The price: what the caller names has to be checked to be of the subgroup. Any unknown version costs as much as 0."""
    return NAMED_BY_CALLER_GAS if data[:1] == bytes((NAMED_BY_CALLER,)) else CEREMONY_GAS


@cache
def _ceremony_tau_g2() -> Any:
    return g2_point(CEREMONY_TAU_G2, 0)


def _scalar(data: bytes, start: int, name: str) -> int:
    value = int.from_bytes(data[start : start + 32], "big")
    if value >= GROUP_ORDER:
        raise PrecompileFailed(f"BN254_KZG: {name} {value} is not below the group's order")
    return value


def _g1_point(data: bytes, start: int) -> Any | None:
    coordinates = g1_coordinates(data, start)
    return None if coordinates is None else ec_bn254.PointG1(*coordinates)


def bn254_kzg(data: bytes) -> bytes:
    """The output above. Raises PrecompileFailed for malformed input, not for a proof that does not hold."""
    version = data[0] if data else -1
    if version not in INPUT_BYTES:
        raise PrecompileFailed(f"BN254_KZG: input begins with version 0 or 1, not with {data[:1].hex() or 'nothing'}")
    if len(data) != INPUT_BYTES[version]:
        raise PrecompileFailed(f"BN254_KZG: {len(data)} bytes of input, version {version} has {INPUT_BYTES[version]}")
    z, y = _scalar(data, _Z, "z"), _scalar(data, _Y, "y")
    commitment, proof = _g1_point(data, _COMMITMENT), _g1_point(data, _PROOF)
    tau = _ceremony_tau_g2() if version == CEREMONY else g2_point(data, _TAU_G2)
    if tau is None:
        raise PrecompileFailed("BN254_KZG: tau G2 is the point at infinity, which commits to nothing")
    terms, scalars = [ec_bn254.g1()], [-y % GROUP_ORDER]
    if commitment is not None:
        terms.append(commitment)
        scalars.append(1)
    if proof is not None:
        terms.append(proof)
        scalars.append(z)
    left = ec_bn254.multiscalar_mul_g1(terms, scalars)
    if proof is None:
        return int(left.is_zero()).to_bytes(32, "big")
    return int(pairings_are_one([left, -proof], [ec_bn254.g2(), tau])).to_bytes(32, "big")

"""The one hash: Keccak-256, as Ethereum uses it.

A chain hashes mostly short things (words, slots, trie nodes), and on them a hash object of pysha3 costs as much as the
hashing: tiny-keccak is one call, twice as fast there. pysha3 takes long inputs, on which it is faster and lets other threads
run. Importing this module also picks pysha3 for every library that hashes through `eth_hash` (py-evm, eth-utils, trie): it
is about four times faster than the default one.
"""

import os

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")

from sha3 import keccak_256 as _keccak_256
from tiny_keccak import keccak256 as _tiny_keccak

_LONG = 2_000

keccak256_of_short = _tiny_keccak
"""`keccak256`, cheapest where the data is known to be short."""


def keccak256(data: bytes) -> bytes:
    """The 32-byte Keccak-256 digest of `data` (Yellow Paper, KEC). Raises TypeError for anything but bytes."""
    if len(data) < _LONG:
        return keccak256_of_short(data)
    digest: bytes = _keccak_256(data).digest()
    return digest


def checksummed(address: bytes) -> str:
    """An address with the capitals of EIP-55, the form in which addresses are written for people."""
    digits = address.hex()
    digest = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(marker, 16) >= 8 else digit for digit, marker in zip(digits, digest[:40], strict=True)
    )

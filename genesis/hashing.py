"""The one hash: Keccak-256, as Ethereum uses it.

Importing this module picks the C backend for every library that hashes through `eth_hash`
(py-evm, eth-utils, trie): it is about four times faster than the default one.
"""

import os

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")

from sha3 import keccak_256 as _keccak_256


def keccak256(data: bytes) -> bytes:
    """The 32-byte Keccak-256 digest of `data` (Yellow Paper, KEC). Raises TypeError for anything but bytes."""
    digest: bytes = _keccak_256(data).digest()
    return digest


def checksummed(address: bytes) -> str:
    """An address with the capitals of EIP-55, the form in which addresses are written for people."""
    digits = address.hex()
    digest = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(marker, 16) >= 8 else digit for digit, marker in zip(digits, digest[:40], strict=True)
    )

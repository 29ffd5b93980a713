"""KZG commitments of EIP-4844 blobs, computed by c-kzg-4844 over the mainnet ceremony's setup.

Nobody's proof is needed to check a blob: its commitment is computed again and must hash to the versioned hash that L1
carries. That takes tens of milliseconds: call it in a worker thread.
"""

import hashlib
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import ckzg

from openledger.evm_ext.blobs import versioned_hash

_SETUP_SHA256 = "d39b9f2d047cc9dca2de58f264b6a09448ccd34db967881a6713eacacf0f26b7"


class TrustedSetupInvalid(Exception):
    """The trusted setup that came with py-evm is not the ceremony's."""


def blob_versioned_hash(blob: bytes) -> bytes:
    """The versioned hash of a blob of 131,072 bytes; raises ValueError for one that is not 4,096 field elements."""
    try:
        return versioned_hash(ckzg.blob_to_kzg_commitment(blob, _setup()))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"not a blob: {error}") from error


@cache
def _setup() -> Any:
    with as_file(files("eth._utils").joinpath("kzg_trusted_setup.txt")) as path:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != _SETUP_SHA256:
            raise TrustedSetupInvalid(f"{path} has SHA-256 {digest}, not the KZG ceremony's {_SETUP_SHA256}")
        return ckzg.load_trusted_setup(str(path), 0)

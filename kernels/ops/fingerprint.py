"""The fingerprint: a chained hash of every logit bit of every generated token.

    key[i] = 64 bits of Philox4x32-10 keyed by words 0, 1 of the request hash, counter (i, 0, word 2, word 3),
             first output word low, second high
    h = sum over the vocabulary of key[i] * bits(logit[i])  mod 2**64        bits: binary32 as u32
    F[0] = keccak("exact-1 fingerprint" | request hash)
    F[j+1] = keccak(F[j] | h as u64 little-endian | token as u32 little-endian)

The sum has no order. It tells honest runs apart cheaply; it is not a commitment that binds a liar to values.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from openledger.genesis.hashing import keccak256
from openledger.kernels.ops.host import kernel
from openledger.kernels.ops.random import philox, words

DOMAIN: Final = b"exact-1 fingerprint"


def fingerprint_keys(request_hash: bytes, vocabulary: int) -> Any:
    """The multilinear hash's keys, uint64 [vocabulary]."""
    w = words(request_hash)
    counters = np.zeros((vocabulary, 4), np.uint32)
    counters[:, 0] = np.arange(vocabulary, dtype=np.uint32)
    counters[:, 2], counters[:, 3] = w[2], w[3]
    out = philox(counters, (w[0], w[1])).astype(np.uint64)
    return out[:, 0] | (out[:, 1] << np.uint64(32))


def hash_logits(logits: Any, keys: Any) -> int:
    """`logits` [V] binary32, `keys` [V] uint64 -> the multilinear hash."""
    bits = np.ascontiguousarray(logits).view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        return int((bits * keys).sum(dtype=np.uint64))


@kernel
def _hash_row(bits: Any, keys: Any) -> Any:
    total = np.uint64(0)
    for i in range(bits.shape[0]):
        total += np.uint64(bits[i]) * keys[i]
    return total


def hash_logits_host(logits: Any, keys: Any) -> int:
    """As `hash_logits`, without the copy."""
    return int(_hash_row(logits.view(np.uint32), keys))


def hash_rows(logits: Tensor, words: Tensor) -> Tensor:
    """`logits` [R, V] binary32, `words` [R, 4] int64 (the first four 32-bit words of each request hash) -> the hashes [R],
    int64 with the bits of the unsigned number."""
    return torch.from_numpy(_hash_rows(hash_logits, logits.numpy(), words.numpy()))


def hash_rows_host(logits: Any, words: Any) -> Any:
    """As `hash_rows`, over numpy arrays."""
    return _hash_rows(hash_logits_host, logits, words)


def _hash_rows(hash_row: Any, logits: Any, words: Any) -> Any:
    hashes = np.empty(len(logits), np.uint64)
    for row, (values, request) in enumerate(zip(logits, words)):
        hashes[row] = hash_row(values, _kept_keys(request.astype("<u4").tobytes(), len(values)))
    return hashes.view(np.int64)


@lru_cache(maxsize=64)
def _kept_keys(request: bytes, vocabulary: int) -> Any:
    return fingerprint_keys(request, vocabulary)


def chain_start(request_hash: bytes) -> bytes:
    """F[0]."""
    return keccak256(DOMAIN + request_hash)


def chain_next(previous: bytes, logits_hash: int, token: int) -> bytes:
    """F[j+1]."""
    return keccak256(previous + logits_hash.to_bytes(8, "little") + token.to_bytes(4, "little"))

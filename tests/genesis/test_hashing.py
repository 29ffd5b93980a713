"""Keccak-256 against an implementation that the node does not use for it."""

import os

import pytest
from Crypto.Hash import keccak

from openledger.genesis.hashing import keccak256, keccak256_of_short


@pytest.mark.parametrize("length", [0, 1, 31, 32, 64, 135, 136, 137, 271, 272, 532, 1_999, 2_000, 2_001, 100_000])
def test_every_length_hashes_as_in_pycryptodome(length: int) -> None:
    data = os.urandom(length)
    expected = keccak.new(digest_bits=256, data=data).digest()
    assert keccak256(data) == keccak256_of_short(data) == expected


def test_what_is_not_bytes_is_refused() -> None:
    with pytest.raises(TypeError):
        keccak256("text")  # type: ignore[arg-type]

"""Drawing tokens with integers, the counter-based generator, and the fingerprint's chain."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.genesis.hashing import keccak256
from openledger.genesis.tables import EXP, load_table
from openledger.kernels.ops.fingerprint import (
    chain_next,
    chain_start,
    fingerprint_keys,
    hash_logits,
    hash_logits_host,
)
from openledger.kernels.ops.random import philox
from openledger.kernels.ops.random import words as words_of
from openledger.kernels.ops.sampling import candidates, draw, greedy, sample_host

TABLE = np.frombuffer(load_table(EXP), "<u4").astype(np.int64)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter: list[int], key: tuple[int, int], expected: str) -> None:
    out = philox(np.array([counter], np.uint32), key)[0]
    assert " ".join(f"{word:08x}" for word in out) == expected


def scalar_draw(logits: list[float], t: int, top_k: int, top_p: int, min_p: int, seed: bytes, position: int) -> int:
    """The definition in plain integers."""
    m = max(logits)
    d = [round(min(float(np.float32(np.float32(m) - np.float32(x)) * np.float32(4096)), 2.0**30)) for x in logits]
    e = [(2000 * x + t) // (2 * t) for x in d]
    p = [int(TABLE[x]) if x < len(TABLE) else 0 for x in e]
    order = sorted((i for i in range(len(logits)) if p[i] > 0), key=lambda i: (d[i], i))
    if top_k:
        order = order[:top_k]
    total, kept, running = sum(p[i] for i in order), [], 0
    for i in order:
        kept.append(i)
        running += p[i]
        if running * 10**6 >= top_p * total:
            break
    kept = [i for i in kept if p[i] * 10**6 >= min_p * p[order[0]]]
    w = np.frombuffer(seed, "<u4")
    out = philox(np.array([[position, 0, w[2], w[3]]], np.uint32), (int(w[0]), int(w[1])))[0]
    target = ((int(out[0]) | int(out[1]) << 32) * sum(p[i] for i in kept)) >> 64
    for i in kept:
        if target < p[i]:
            return i
        target -= p[i]
    raise AssertionError("the draw lies within the sum")


@settings(max_examples=300, deadline=None)
@given(
    logits=st.lists(
        st.one_of(st.sampled_from([0.0, -0.0, 1.0, 2.5, -40.0, 3e38, -3e38]), st.floats(-30, 30, width=32)),
        min_size=1,
        max_size=30,
    ),
    t=st.integers(1, 5000),
    top_k=st.integers(0, 12),
    top_p=st.one_of(st.just(10**6), st.integers(1, 10**6)),
    min_p=st.one_of(st.just(0), st.integers(0, 10**6)),
    seed=st.binary(min_size=32, max_size=32),
    position=st.integers(0, 10_000),
)
def test_a_draw_is_its_definition(
    logits: list[float], t: int, top_k: int, top_p: int, min_p: int, seed: bytes, position: int
) -> None:
    array = np.array(logits, np.float32)
    with np.errstate(over="ignore"):
        expected = scalar_draw([float(x) for x in array], t, top_k, top_p, min_p, seed, position)
        found = candidates(array, t, len(TABLE))
        cuts = {"top_k": top_k, "top_p_ppm": top_p, "min_p_ppm": min_p}
        assert draw(found, TABLE, **cuts, seed=seed, position=position) == expected
        assert drawn(array[None], (t, top_k, top_p, min_p, position), seed) == [expected]


def drawn(logits: Any, limits: tuple[int, ...], seed: bytes) -> list[int]:
    """By the compiled kernel."""
    rows = len(logits)
    settings, words = np.array([limits] * rows, np.int64), np.array([words_of(seed)[:4]] * rows, np.int64)
    return [int(token) for token in sample_host(logits, settings, words, TABLE)]


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, 10**6),
    spread=st.sampled_from([0.001, 1.0, 8.0]),
    t=st.sampled_from([1, 700, 1000, 5000, 100_000]),
    top_k=st.sampled_from([0, 1, 40, 3000]),
    top_p=st.sampled_from([1, 900_000, 999_999, 10**6]),
    min_p=st.sampled_from([0, 1, 50_000, 10**6]),
)
def test_the_compiled_kernel_draws_from_many_tokens_as_the_definition_does(
    number: int, spread: float, t: int, top_k: int, top_p: int, min_p: int
) -> None:
    random = np.random.default_rng(number)
    logits = (random.standard_normal((2, 5000)) * spread).astype(np.float32)
    logits[1, random.integers(0, 5000, 4000)] = -np.inf  # what a schema forbids
    seed = random.bytes(32)
    for row in logits:
        cuts = {"top_k": top_k, "top_p_ppm": top_p, "min_p_ppm": min_p}
        expected = draw(candidates(row, t, len(TABLE)), TABLE, **cuts, seed=seed, position=number)
        assert drawn(row[None], (t, top_k, top_p, min_p, number), seed) == [expected]


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
    found = candidates(logits, 1000, len(TABLE))
    counts = Counter(
        draw(found, TABLE, top_k=0, top_p_ppm=10**6, min_p_ppm=0, seed=b"\x05" * 32, position=i) for i in range(4000)
    )
    for token, share in enumerate((0.5, 0.25, 0.15, 0.1)):
        assert abs(counts[token] / 4000 - share) < 4 * math.sqrt(share * (1 - share) / 4000)


def test_greedy_takes_the_smallest_id_among_equals() -> None:
    assert greedy(np.array([1.0, 7.0, -2.0, 7.0], np.float32)) == 1


def test_the_logits_hash_is_the_multilinear_sum_of_their_bits() -> None:
    logits = np.random.default_rng(1).standard_normal(300).astype(np.float32)
    request = bytes(range(32))
    keys = fingerprint_keys(request, 300)
    w = np.frombuffer(request, "<u4")
    total = 0
    for i, bits in enumerate(logits.view(np.uint32).tolist()):
        out = philox(np.array([[i, 0, w[2], w[3]]], np.uint32), (int(w[0]), int(w[1])))[0]
        total += (int(out[0]) | int(out[1]) << 32) * bits
    assert hash_logits(logits, keys) == hash_logits_host(logits, keys) == total % 2**64
    changed: Any = logits.copy()
    changed.view(np.uint32)[299] ^= 1
    assert hash_logits_host(changed, keys) != total % 2**64


def test_the_chain_binds_request_logits_and_tokens() -> None:
    start = chain_start(b"\x01" * 32)
    assert start == keccak256(b"exact-1 fingerprint" + b"\x01" * 32)
    assert chain_next(start, 5, 7) == keccak256(start + bytes([5] + [0] * 7) + bytes([7, 0, 0, 0]))

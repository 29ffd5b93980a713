"""Reed–Solomon chunks and their proofs: any eighth gives the blob back, and a proof fits one chunk only."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.rollup.da import curve
from openledger.rollup.da.chunk_proofs import ChunkInvalid, prove_chunks, verify_chunks
from openledger.rollup.da.chunks import (
    ChunkParameters,
    ChunksMissing,
    bit_reversed,
    coset_points,
    decode_chunk,
    encode_chunk,
    encode_chunks,
    reconstruct,
)
from openledger.rollup.da.curve import GROUP_ORDER
from openledger.rollup.da.srs import DevelopmentSrs, FileSrs, SrsError, published_g2_power, published_shifted_g1

SRS = DevelopmentSrs()
# EigenDA, encoding/constants.go: a primitive root of unity of order 2^28.
EIGENDA_ROOT = 19103219067921713944291392827692070036145651957329286315305642004821462161904


def blob(elements: int, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(GROUP_ORDER) for _ in range(elements)]


def test_mainnets_parameters_give_eigendas_chunk_lengths() -> None:
    mainnet = ChunkParameters()
    lengths = {size: mainnet.chunk_length(size // 32) for size in (1 << 17, 1 << 20, 1 << 24)}
    assert lengths == {1 << 17: 4, 1 << 20: 32, 1 << 24: 512}
    assert mainnet.chunk_length(1) == 1
    assert mainnet.needed(1 << 12) == 1024


@pytest.mark.parametrize(("chunks", "elements"), [(16, 2), (16, 8), (64, 64), (64, 1)])
def test_a_chunk_is_the_blob_modulo_its_coset(chunks: int, elements: int) -> None:
    parameters, coefficients = ChunkParameters(chunks, 8, chunks // 4), blob(elements)
    length, encoded = parameters.chunk_length(elements), encode_chunks(coefficients, parameters)
    root = pow(EIGENDA_ROOT, (1 << 28) // (chunks * length), GROUP_ORDER)
    for index in range(chunks):
        leader = pow(root, bit_reversed(index, chunks), GROUP_ORDER)
        assert coset_points(parameters)[index] == pow(leader, length, GROUP_ORDER)
        # On every point of the coset the chunk has the blob's value: brute force over the definition.
        for step in range(length):
            x = leader * pow(root, chunks * step, GROUP_ORDER) % GROUP_ORDER
            value = sum(c * pow(x, k, GROUP_ORDER) for k, c in enumerate(coefficients)) % GROUP_ORDER
            assert value == sum(c * pow(x, k, GROUP_ORDER) for k, c in enumerate(encoded[index])) % GROUP_ORDER


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([16, 32, 128]), st.integers(0, 7), st.integers(0, 2**32))
def test_any_eighth_of_the_chunks_gives_the_blob_back(chunks: int, log_elements: int, seed: int) -> None:
    parameters, coefficients = ChunkParameters(chunks, 8, 1), blob(1 << log_elements, seed)
    encoded = encode_chunks(coefficients, parameters)
    needed = parameters.needed(len(coefficients))
    chance = random.Random(seed)
    kept = {index: encoded[index] for index in chance.sample(range(chunks), needed + chance.randrange(2))}
    assert reconstruct(kept, len(coefficients), parameters) == coefficients
    kept.popitem()
    while len(kept) >= needed:
        kept.popitem()
    with pytest.raises(ChunksMissing, match=f"{needed} needed"):
        reconstruct(kept, len(coefficients), parameters)


def test_chunks_that_are_not_of_one_blob_are_noticed_when_there_are_more_than_needed() -> None:
    parameters, coefficients = ChunkParameters(32, 8, 1), blob(16)
    encoded = encode_chunks(coefficients, parameters)
    encoded[3][0] += 1
    with pytest.raises(ValueError, match="not of one blob"):
        reconstruct(dict(enumerate(encoded)), 16, parameters)
    for bad in ({99: encoded[0]}, {0: encoded[0][:-1]}):
        with pytest.raises(ValueError, match="is none of"):
            reconstruct(bad, 16, parameters)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileSrs:
    """SRS files of 64 points, over the development secret: the same proofs must come out of the points alone."""
    folder, count = tmp_path_factory.mktemp("srs"), 64
    powers = [pow(SRS.tau, exponent, GROUP_ORDER) for exponent in range(count)]
    digests = {}
    for name, base in (("g1.point", curve.g1_generator()), ("g2.point", curve.g2_generator())):
        data = b"".join(curve.to_compressed(base * power) for power in powers)
        (folder / name).write_bytes(data)
        digests[name] = hashlib.sha256(data).hexdigest()
    return FileSrs(folder, count, digests)


@pytest.mark.parametrize(("chunks", "elements"), [(16, 1), (16, 2), (16, 8), (16, 32)])
def test_proofs_out_of_the_points_equal_those_by_the_secret_and_hold(
    files: FileSrs, chunks: int, elements: int
) -> None:
    parameters, coefficients = ChunkParameters(chunks, 8, 1), blob(elements)
    encoded = encode_chunks(coefficients, parameters)
    proofs = prove_chunks(coefficients, encoded, parameters, SRS)
    assert prove_chunks(coefficients, encoded, parameters, files) == proofs
    kept = {index: (proofs[index], encoded[index]) for index in range(0, chunks, 3)}
    for srs in (SRS, files):
        verify_chunks(SRS.commit(coefficients), kept, elements, parameters, srs)
    verify_chunks(SRS.commit(coefficients), {}, elements, parameters, SRS)


def test_a_chunk_that_is_changed_moved_or_of_another_blob_is_refused() -> None:
    parameters, coefficients = ChunkParameters(32, 8, 1), blob(8)
    encoded = encode_chunks(coefficients, parameters)
    proofs = prove_chunks(coefficients, encoded, parameters, SRS)
    commitment, good = SRS.commit(coefficients), (proofs[5], encoded[5])
    verify_chunks(commitment, {5: good, 6: (proofs[6], encoded[6])}, 8, parameters, SRS)
    changed = [(encoded[5][0] + 1) % GROUP_ORDER, *encoded[5][1:]]
    for bad in (
        {5: (proofs[5], changed)},
        {6: good},
        {5: (proofs[6], encoded[5])},
        {5: (proofs[5], encoded[5][:-1])},
        {5: (bytes(32), encoded[5])},
        {5: good, 6: (proofs[6], encoded[7])},
    ):
        with pytest.raises(ChunkInvalid):
            verify_chunks(commitment, bad, 8, parameters, SRS)
    with pytest.raises(ChunkInvalid):
        verify_chunks(SRS.commit(blob(8, 2)), {5: good}, 8, parameters, SRS)


def test_a_kept_chunk_is_proof_and_coefficients() -> None:
    data = encode_chunk(b"\x80" + bytes(31), [1, GROUP_ORDER - 1])
    assert len(data) == 96
    assert decode_chunk(data) == (b"\x80" + bytes(31), [1, GROUP_ORDER - 1])
    for bad in (data[:32], data[:-1], data[:64] + b"\xff" * 32):
        with pytest.raises(ValueError, match="chunk"):
            decode_chunk(bad)


def test_the_published_powers_in_both_groups_are_of_one_secret() -> None:
    # e([τ^(2^28 - 2^i)]₁, [τ^(2^i)]₂) is the same for every i: both lists belong to the ceremony.
    first = (published_shifted_g1(2), published_g2_power(2))
    for exponent in (1, 4, 1024):
        assert curve.pairings_cancel(first, (published_shifted_g1(exponent), published_g2_power(exponent)))
    for bad in (0, 3, 1 << 28):
        with pytest.raises(SrsError):
            published_g2_power(bad)


@pytest.mark.parametrize("values", [(8_191, 8, 3_537), (8_192, 3, 1), (16, 8, 16), (4, 8, 1)])
def test_parameters_that_cannot_work_are_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"chunks|coding_rate"):
        ChunkParameters(*values)

"""Compiled BN254 beside Python's integers and beside the library."""

import hashlib
import random
from pathlib import Path

import pytest
from py_ecc import optimized_bn128 as bn128
from zksnake._algebra import ec_bn254

from openledger.rollup.da import chunk_proofs, curve, srs
from openledger.rollup.da.chunks import ChunkParameters, encode_chunks
from openledger.rollup.da.curve import FIELD_MODULUS, GROUP_ORDER, InvalidPoint
from openledger.rollup.da.srs import SRS_ORDER, DevelopmentSrs, FileSrs

numba = pytest.importorskip("numba")
np = pytest.importorskip("numpy")

from openledger.rollup.da.native import field, is_available, points, sums, transforms  # noqa: E402

CHANCE = random.Random(7)
EDGES = (0, 1, 2, FIELD_MODULUS - 1, FIELD_MODULUS // 2, (1 << 192) - 1, 1 << 253)
BACK = pow(1 << 256, -1, FIELD_MODULUS)


@numba.njit
def every_operation(left, right):
    return field.add(left, right), field.subtract(left, right), field.multiply(left, right), field.square(left)


def value(words) -> int:
    return sum(int(word) << 64 * index for index, word in enumerate(words))


def elements() -> list[int]:
    return [*(edge % FIELD_MODULUS for edge in EDGES), *(CHANCE.randrange(FIELD_MODULUS) for _ in range(30))]


def test_it_is_available_where_numba_is():
    assert is_available()


def test_arithmetic_in_the_field_is_that_of_integers():
    for left in elements():
        for right in elements():
            total, difference, product, squared = map(value, every_operation(*map(field.words_of, (left, right))))
            assert total == (left + right) % FIELD_MODULUS
            assert difference == (left - right) % FIELD_MODULUS
            assert product == left * right * BACK % FIELD_MODULUS
            assert squared == left * left * BACK % FIELD_MODULUS


def test_arithmetic_in_the_extension_is_that_of_integers():
    everything = elements()
    for _ in range(500):
        a, b, c, d = (CHANCE.choice(everything) for _ in range(4))
        found = every_operation(field.words_of(a) + field.words_of(b), field.words_of(c) + field.words_of(d))
        assert [(value(element[:4]), value(element[4:])) for element in found] == [
            (real % FIELD_MODULUS, imaginary % FIELD_MODULUS)
            for real, imaginary in (
                (a + c, b + d),
                (a - c, b - d),
                ((a * c - b * d) * BACK, (a * d + b * c) * BACK),
                ((a * a - b * b) * BACK, 2 * a * b * BACK),
            )
        ]


def row(point, size: int):
    """A library's point as compiled code takes it."""
    if point.is_zero():
        coordinates = [0] * (size // 16)
    else:
        coordinates = [point.x, point.y] if size == 32 else [*point.x, *point.y]
    data = b"".join(field.montgomery(coordinate).to_bytes(32, "little") for coordinate in coordinates)
    return np.frombuffer(data, dtype=np.uint64)


GROUPS = pytest.mark.parametrize(
    ("size", "generator", "batch", "sum_of_products"),
    [
        (32, ec_bn254.g1(), ec_bn254.batch_multi_scalar_g1, ec_bn254.multiscalar_mul_g1),
        (64, ec_bn254.g2(), ec_bn254.batch_multi_scalar_g2, ec_bn254.multiscalar_mul_g2),
    ],
    ids=["G1", "G2"],
)


@GROUPS
def test_sums_are_the_librarys_whatever_meets_in_a_bucket(size, generator, batch, sum_of_products):
    count = 60
    own = batch([generator] * count, [CHANCE.randrange(GROUP_ORDER) for _ in range(count)])
    own[1] = own[2] = own[0]  # equal ones, opposite ones, infinity
    own[4] = -own[3]
    own[6] = own[7] = generator * 0
    rows = np.array([row(point, size) for point in own])
    scalars = {
        "random": [CHANCE.randrange(GROUP_ORDER) for _ in range(count)],
        "largest": [GROUP_ORDER - 1] * count,
        "equal": [CHANCE.randrange(GROUP_ORDER)] * count,
        "zero": [0] * count,
        "small": [CHANCE.randrange(3) for _ in range(count)],
        "at the digits' edges": [CHANCE.choice((1 << 7, (1 << 8) - 1, 1 << 253, (1 << 128) - 1)) for _ in range(count)],
    }
    group = sums.G1 if size == 32 else sums.G2
    for name, factors in scalars.items():
        for bits in (3, 8):
            few, weights = sums.sum_of_products(rows, points.scalars(factors), group, bits)
            found = sum_of_products([points.to_library(one) for one in few], weights)
            assert found == sum_of_products(own, factors), (name, bits)
        assert points.library_sum(rows, points.scalars(factors)) == sum_of_products(own, factors)


def test_sums_are_py_eccs():
    exponents = [
        3,
        3,
        GROUP_ORDER - 3,
        0,
        1,
        GROUP_ORDER - 1,
        CHANCE.randrange(GROUP_ORDER),
    ]  # equal, opposite, infinity
    factors = [CHANCE.randrange(GROUP_ORDER), GROUP_ORDER - 1, 0, 7, 1, 1, CHANCE.randrange(GROUP_ORDER)]
    for group, generator, slow in (
        (sums.G1, curve.g1_generator(), bn128.G1),
        (sums.G2, curve.g2_generator(), bn128.G2),
    ):
        total = bn128.multiply(slow, 0)
        for exponent, factor in zip(exponents, factors):
            total = bn128.add(total, bn128.multiply(bn128.multiply(slow, exponent), factor))
        found = points.library_sum(points.multiples(generator, points.scalars(exponents)), points.scalars(factors))
        x, y = bn128.normalize(total)
        if group is sums.G1:
            assert curve.g1_to_integers(found) == curve.G1Point(int(x), int(y))
        else:
            assert curve.g2_to_integers(found) == curve.G2Point(*map(int, (*x.coeffs, *y.coeffs)))


def test_more_divisions_than_are_made_at_once():
    count = 3_000
    own = ec_bn254.batch_multi_scalar_g1([ec_bn254.g1()] * count, [CHANCE.randrange(GROUP_ORDER) for _ in range(count)])
    factors = [CHANCE.randrange(1, 8) for _ in range(count)]
    rows = np.array([row(point, 32) for point in own])
    assert points.library_sum(rows, points.scalars(factors)) == ec_bn254.multiscalar_mul_g1(own, factors)


@GROUPS
def test_compressed_points_are_read_as_the_library_reads_them(size, generator, batch, sum_of_products):
    own = batch([generator] * 40, [CHANCE.randrange(GROUP_ORDER) for _ in range(40)])
    data = b"".join(curve.to_compressed(point) for point in own)
    assert [points.to_library(one) for one in points.decompressed(data, size)] == own
    for damaged in (bytes(size), curve.to_compressed(generator * 0)):
        with pytest.raises(InvalidPoint, match="point 3 is not in compressed form"):
            points.decompressed(data[: 3 * size] + damaged + data[4 * size :], size)
    off = next(x for x in range(1, 100) if refused(bytes([0x80]) + bytes(size - 2) + bytes([x]), size))
    with pytest.raises(InvalidPoint, match="point 1 is not on the curve"):
        points.decompressed(data[:size] + bytes([0x80]) + bytes(size - 2) + bytes([off]), size)


def refused(data: bytes, size: int) -> bool:
    """Whether the library knows no point with this x. (In G2 it also refuses what is outside the subgroup.)"""
    x = data[-1]
    if size == 32:
        return pow(x**3 + 3, (FIELD_MODULUS - 1) // 2, FIELD_MODULUS) != 1
    # x³ + b is a square in Fp² just if its norm is one in Fp.
    real, imaginary = (
        19485874751759354771024239261021720505790618469301721065564631296452457478373,
        266929791119991161246907387137283842545076965332900288569378510910307636690,
    )
    return pow((x**3 + real) ** 2 + imaginary**2, (FIELD_MODULUS - 1) // 2, FIELD_MODULUS) != 1


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[str, str]]:
    """SRS files over the development secret, made by the library point by point."""
    folder, count, tau, digests = tmp_path_factory.mktemp("srs"), 64, DevelopmentSrs.tau, {}
    first = [pow(tau, exponent, GROUP_ORDER) for exponent in range(count)]
    last = [pow(tau, SRS_ORDER - count + exponent, GROUP_ORDER) for exponent in range(count)]
    for name, generator, powers in (
        ("g1.point", curve.g1_generator(), first),
        ("g2.point", curve.g2_generator(), first),
        ("g2.trailing.point", curve.g2_generator(), last),
    ):
        data = b"".join(curve.to_compressed(generator * power) for power in powers)
        (folder / name).write_bytes(data)
        digests[name] = hashlib.sha256(data).hexdigest()
    return folder, count, digests


def test_commitments_over_files_are_the_same_compiled_by_the_library_and_by_the_secret(files, monkeypatch):
    monkeypatch.setattr(srs, "FEWEST_COMPILED", 4)
    compiled, library = FileSrs(*files, compiled=True), FileSrs(*files, compiled=False)
    for elements in (2, 16, 4, 64, 8):
        coefficients = [CHANCE.randrange(GROUP_ORDER) for _ in range(elements)]
        expected = DevelopmentSrs().commit_with_length(coefficients)
        assert compiled.commit_with_length(coefficients) == library.commit_with_length(coefficients) == expected
        assert compiled.commit(coefficients) == expected.commitment
    assert compiled._rows
    assert not library._rows


@GROUPS
def test_multiples_are_the_librarys_and_compressed_as_the_library_does(size, generator, batch, sum_of_products):
    factors = [1, 2, 255, 256, GROUP_ORDER - 1, *(CHANCE.randrange(GROUP_ORDER) for _ in range(30))]
    rows = points.multiples(generator, points.scalars([0, *factors]))
    own = [generator * factor for factor in (0, *factors)]
    assert [points.to_library(one) for one in rows] == own
    assert np.array_equal(points.from_library(own), rows)
    assert points.compressed(rows) == b"".join(map(curve.to_compressed, own))


def test_a_scalar_is_split_into_halves():
    factor, *_ = transforms._lattice()
    for scalar in (
        0,
        1,
        2,
        GROUP_ORDER - 1,
        factor,
        GROUP_ORDER // 2,
        *(CHANCE.randrange(GROUP_ORDER) for _ in range(500)),
    ):
        first, second = transforms.halves(scalar)
        assert (first + second * factor - scalar) % GROUP_ORDER == 0
        assert max(abs(first), abs(second)) < 1 << 130


@pytest.mark.parametrize(("chunks", "elements"), [(16, 1), (16, 2), (16, 8), (32, 64)])
def test_compiled_proofs_of_chunks_are_those_by_the_secret(files, monkeypatch, chunks, elements):
    monkeypatch.setattr(chunk_proofs, "FEWEST_COMPILED", 2)
    parameters = ChunkParameters(chunks, 8, 1)
    compiled = FileSrs(*files, compiled=True)
    for coefficients in (
        [CHANCE.randrange(GROUP_ORDER) for _ in range(elements)],
        [5] * elements,
        [1] + [0] * (elements - 1),
    ):
        encoded = encode_chunks(coefficients, parameters)
        expected = chunk_proofs.prove_chunks(coefficients, encoded, parameters, DevelopmentSrs())
        assert chunk_proofs.prove_chunks(coefficients, encoded, parameters, compiled) == expected
    assert compiled._transformed

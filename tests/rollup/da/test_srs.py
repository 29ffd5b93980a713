import hashlib
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from py_ecc import optimized_bn128 as bn128

from openledger.rollup.da import curve
from openledger.rollup.da.curve import GROUP_ORDER, G1Point
from openledger.rollup.da.srs import (
    SRS_ORDER,
    DevelopmentSrs,
    DevelopmentSrsRefused,
    FileSrs,
    SrsError,
    SrsFileInvalid,
    open_srs,
    published_shifted_g1,
)
from openledger.rollup.da.verification import InvalidCertificate, verify_length

POINTS = 32


def blob(elements: int) -> list[int]:
    return [secrets.randbelow(GROUP_ORDER) for _ in range(elements)]


@pytest.fixture
def files(tmp_path: Path) -> FileSrs:
    """EigenDA's three files, small, over the development secret."""
    tau = DevelopmentSrs.tau
    powers = [pow(tau, i, GROUP_ORDER) for i in range(POINTS)]
    last = [pow(tau, SRS_ORDER - POINTS + i, GROUP_ORDER) for i in range(POINTS)]
    contents = {
        "g1.point": [curve.g1_generator() * power for power in powers],
        "g2.point": [curve.g2_generator() * power for power in powers],
        "g2.trailing.point": [curve.g2_generator() * power for power in last],
    }
    digests = {}
    for name, points in contents.items():
        data = b"".join(curve.to_compressed(point) for point in points)
        (tmp_path / name).write_bytes(data)
        digests[name] = hashlib.sha256(data).hexdigest()
    return FileSrs(tmp_path, POINTS, digests)


@pytest.mark.parametrize("elements", [1, 2, 8, POINTS])
def test_commitment_by_the_secret_equals_the_sum_over_the_points(files: FileSrs, elements: int) -> None:
    coefficients = blob(elements)
    assert DevelopmentSrs().commit_with_length(coefficients) == files.commit_with_length(coefficients)
    assert DevelopmentSrs().commit(coefficients) == files.commit(coefficients)


def test_commitment_equals_py_ecc() -> None:
    coefficients = blob(4)
    total = bn128.Z1
    for power, coefficient in enumerate(coefficients):
        point = bn128.multiply(bn128.G1, pow(DevelopmentSrs.tau, power, GROUP_ORDER))
        total = bn128.add(total, bn128.multiply(point, coefficient))
    x, y = bn128.normalize(total)
    assert DevelopmentSrs().commit(coefficients) == G1Point(int(x), int(y))


@pytest.mark.parametrize("elements", [1, 4, 64])
def test_length_proof_holds_and_bounds_the_length(elements: int) -> None:
    srs = DevelopmentSrs()
    commitment = srs.commit_with_length(blob(elements))
    verify_length(commitment, srs)
    with pytest.raises(InvalidCertificate, match="length proof"):
        verify_length(replace(commitment, length=elements * 2), srs)
    other = srs.commit_with_length(blob(elements))
    with pytest.raises(InvalidCertificate, match="different blobs"):
        verify_length(replace(commitment, commitment=other.commitment), srs)


def test_development_srs_is_refused_off_a_development_chain(tmp_path: Path) -> None:
    with pytest.raises(DevelopmentSrsRefused, match="SRS files"):
        open_srs(development=False, folder=None)
    assert isinstance(open_srs(development=True, folder=None), DevelopmentSrs)
    assert isinstance(open_srs(development=False, folder=tmp_path), FileSrs)


def test_file_that_is_not_the_published_one_is_refused(files: FileSrs) -> None:
    path = files.folder / "g1.point"
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(SrsFileInvalid, match="SHA-256"):
        files.commit(blob(2))
    path.write_bytes(data[:-32])
    with pytest.raises(SrsFileInvalid, match="bytes"):
        files.commit(blob(2))
    path.unlink()
    with pytest.raises(SrsFileInvalid, match="resources/srs"):
        files.commit(blob(2))


def test_blob_longer_than_the_string_is_refused(files: FileSrs) -> None:
    with pytest.raises(SrsError, match="longer than the SRS"):
        files.commit(blob(POINTS * 2))


@pytest.mark.parametrize("length", [0, 3, 1 << 28, -1])
def test_there_is_no_published_point_for_other_lengths(length: int) -> None:
    with pytest.raises(SrsError):
        published_shifted_g1(length)

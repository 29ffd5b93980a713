"""Structured reference strings: what commitments are computed over, and what checks them.

`FileSrs` reads EigenDA's published files (Perpetual Powers of Tau, order 2^28), each checked by its SHA-256.
`DevelopmentSrs` uses a secret that is public. With it a commitment p(τ)·G is one multiplication instead of a
sum over thousands of points: the same group element, no files, no memory. Whoever knows τ can also forge, so it
is for development chains alone and `open_srs` refuses it elsewhere.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from openledger.rollup.da import curve, native
from openledger.rollup.da.curve import G1Point, G2Point

SRS_ORDER = 1 << 28
"""Powers in the ceremony's string; the length proof shifts a polynomial to its very end."""

DEVELOPMENT_TAU = (
    int.from_bytes(hashlib.sha256(b"openledger development SRS: this secret is public, never use it").digest())
    % curve.GROUP_ORDER
)

OFFICIAL_SHA256 = {
    "g1.point": "8f18b9c04ed4bddcdb73001fb693703197328cecabdfa9025f647410b0c50d7f",
    "g2.point": "a6942684aa751b4ec7873e2edb4660ac5c4516adb3b310441802cc0d489f645a",
    "g2.trailing.point": "78fad17d74d28cecdb7f826fdd72dee08bdbe1e8ad66f2b24fcf2fc140176788",
}
OFFICIAL_POINTS = 524_288


class SrsError(Exception):
    """The structured reference string cannot be used; the message says why."""


class DevelopmentSrsRefused(SrsError):
    """A chain that is not a development chain asked for the development SRS."""


class SrsFileInvalid(SrsError):
    """An SRS file is missing, has the wrong size or does not have the published SHA-256."""


@dataclass(frozen=True)
class BlobCommitment:
    """What a certificate says of a blob: [p(τ)]₁, [p(τ)]₂, [τ^(2^28-length)·p(τ)]₂ and its length in elements."""

    commitment: G1Point
    length_commitment: G2Point
    length_proof: G2Point
    length: int


class Srs(Protocol):
    """What blobs are committed with. `coefficients` has a power of two of integers below r."""

    def commit(self, coefficients: list[int]) -> G1Point:
        """The KZG commitment [p(τ)]₁."""

    def commit_with_length(self, coefficients: list[int]) -> BlobCommitment:
        """The commitment with its length commitment and proof."""

    def shifted_g1(self, length: int) -> Any:
        """[τ^(2^28-length)]₁ as a backend point: what a length proof is checked against."""

    def g1_powers(self, count: int) -> list[Any]:
        """[τ^0]₁ to [τ^(count-1)]₁ as backend points."""

    def g2_power(self, exponent: int) -> Any:
        """[τ^exponent]₂ as a backend point, for an exponent that is a power of two."""


class DevelopmentSrs:
    """Commitments by the known τ; equal, bit for bit, to a sum over the points τ generates."""

    tau = DEVELOPMENT_TAU

    def evaluate(self, coefficients: list[int]) -> int:
        """p(τ) mod r."""
        value, tau, order = 0, self.tau, curve.GROUP_ORDER
        for coefficient in reversed(coefficients):
            value = (value * tau + coefficient) % order
        return value

    def commit(self, coefficients: list[int]) -> G1Point:
        """See Srs."""
        return curve.g1_to_integers(curve.g1_generator() * self.evaluate(coefficients))

    def commit_with_length(self, coefficients: list[int]) -> BlobCommitment:
        """See Srs."""
        value = self.evaluate(coefficients)
        shift = pow(self.tau, SRS_ORDER - len(coefficients), curve.GROUP_ORDER)
        generator = curve.g2_generator()
        return BlobCommitment(
            curve.g1_to_integers(curve.g1_generator() * value),
            curve.g2_to_integers(generator * value),
            curve.g2_to_integers(generator * (value * shift % curve.GROUP_ORDER)),
            len(coefficients),
        )

    def shifted_g1(self, length: int) -> Any:
        """See Srs."""
        return curve.g1_generator() * pow(self.tau, SRS_ORDER - length, curve.GROUP_ORDER)

    def g1_powers(self, count: int) -> list[Any]:
        """See Srs."""
        return [curve.g1_generator() * pow(self.tau, exponent, curve.GROUP_ORDER) for exponent in range(count)]

    def g2_power(self, exponent: int) -> Any:
        """See Srs."""
        return curve.g2_generator() * pow(self.tau, exponent, curve.GROUP_ORDER)


FEWEST_COMPILED = 1_024
"""Points from which on a sum is faster compiled than by the library."""


@dataclass
class FileSrs:
    """EigenDA's files in `folder`; points are parsed by need and kept, since that takes the library about 0.1 ms each.

    Sums over many points are compiled where numba is installed, and the library's elsewhere: the same points. `points`,
    `sha256` and `compiled` describe the files and the machine and change only in tests. Raises SrsFileInvalid at first use.
    """

    folder: Path
    points: int = OFFICIAL_POINTS
    sha256: Mapping[str, str] = field(default_factory=lambda: OFFICIAL_SHA256)
    compiled: bool = field(default_factory=native.is_available)
    _files: dict[str, bytes] = field(default_factory=dict, init=False, repr=False)
    _rows: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _transformed: dict[tuple[int, int], Any] = field(default_factory=dict, init=False, repr=False)
    _parsed: dict[str, dict[int, Any]] = field(default_factory=dict, init=False, repr=False)

    def commit(self, coefficients: list[int]) -> G1Point:
        """See Srs."""
        return curve.g1_to_integers(self._sums(coefficients, "g1.point")[0])

    def commit_with_length(self, coefficients: list[int]) -> BlobCommitment:
        """See Srs."""
        commitment, length_commitment, length_proof = self._sums(
            coefficients, "g1.point", "g2.point", "g2.trailing.point"
        )
        return BlobCommitment(
            curve.g1_to_integers(commitment),
            curve.g2_to_integers(length_commitment),
            curve.g2_to_integers(length_proof),
            len(coefficients),
        )

    def _sums(self, coefficients: list[int], *names: str) -> list[Any]:
        """The sum over the points of each file."""
        count = self._checked_length(coefficients)
        # The trailing file's last point is the string's last: τ^(2^28 - count + i) stands `count - i` before its end.
        starts = {"g2.trailing.point": self.points - count}
        if self.compiled and count >= FEWEST_COMPILED:
            from openledger.rollup.da.native import points

            factors = points.scalars(coefficients)
            return [points.library_sum(self.compiled_points(name, count), factors) for name in names]
        sums = {"g1.point": curve.g1_sum_of_products}
        return [
            sums.get(name, curve.g2_sum_of_products)(self._points(name, starts.get(name, 0), count), coefficients)
            for name in names
        ]

    def shifted_g1(self, length: int) -> Any:
        """See Srs: one of the 28 points EigenDA publishes."""
        return published_shifted_g1(length)

    def g1_powers(self, count: int) -> list[Any]:
        """See Srs."""
        return self._points("g1.point", 0, count)

    def g2_power(self, exponent: int) -> Any:
        """See Srs: one of the 28 points EigenDA publishes."""
        if self.sha256 is OFFICIAL_SHA256:
            return published_g2_power(exponent)
        return self._points("g2.point", exponent, 1)[0]

    def _checked_length(self, coefficients: list[int]) -> int:
        if len(coefficients) > self.points:
            raise SrsError(f"blob of {len(coefficients)} elements is longer than the SRS of {self.points} points")
        return len(coefficients)

    def transformed_powers(self, count: int, chunk_length: int) -> Any:
        """What compiled proofs of a blob's chunks need (native/transforms.py): worked out once for each length."""
        from openledger.rollup.da.native import transforms

        key = (count, chunk_length)
        if key not in self._transformed:
            powers = self.compiled_points("g1.point", count)
            self._transformed[key] = transforms.transformed_powers(powers, chunk_length)
        return self._transformed[key]

    def compiled_points(self, name: str, count: int) -> Any:
        """The first points of a file, the last of the trailing one, as compiled code takes them."""
        from openledger.rollup.da.native import points

        size = 32 if name == "g1.point" else 64
        rows = self._rows.get(name)
        if rows is None or len(rows) < count:
            data = self._file(name, size)
            found = data[-size * count :] if name == "g2.trailing.point" else data[: size * count]
            rows = self._rows[name] = points.decompressed(found, size)
        return rows[-count:] if name == "g2.trailing.point" else rows[:count]

    def _points(self, name: str, start: int, count: int) -> list[Any]:
        size, parse = (32, curve.g1_from_compressed) if name == "g1.point" else (64, curve.g2_from_compressed)
        data = self._file(name, size)
        parsed = self._parsed.setdefault(name, {})
        for index in range(start, start + count):
            if index not in parsed:
                parsed[index] = parse(data[size * index : size * (index + 1)])
        return [parsed[index] for index in range(start, start + count)]

    def _file(self, name: str, point_bytes: int) -> bytes:
        if name not in self._files:
            path = self.folder / name
            wanted_size = self.points * point_bytes
            try:
                size = path.stat().st_size
                if size != wanted_size:
                    raise SrsFileInvalid(f"{path} has {size} bytes; the published file has {wanted_size}")
                data = path.read_bytes()
            except OSError as error:
                raise SrsFileInvalid(
                    f"cannot read {path}: {error.strerror}; point the SRS folder at EigenDA's resources/srs"
                ) from error
            digest = hashlib.sha256(data).hexdigest()
            if digest != self.sha256[name]:
                raise SrsFileInvalid(f"{path} has SHA-256 {digest}; the published file has {self.sha256[name]}")
            self._files[name] = data
        return self._files[name]


def open_srs(*, development: bool, folder: Path | None) -> Srs:
    """The SRS a chain uses: the files when a folder is given, else the development SRS.

    Raises DevelopmentSrsRefused when the chain is not a development chain and no folder is given.
    """
    if folder is not None:
        return FileSrs(folder)
    if not development:
        raise DevelopmentSrsRefused(
            "this chain is not a development chain: set the folder of EigenDA's SRS files "
            f"({', '.join(OFFICIAL_SHA256)})"
        )
    return DevelopmentSrs()


def published_shifted_g1(length: int) -> Any:
    """[τ^(2^28-length)]₁ of the ceremony, enough to check real certificates without the SRS files.

    `length` is a power of two below 2^28. Raises SrsError otherwise.
    """
    exponent = length.bit_length() - 1
    points = _published("g1_reverse")
    if length < 1 or length != 1 << exponent or exponent >= len(points):
        raise SrsError(f"there is no published point for a blob of {length} elements")
    return curve.g1_from_compressed(points[exponent])


def published_g2_power(exponent: int) -> Any:
    """[τ^exponent]₂ of the ceremony, for an exponent 2^0 to 2^27. Raises SrsError otherwise."""
    index = exponent.bit_length() - 1
    points = _published("g2_power_of_two")
    if exponent < 1 or exponent != 1 << index or index >= len(points):
        raise SrsError(f"there is no published point for τ to the power {exponent}")
    return curve.g2_from_compressed(points[index])


@cache
def _published(name: str) -> tuple[bytes, ...]:
    text = files("openledger.genesis").joinpath("srs/eigenda-srs-powers.json").read_text()
    return tuple(bytes.fromhex(point) for point in json.loads(text)[name])

"""The committed tables are the correctly rounded values: samples recomputed with 60 digits."""

import struct

import pytest

from openledger.genesis.tables import EXP, NORMAL, SIGMOID, TableMissing, load_table, rotary_name

mpmath = pytest.importorskip("mpmath", reason="rebuilding tables needs mpmath")


def test_sampled_entries_are_what_the_build_script_makes() -> None:
    from openledger.genesis.tables import build

    mpmath.mp.dps = build.DIGITS
    exp, sigmoid = load_table(EXP), load_table(SIGMOID)
    assert len(exp) == 4 * (22 * 4096 + 1)
    assert len(sigmoid) == 4 * (16 * 4096 + 1)
    for i in (0, 1, 2, 17, 4096, 40000, 22 * 4096):
        value = mpmath.nint(2**30 * mpmath.exp(-mpmath.mpf(i) / 4096))
        assert exp[4 * i : 4 * i + 4] == struct.pack("<I", int(value))
    for i in (0, 1, 4095, 16 * 4096):
        assert sigmoid[4 * i : 4 * i + 4] == build.binary32(1 / (1 + mpmath.exp(mpmath.mpf(i) / 4096)))
    normal = load_table(NORMAL)
    assert len(normal) == 4 * (6 * 4096 + 1)
    for i in (0, 1, 777, 6 * 4096):
        assert normal[4 * i : 4 * i + 4] == build.binary32(mpmath.ncdf(-mpmath.mpf(i) / 4096))
    rotary = load_table(rotary_name(100000.0, 64))
    assert len(rotary) == 8192 * 32 * 8
    for position, pair in ((0, 0), (1, 0), (5, 31), (8191, 0), (8191, 31), (777, 12)):
        angle = position * mpmath.power(100000, -mpmath.mpf(2 * pair) / 64)
        at = 8 * (position * 32 + pair)
        assert rotary[at : at + 8] == build.binary32(mpmath.cos(angle)) + build.binary32(mpmath.sin(angle))


def test_tables_made_at_import_are_correctly_rounded_and_equal_the_shipped_one() -> None:
    from openledger.genesis.tables import build
    from openledger.kernels.model.rotary_table import Llama3Scaling, rotary_table

    mpmath.mp.dps = build.DIGITS
    assert rotary_table(100000.0, 64, 8192).tobytes() == load_table(rotary_name(100000.0, 64))
    tables = [
        (1e6, rotary_table(1e6, 128, 3000)),
        (5e5, rotary_table(5e5, 128, 3000, Llama3Scaling(8.0, 1.0, 4.0, 8192))),
    ]
    for base, table in tables:
        for position, pair in (
            (0, 63),
            (1, 0),
            (1, 63),
            (17, 1),
            (2999, 0),
            (2999, 28),
            (2999, 30),
            (2999, 33),
            (777, 45),
        ):
            frequency = mpmath.power(base, -mpmath.mpf(2 * pair) / 128)
            if base == 5e5:
                turns = 8192 * frequency / (2 * mpmath.pi)
                share = min(max((turns - 1) / 3, 0), 1)
                frequency = (1 - share) * frequency / 8 + share * frequency
            expected = build.binary32(mpmath.cos(position * frequency)) + build.binary32(
                mpmath.sin(position * frequency)
            )
            assert table[position, pair].tobytes() == expected


def test_binary32_rounding_of_the_build_agrees_with_struct() -> None:
    from openledger.genesis.tables.build import binary32

    mpmath.mp.dps = 60
    for value in (0.0, 1.0, -0.1, 1 / 3, 1.17e-30, -0.9999999):
        assert binary32(mpmath.mpf(value)) == struct.pack("<f", value)


def test_an_unknown_table_is_refused_by_name() -> None:
    with pytest.raises(TableMissing, match="rotary-7-64"):
        load_table(rotary_name(7, 64))
    with pytest.raises(TableMissing):
        load_table("../hashing.py")

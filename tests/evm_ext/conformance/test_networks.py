"""The names of rules in test files are the schedules that they stand for."""

from __future__ import annotations

import pytest

from openledger.evm_ext.conformance.networks import schedule_of
from openledger.evm_ext.conformance.values import InvalidFixture
from openledger.genesis.hardforks import BlobParameters, Hardfork

FORKS = {
    "Frontier": Hardfork.FRONTIER,
    "EIP150": Hardfork.TANGERINE_WHISTLE,
    "EIP158": Hardfork.SPURIOUS_DRAGON,
    "ConstantinopleFix": Hardfork.PETERSBURG,
    "Merge": Hardfork.PARIS,
    "Paris": Hardfork.PARIS,
    "Prague": Hardfork.PRAGUE,
    "BPO2": Hardfork.OSAKA,
}


@pytest.mark.parametrize(("name", "fork"), FORKS.items())
def test_a_fork_holds_from_the_first_block(name, fork):
    schedule = schedule_of(name)
    assert schedule.at(0, 0) == schedule.at(10**6, 10**6) == fork


@pytest.mark.parametrize(
    ("name", "before", "after", "block", "time"),
    [
        ("FrontierToHomesteadAt5", Hardfork.FRONTIER, Hardfork.HOMESTEAD, 5, 0),
        ("HomesteadToDaoAt5", Hardfork.HOMESTEAD, Hardfork.DAO_FORK, 5, 0),
        ("EIP158ToByzantiumAt5", Hardfork.SPURIOUS_DRAGON, Hardfork.BYZANTIUM, 5, 0),
        ("ByzantiumToConstantinopleFixAt5", Hardfork.BYZANTIUM, Hardfork.PETERSBURG, 5, 0),
        ("BerlinToLondonAt5", Hardfork.BERLIN, Hardfork.LONDON, 5, 0),
        ("ParisToShanghaiAtTime15k", Hardfork.PARIS, Hardfork.SHANGHAI, 1, 15_000),
        ("CancunToPragueAtTime15k", Hardfork.CANCUN, Hardfork.PRAGUE, 1, 15_000),
        ("PragueToOsakaAtTime15k", Hardfork.PRAGUE, Hardfork.OSAKA, 1, 15_000),
    ],
)
def test_a_transition_changes_the_rules_where_it_says(name, before, after, block, time):
    schedule = schedule_of(name)
    assert schedule.at(block if time else block - 1, max(time - 1, 0)) == before
    assert schedule.at(block, time) == after


def test_the_merge_comes_with_a_difficulty():
    for name in ("ArrowGlacierToMergeAtDiffC0000", "ArrowGlacierToParisAtDiffC0000"):
        schedule = schedule_of(name)
        assert schedule.terminal_total_difficulty == 0xC0000
        assert schedule.at(3, 3) == Hardfork.ARROW_GLACIER
        assert schedule.at(3, 3, merged=True) == Hardfork.PARIS


def test_blobs_are_those_of_the_file_and_else_those_of_the_main_network():
    assert schedule_of("BPO1ToBPO2AtTime15k").blobs_at(14_999) == BlobParameters(10, 15, 8_346_193)
    assert schedule_of("BPO1ToBPO2AtTime15k").blobs_at(15_000) == BlobParameters(14, 21, 11_684_671)
    own = BlobParameters(1, 2, 3)
    assert schedule_of("Prague", {"prague": own}).blobs_at(0) == own
    assert schedule_of("BPO4", {"bpo2": own}).blobs_at(0) == own


@pytest.mark.parametrize(
    "name",
    ["", "prague2", "Amsterdam", "CancunToPragueAt5", "FrontierToHomesteadAtTime5", "AToBAt5", "PragueToOsakaAtTimex"],
)
def test_an_unknown_name_is_refused(name):
    with pytest.raises(InvalidFixture, match="unknown network"):
        schedule_of(name)

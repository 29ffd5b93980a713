"""Which fork a block is under, and geth's `config`."""

from dataclasses import replace

import pytest

from openledger.genesis.genesis import Genesis, InvalidGenesis
from openledger.genesis.hardforks import (
    CANCUN_BLOBS,
    MAINNET_DEPOSIT_CONTRACT,
    PRAGUE_BLOBS,
    BlobParameters,
    Hardfork,
    HardforkSchedule,
)

# The published schedule of the Ethereum main network.
MAINNET = {
    "chainId": 1,
    "homesteadBlock": 1_150_000,
    "daoForkBlock": 1_920_000,
    "daoForkSupport": True,
    "eip150Block": 2_463_000,
    "eip155Block": 2_675_000,
    "eip158Block": 2_675_000,
    "byzantiumBlock": 4_370_000,
    "constantinopleBlock": 7_280_000,
    "petersburgBlock": 7_280_000,
    "istanbulBlock": 9_069_000,
    "muirGlacierBlock": 9_200_000,
    "berlinBlock": 12_244_000,
    "londonBlock": 12_965_000,
    "arrowGlacierBlock": 13_773_000,
    "grayGlacierBlock": 15_050_000,
    "terminalTotalDifficulty": 58_750_000_000_000_000_000_000,
    "shanghaiTime": 1_681_338_455,
    "cancunTime": 1_710_338_135,
    "pragueTime": 1_746_612_311,
    "osakaTime": 1_764_798_551,
    "bpo1Time": 1_765_290_071,
    "bpo2Time": 1_767_747_671,
    "depositContractAddress": "0x00000000219ab540356cbb839cbe05303d7705fa",
    "ethash": {},
}


@pytest.mark.parametrize(
    ("number", "timestamp", "merged", "fork"),
    [
        (0, 0, False, Hardfork.FRONTIER),
        (1_149_999, 1, False, Hardfork.FRONTIER),
        (1_150_000, 1, False, Hardfork.HOMESTEAD),
        (1_920_000, 1, False, Hardfork.DAO_FORK),
        (2_463_000, 1, False, Hardfork.TANGERINE_WHISTLE),
        (2_675_000, 1, False, Hardfork.SPURIOUS_DRAGON),
        (4_370_000, 1, False, Hardfork.BYZANTIUM),
        (7_280_000, 1, False, Hardfork.PETERSBURG),
        (9_069_000, 1, False, Hardfork.ISTANBUL),
        (9_200_000, 1, False, Hardfork.MUIR_GLACIER),
        (12_244_000, 1, False, Hardfork.BERLIN),
        (12_965_000, 1, False, Hardfork.LONDON),
        (13_773_000, 1, False, Hardfork.ARROW_GLACIER),
        (15_537_393, 1_663_224_162, False, Hardfork.GRAY_GLACIER),
        (15_537_394, 1_663_224_179, True, Hardfork.PARIS),
        (17_034_870, 1_681_338_455, False, Hardfork.SHANGHAI),
        (19_426_587, 1_710_338_135, True, Hardfork.CANCUN),
        (22_431_084, 1_746_612_311, True, Hardfork.PRAGUE),
        (23_935_694, 1_764_798_551, True, Hardfork.OSAKA),
    ],
)
def test_the_main_networks_blocks_are_under_the_fork_they_were_made_with(number, timestamp, merged, fork):
    assert HardforkSchedule.from_config(MAINNET).at(number, timestamp, merged=merged) is fork


def test_blob_limits_follow_the_forks_and_the_entries_between_them():
    schedule = HardforkSchedule.from_config(MAINNET)
    assert schedule.blobs_at(1_710_338_134) is None
    assert schedule.blobs_at(1_710_338_135) == CANCUN_BLOBS
    assert schedule.blobs_at(1_764_798_551) == PRAGUE_BLOBS
    assert schedule.blobs_at(1_765_290_071) == BlobParameters(10, 15, 8_346_193)
    assert schedule.blobs_at(1_767_747_671) == BlobParameters(14, 21, 11_684_671)


def test_a_fork_without_blobs_of_its_own_keeps_those_before():
    config = {**MAINNET, "blobSchedule": {"cancun": {"target": 1, "max": 2, "baseFeeUpdateFraction": 3}}}
    del config["bpo1Time"], config["bpo2Time"]
    assert HardforkSchedule.from_config(config).blobs_at(2_000_000_000) == BlobParameters(1, 2, 3)


def test_blobs_of_a_fork_to_come_are_passed_over_while_it_is_not_scheduled():
    amsterdam = {"amsterdam": {"target": 1, "max": 2, "baseFeeUpdateFraction": 3}}
    config = {**MAINNET, "blobSchedule": {**HardforkSchedule.from_config(MAINNET).blob_config(), **amsterdam}}
    assert HardforkSchedule.from_config(config) == HardforkSchedule.from_config(MAINNET)


def test_a_config_survives_being_read_and_written():
    schedule = HardforkSchedule.from_config(MAINNET)
    shown = {
        **schedule.to_config(),
        "blobSchedule": schedule.blob_config(),
        "depositContractAddress": "0x" + schedule.deposit_contract.hex(),
    }
    assert HardforkSchedule.from_config(shown) == schedule
    assert {key: value for key, value in MAINNET.items() if key not in ("chainId", "ethash")} == {
        key: value for key, value in shown.items() if key != "blobSchedule"
    }


@pytest.mark.parametrize("fork", [fork for fork in Hardfork if fork is not Hardfork.DAO_FORK])
def test_always_is_that_fork_at_any_time_and_survives_its_genesis_file(fork):
    schedule = HardforkSchedule.always(fork)
    assert {schedule.at(0, 0), schedule.at(10**9, 10**12)} == {fork}
    genesis = Genesis("ethereum", 7, 5, 30_000_000, hardforks=schedule)
    assert Genesis.from_json(genesis.to_json()) == genesis


def test_since_adds_later_forks_by_number_and_by_time():
    assert HardforkSchedule.always(Hardfork.FRONTIER).since(Hardfork.HOMESTEAD, 5).at(4, 0) is Hardfork.FRONTIER
    assert HardforkSchedule.always(Hardfork.FRONTIER).since(Hardfork.HOMESTEAD, 5).at(5, 0) is Hardfork.HOMESTEAD
    schedule = HardforkSchedule.always(Hardfork.CANCUN).since(Hardfork.PRAGUE, 15_000)
    assert (schedule.at(9, 14_999), schedule.at(9, 15_000)) == (Hardfork.CANCUN, Hardfork.PRAGUE)
    schedule = HardforkSchedule.always(Hardfork.GRAY_GLACIER).since(Hardfork.PARIS, 10)
    assert (schedule.at(9, 0), schedule.at(10, 0)) == (Hardfork.GRAY_GLACIER, Hardfork.PARIS)


def test_the_merge_happens_by_number_by_difficulty_or_because_the_block_says_so():
    london = HardforkSchedule.always(Hardfork.LONDON)
    assert london.at(100, 100) is Hardfork.LONDON
    assert london.at(100, 100, merged=True) is Hardfork.PARIS
    assert replace(london, terminal_total_difficulty=0).at(1, 1) is Hardfork.PARIS
    assert replace(london, merge_netsplit_block=7).at(6, 1) is Hardfork.LONDON
    assert replace(london, merge_netsplit_block=7).at(7, 1) is Hardfork.PARIS


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"byzantiumBlock": 1}, "byzantiumBlock"),
        ({"byzantiumBlock": None}, "byzantiumBlock"),
        ({"daoForkBlock": 3}, "daoForkBlock"),
        ({"pragueTime": 4}, "pragueTime"),
        ({"cancunTime": None}, "cancunTime"),
        ({"homesteadBlock": "soon"}, "homesteadBlock"),
        ({"homesteadBlock": -1}, "homesteadBlock"),
        ({"daoForkSupport": 1}, "daoForkSupport"),
        ({"amsterdamTime": 2_000_000_000}, "amsterdamTime"),
        ({"bpo4Time": 2_000_000_000}, "bpo4Time"),
        ({"blobSchedule": []}, "blobSchedule"),
        ({"blobSchedule": {"cancun": {"target": 7, "max": 6, "baseFeeUpdateFraction": 1}}}, "blobSchedule.cancun"),
        ({"blobSchedule": {"cancun": {"target": 3, "max": 6}}}, "blobSchedule.cancun.baseFeeUpdateFraction"),
        ({"blobSchedule": {"bpo9": {"target": 3, "max": 6, "baseFeeUpdateFraction": 1}}}, "blobSchedule.bpo9"),
        ({"depositContractAddress": "0x12"}, "depositContractAddress"),
    ],
)
def test_a_schedule_nobody_can_follow_is_refused_by_name(change, named):
    with pytest.raises(InvalidGenesis, match=named):
        HardforkSchedule.from_config({**MAINNET, **change})


def test_a_missing_deposit_contract_is_none_at_all_in_a_file_and_the_main_networks_in_code():
    config = {key: value for key, value in MAINNET.items() if key != "depositContractAddress"}
    assert HardforkSchedule.from_config(config).deposit_contract == bytes(20)
    assert HardforkSchedule.always(Hardfork.PRAGUE).deposit_contract == MAINNET_DEPOSIT_CONTRACT

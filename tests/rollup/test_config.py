import json

import pytest

from openledger.genesis.presets import preset
from openledger.rollup.config import InvalidRollupConfig, RollupConfig

CONFIG = RollupConfig.from_genesis(preset("devnet"), b"\x01" * 32, b"\x02" * 32, 1_700_000_000)


def test_a_config_survives_its_json() -> None:
    assert RollupConfig.from_json(json.loads(json.dumps(CONFIG.to_json()))) == CONFIG


def test_the_json_has_op_nodes_names() -> None:
    document = CONFIG.to_json()
    assert document["genesis"]["l2_time"] == 1_700_000_000
    assert document["genesis"]["l1"] == {"hash": "0x" + "01" * 32, "number": 0}
    assert document["l2_chain_id"] == 161_299
    assert document["batch_inbox_address"] == "0xff" + "161299".rjust(38, "0")
    assert document["isthmus_time"] == 0
    assert document["genesis"]["system_config"]["scalar"].startswith("0x01")
    assert document["chain_op_config"]["eip1559DenominatorCanyon"] == 250


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"isthmus_time": 5}, "isthmus_time"),
        ({"canyon_time": None}, "canyon_time is None"),
        ({"jovian_time": 1_900_000_000}, "jovian_time is 1900000000: the chain leaves Isthmus"),
        ({"jovian_time": 0}, "jovian_time is 0"),
        ({"karst_time": 5}, "no later rules"),
        ({"pectra_blob_schedule_time": 5}, "pectra_blob_schedule_time"),
        ({"alt_da": {"da_commitment_type": "KeccakCommitment"}}, "da_commitment_type is 'KeccakCommitment'"),
        ({"batch_inbox_address": "0x12"}, "batch_inbox_address"),
        ({"block_time": 0}, "block_time"),
        ({"l2_chain_id": "161299"}, "l2_chain_id"),
        ({"genesis": {}}, "system_config"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], names: str) -> None:
    with pytest.raises(InvalidRollupConfig, match=names):
        RollupConfig.from_json({**CONFIG.to_json(), **change})


def test_a_missing_field_is_named() -> None:
    document = CONFIG.to_json()
    del document["seq_window_size"]
    with pytest.raises(InvalidRollupConfig, match="seq_window_size"):
        RollupConfig.from_json(document)


def test_later_forks_that_are_not_planned_and_plain_ethereum_as_da_are_fine() -> None:
    document = {**CONFIG.to_json(), "jovian_time": None}
    del document["alt_da"]
    assert RollupConfig.from_json(document) == CONFIG

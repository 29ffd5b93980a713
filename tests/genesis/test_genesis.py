from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.genesis.genesis import (
    Genesis,
    GenesisAccount,
    InvalidGenesis,
    decode_holocene_extra_data,
    encode_holocene_extra_data,
)
from openledger.genesis.parameters import ForkSchedule
from openledger.genesis.presets import DEVNET, l1_genesis, l2_genesis

TIMESTAMP = 1_700_000_000
words = st.integers(0, 2**256 - 1)
accounts = st.builds(
    GenesisAccount,
    balance=words,
    nonce=st.integers(0, 2**64 - 1),
    code=st.binary(max_size=40),
    storage=st.dictionaries(words, st.integers(1, 2**256 - 1), max_size=3),
)


@given(
    alloc=st.dictionaries(st.binary(min_size=20, max_size=20), accounts, max_size=4),
    base=st.sampled_from([l1_genesis(DEVNET, TIMESTAMP), l2_genesis(DEVNET, TIMESTAMP)]),
    randao=st.binary(min_size=32, max_size=32),
    root=st.binary(min_size=32, max_size=32),
    step=st.none() | st.integers(0, 2**64 - 1),
)
def test_a_genesis_survives_its_json(alloc, base, randao, root, step):
    forks = ForkSchedule(step=step) if base.rules == "op" else ForkSchedule()
    genesis = replace(base, alloc=alloc, prev_randao=randao, parent_beacon_block_root=root, forks=forks)
    assert Genesis.from_json(genesis.to_json()) == genesis


def test_the_l2_document_is_what_op_geth_reads():
    document = l2_genesis(DEVNET, TIMESTAMP).to_json()
    config = document["config"]
    assert config["chainId"] == 161299
    assert config["optimism"] == {
        "eip1559Elasticity": 6,
        "eip1559Denominator": 250,
        "eip1559DenominatorCanyon": 250,
    }
    assert {config[fork] for fork in ("bedrockBlock", "regolithTime", "ecotoneTime", "isthmusTime", "pragueTime")} == {
        0
    }
    assert document["extraData"] == "0x00000000fa00000006"
    assert document["timestamp"] == hex(TIMESTAMP)
    assert document["alloc"]["4200000000000000000000000000000000000016"]["code"].startswith("0x60")


def test_numbers_may_be_decimal_or_hexadecimal_text():
    document = l1_genesis(DEVNET, TIMESTAMP).to_json()
    document["timestamp"] = str(TIMESTAMP)
    assert Genesis.from_json(document).timestamp == TIMESTAMP


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.pop("gasLimit"), "gasLimit"),
        (lambda d: d.update(timestamp="soon"), "timestamp"),
        (lambda d: d.update(timestamp=-1), "timestamp"),
        (lambda d: d.update(coinbase="0x00"), "coinbase"),
        (lambda d: d["config"].update(pragueTime=7), "pragueTime"),
        (lambda d: d["config"].pop("isthmusTime"), "isthmusTime"),
        (lambda d: d["alloc"].update(zz={}), "alloc.zz"),
        (lambda d: d.update(config=[]), "config"),
        (lambda d: d["config"].update(openledger=[]), r"config\.openledger"),
        (lambda d: d["config"]["openledger"].update(creditTime="zz"), r"config\.openledger\.creditTime"),
        (lambda d: d["alloc"].update({"11" * 20: {"storage": {"0xzz": "0x1"}}}), r"alloc\.1{40}\.storage, key '0xzz'"),
        (lambda d: d["alloc"].update({"11" * 20: {"storage": {"0x07": 1.5}}}), r"alloc\.1{40}\.storage\.0x07"),
    ],
)
def test_a_malformed_document_is_refused_by_the_name_of_its_field(change, named):
    document = l2_genesis(DEVNET, TIMESTAMP).to_json()
    change(document)
    with pytest.raises(InvalidGenesis, match=named):
        Genesis.from_json(document)


def test_storage_is_hexadecimal_even_without_its_prefix():
    document = l2_genesis(DEVNET, TIMESTAMP).to_json()
    document["alloc"]["11" * 20] = {"storage": {"10": "0x0a", "00" * 31 + "11": "12"}}
    assert Genesis.from_json(document).alloc[b"\x11" * 20].storage == {0x10: 10, 0x11: 0x12}


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_holocene_extra_data_survives_its_codec(denominator, elasticity):
    encoded = encode_holocene_extra_data(denominator, elasticity)
    assert decode_holocene_extra_data(encoded) == (denominator, elasticity)


def test_other_extra_data_is_not_taken_for_holocene():
    with pytest.raises(InvalidGenesis):
        decode_holocene_extra_data(b"\x01" + bytes(8))

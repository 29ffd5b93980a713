"""Real blocks of OP chains, executed from their witnesses, and the rules of forks before our own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from openledger.evm_ext import PayloadAttributes
from openledger.evm_ext.building import extra_data_for
from openledger.evm_ext.errors import InvalidAttributes, MissingWitness, UnsupportedRules
from openledger.evm_ext.fees import L1FeeParameters
from openledger.evm_ext.header_json import header_from_json
from openledger.evm_ext.header_rules import child_base_fee
from openledger.evm_ext.precompiles.ethereum import precompiles_at
from openledger.evm_ext.rollup_rules import rules_of_rollup
from openledger.evm_ext.stateless import differences, execute
from openledger.evm_ext.vm.machines import machine
from openledger.evm_ext.witness import Witness
from openledger.genesis import predeploys
from openledger.genesis.genesis import encode_holocene_extra_data
from openledger.genesis.hardforks import Hardfork
from openledger.genesis.op_forks import OpFork, OpForkSchedule

BLOCK = json.loads((Path(__file__).parent / "vectors" / "op_mainnet_120794432.json").read_text())
ECOTONE, FJORD, GRANITE, HOLOCENE, ISTHMUS = 1_710_374_401, 1_720_627_201, 1_726_070_401, 1_736_445_601, 1_746_806_401


def octets(text):
    return bytes.fromhex(text[2:])


@pytest.fixture
def case():
    """Rules, parent, attributes and witness of OP Mainnet's block 120,794,432."""
    fields = BLOCK["attributes"]
    attributes = PayloadAttributes(
        timestamp=int(fields["timestamp"], 16),
        prev_randao=octets(fields["prevRandao"]),
        suggested_fee_recipient=octets(fields["suggestedFeeRecipient"]),
        parent_beacon_block_root=octets(fields["parentBeaconBlockRoot"]),
        transactions=tuple(map(octets, fields["transactions"])),
        no_tx_pool=True,
        gas_limit=int(fields["gasLimit"], 16),
    )
    rules = rules_of_rollup(BLOCK["rollup_config"], attributes.timestamp)
    return rules, header_from_json(BLOCK["parent"]), attributes, BLOCK["witness"]


def test_a_real_block_of_op_mainnet_has_its_real_hash(case):
    rules, parent, attributes, witness = case
    header = execute(rules, parent, attributes, Witness.from_json(witness)).block.header
    assert differences(header, header_from_json(BLOCK["expected"])) == []
    assert header.hash.hex() == "c037066dfa979f84bda99016623d1bd4d2168e7a54dfe95b0948b56eda50a2bb"


def test_each_preimage_that_the_real_block_needs_is_missed(case):
    rules, parent, attributes, witness = case
    used = execute(rules, parent, attributes, Witness.from_json(witness)).used
    assert len(used) > 40
    for digest in used:
        partial = Witness.from_json({key: value for key, value in witness.items() if octets(key) != digest})
        with pytest.raises(MissingWitness) as missing:
            execute(rules, parent, attributes, partial)
        assert missing.value.digest == digest


# --- the forks ---------------------------------------------------------------------------------------------


def rules_at(timestamp):
    return rules_of_rollup(BLOCK["rollup_config"], timestamp).at(120_000_000, timestamp)


@pytest.mark.parametrize(
    ("timestamp", "op_fork", "fork"),
    [
        (ECOTONE, OpFork.ECOTONE, Hardfork.CANCUN),
        (FJORD - 1, OpFork.ECOTONE, Hardfork.CANCUN),
        (FJORD, OpFork.FJORD, Hardfork.CANCUN),
        (GRANITE, OpFork.GRANITE, Hardfork.CANCUN),
        (HOLOCENE, OpFork.HOLOCENE, Hardfork.CANCUN),
        (ISTHMUS - 1, OpFork.HOLOCENE, Hardfork.CANCUN),
        (ISTHMUS, OpFork.ISTHMUS, Hardfork.PRAGUE),
    ],
)
def test_the_fork_of_a_block_is_the_config_s(timestamp, op_fork, fork):
    rules = rules_at(timestamp)
    assert (rules.op_fork, rules.fork) == (op_fork, fork)
    assert rules.has_fastlz_l1_fee == (op_fork >= OpFork.FJORD)
    assert rules.has_fee_parameters == (op_fork >= OpFork.HOLOCENE)
    assert rules.has_operator_fee == rules.commits_to_message_passer == (op_fork >= OpFork.ISTHMUS)
    assert (4 in rules.transaction_types) == (op_fork >= OpFork.ISTHMUS)


@pytest.mark.parametrize(
    ("change", "timestamp", "words"),
    [
        ({}, ECOTONE - 1, "before ecotone"),
        ({"ecotone_time": None}, ECOTONE, "before ecotone"),
        ({"jovian_time": ISTHMUS + 5}, ISTHMUS + 5, "under jovian"),
        ({"interop_time": 0}, ISTHMUS, "under interop"),
        ({"chain_op_config": None}, ISTHMUS, "chain_op_config"),
        ({"chain_op_config": {"eip1559Elasticity": 0, "eip1559DenominatorCanyon": 250}}, ISTHMUS, "zero"),
        ({"l2_chain_id": None}, ISTHMUS, "l2_chain_id"),
        ({"isthmus_time": "soon"}, ISTHMUS, "isthmus_time"),
        ({"isthmus_time": True}, ISTHMUS, "isthmus_time"),
        ({"fjord_time": 1.5}, ISTHMUS, "fjord_time"),
        ({"openledger": {"creditTime": "x"}}, ISTHMUS, "creditTime"),
    ],
)
def test_a_block_whose_rules_are_not_known_is_refused(change, timestamp, words):
    with pytest.raises(UnsupportedRules, match=words):
        rules_of_rollup({**BLOCK["rollup_config"], **change}, timestamp)


def test_a_later_fork_does_not_matter_to_a_block_before_it():
    rules = rules_of_rollup({**BLOCK["rollup_config"], "jovian_time": ISTHMUS + 5}, ISTHMUS + 4)
    assert rules.op_forks == OpForkSchedule(FJORD, GRANITE, HOLOCENE, ISTHMUS)


def test_base_fee_parameters_are_the_chain_s_until_holocene_and_then_the_parent_s(case):
    _, parent, _, _ = case
    rules = rules_of_rollup(BLOCK["rollup_config"], ISTHMUS)
    assert child_base_fee(rules, parent) == header_from_json(BLOCK["expected"]).base_fee_per_gas
    holocene = replace(parent, timestamp=HOLOCENE, extra_data=encode_holocene_extra_data(250, 6))
    assert child_base_fee(rules, holocene) == child_base_fee(rules, parent)
    slower = replace(holocene, extra_data=encode_holocene_extra_data(1_000_000, 6))
    assert child_base_fee(rules, slower) != child_base_fee(rules, parent)


def test_extra_data_is_empty_before_holocene(case):
    rules, _, attributes, _ = case
    assert extra_data_for(rules, attributes) == b""
    with pytest.raises(InvalidAttributes, match="Holocene"):
        extra_data_for(rules, replace(attributes, eip_1559_params=bytes(8)))
    assert extra_data_for(rules, replace(attributes, timestamp=HOLOCENE)) == encode_holocene_extra_data(250, 6)


def test_the_l1_fee_of_ecotone_is_on_the_calldata_gas():
    # The example of op-geth's tests: 480 calldata gas at base fee 10**9, blob base fee 10**7, scalars 2 and 3.
    parameters = L1FeeParameters(1000 * 10**6, 10 * 10**6, 2, 3, 0, 0)
    assert parameters.ecotone_l1_fee(bytes(120)) == 960_900
    assert parameters.ecotone_l1_fee(b"\x01" * 30) == 960_900


def test_precompiles_and_their_limits_come_with_the_forks():
    tables = {fork: precompiles_at(Hardfork.CANCUN, True, fork) for fork in OpFork if fork < OpFork.ISTHMUS}
    tables[OpFork.ISTHMUS] = precompiles_at(Hardfork.PRAGUE, True)
    assert [predeploys.P256VERIFY in tables[fork] for fork in OpFork] == [False, True, True, True, True]
    limits = [tables[fork][predeploys.BN254_PAIRING].input_limit for fork in OpFork]
    assert limits == [None, None, 112_687, 112_687, 112_687]
    assert [
        tables[OpFork.ISTHMUS][address].input_limit
        for address in (predeploys.BLS12_G1MSM, predeploys.BLS12_G2MSM, predeploys.BLS12_PAIRING_CHECK)
    ] == [513_760, 488_448, 235_008]
    assert predeploys.BLS12_G1MSM not in tables[OpFork.HOLOCENE]
    assert predeploys.P256VERIFY not in machine(rules_at(ECOTONE)).get_precompiles()
    assert predeploys.P256VERIFY in machine(rules_at(FJORD)).get_precompiles()

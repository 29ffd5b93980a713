"""Each system contract's address follows from its EIP's deployment transaction, whose signature nobody made.

The signature fixes the sender only together with the transaction's hash, so a wrong byte of code gives another
address. The transactions are those of EIP-4788, EIP-2935, EIP-7002 and EIP-7251.
"""

import pytest
import rlp
from eth_account import Account

from openledger.genesis import predeploys
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import DEVNET, l1_genesis, l2_genesis

GAS, GAS_PRICE, R = 0x3D090, 0xE8D4A51000, 0x539
DEPLOYMENTS = {
    "EIP-4788": (predeploys.BEACON_ROOTS, "60618060095f395ff3", 0x1B9B6EB1F0),
    "EIP-2935": (predeploys.HISTORY_STORAGE, "60538060095f395ff3", 0xAA12693182426612186309F02CFE8A80A0000),
    "EIP-7002": (
        predeploys.WITHDRAWAL_REQUESTS,
        "7f" + "ff" * 32 + "5f556101f880602d5f395ff3",
        0x5FEEB084551E4E03A3581E269BC2EA2F8D0008,
    ),
    "EIP-7251": (
        predeploys.CONSOLIDATION_REQUESTS,
        "7f" + "ff" * 32 + "5f5561019e80602d5f395ff3",
        0xC0730F92DC275B663D377A7CBB141B6600052,
    ),
}


@pytest.mark.parametrize("eip", DEPLOYMENTS)
def test_the_code_is_what_the_eips_transaction_deploys(eip):
    address, constructor, s = DEPLOYMENTS[eip]
    code = l1_genesis(DEVNET, 1).alloc[address].code
    data = bytes.fromhex(constructor) + code
    signed = rlp.encode([0, GAS_PRICE, GAS, b"", 0, data, 27, R, s])
    sender = bytes.fromhex(Account.recover_transaction(signed)[2:])
    assert keccak256(rlp.encode([sender, 0]))[12:] == address


def test_the_l2_has_no_request_queues():
    alloc = l2_genesis(DEVNET, 1).alloc
    assert predeploys.BEACON_ROOTS in alloc
    assert predeploys.HISTORY_STORAGE in alloc
    assert predeploys.WITHDRAWAL_REQUESTS not in alloc
    assert predeploys.CONSOLIDATION_REQUESTS not in alloc


def test_multicall3_is_the_one_that_libraries_know():
    code = l2_genesis(DEVNET, 1).alloc[predeploys.MULTICALL3].code
    assert keccak256(code).hex() == "d5c15df687b16f2ff992fc8d767b4216323184a2bbc6ee2f9c398c318e770891"


def test_the_deterministic_deployer_deploys(machine):
    genesis = l2_genesis(DEVNET, 1)
    evm = machine(genesis.chain_id, genesis.alloc)
    init = bytes.fromhex("602a60005260206000f3")  # returns a word with 42 as code
    created = evm.send(predeploys.DETERMINISTIC_DEPLOYER, bytes(32) + init)
    expected = keccak256(b"\xff" + predeploys.DETERMINISTIC_DEPLOYER + bytes(32) + keccak256(init))[12:]
    assert created == expected
    assert evm.code(created) == bytes(31) + b"\x2a"

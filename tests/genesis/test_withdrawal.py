"""Native OPEN leaves the L2 and is unlocked on L1: the portal of our alloc against a state built with py-trie."""

import pytest
import rlp
from eth_abi import encode
from trie import HexaryTrie

from openledger.genesis import dev_accounts, predeploys
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import DEVNET, l1_genesis, l2_genesis

TIMESTAMP = 1_700_000_000
L1, L2 = l1_genesis(DEVNET, TIMESTAMP), l2_genesis(DEVNET, TIMESTAMP)
SENDER, RECIPIENT = dev_accounts.USERS[0].address, b"\xee" * 20
AMOUNT = 12_345
WITHDRAWAL_TYPE = "(uint256,address,address,uint256,uint256,bytes)"
PROVE = f"proveWithdrawalTransaction({WITHDRAWAL_TYPE},uint256,(bytes32,bytes32,bytes32,bytes32),bytes[])"
FINALIZE = f"finalizeWithdrawalTransaction({WITHDRAWAL_TYPE})"


@pytest.fixture
def withdrawal(machine):
    """A withdrawal made on the L2's own message passer, its output root, and the proof of its slot."""
    evm = machine(L2.chain_id, L2.alloc)
    evm.call(
        predeploys.L2_TO_L1_MESSAGE_PASSER,
        "initiateWithdrawal(address,uint256,bytes)",
        *(RECIPIENT, 0, b""),
        caller=SENDER,
        value=AMOUNT,
    )
    transaction = (1 << 240, SENDER, RECIPIENT, AMOUNT, 0, b"")
    digest = keccak256(encode(["uint256", "address", "address", "uint256", "uint256", "bytes"], transaction))
    slot = keccak256(digest + bytes(32))
    assert evm.storage(predeploys.L2_TO_L1_MESSAGE_PASSER, int.from_bytes(slot, "big")) == 1
    storage = HexaryTrie({})
    alloc = L2.alloc[predeploys.L2_TO_L1_MESSAGE_PASSER].storage
    for key, value in {**alloc, int.from_bytes(slot, "big"): 1, 1: 1}.items():
        storage[keccak256(key.to_bytes(32, "big"))] = rlp.encode(value)
    proof = [rlp.encode(node) for node in storage.get_proof(keccak256(slot))]
    output = (bytes(32), b"\x5a" * 32, storage.root_hash, b"\xb1" * 32)
    return transaction, output, proof


def l1_with_output(machine, output):
    evm = machine(L1.chain_id, L1.alloc, timestamp=TIMESTAMP + 61)
    allow = (predeploys.L1_OUTPUT_ORACLE, DEVNET.proposer_bond_wei)
    evm.call(predeploys.L1_OPEN_TOKEN, "approve(address,uint256)", *allow, caller=DEVNET.proposer)
    evm.call(
        predeploys.L1_OUTPUT_ORACLE,
        "proposeL2Output(bytes32,uint256,bytes32,uint256)",
        *(keccak256(b"".join(output)), DEVNET.output_interval_blocks, bytes(32), 0),
        caller=DEVNET.proposer,
    )
    return evm


def open_of(evm, holder):
    return evm.call(predeploys.L1_OPEN_TOKEN, "balanceOf(address)", holder, returns="(uint256)")


def test_a_proven_withdrawal_unlocks_open_after_the_finalization_period_and_only_once(machine, reverted, withdrawal):
    transaction, output, proof = withdrawal
    evm = l1_with_output(machine, output)
    locked = open_of(evm, predeploys.L1_PORTAL)
    evm.call(predeploys.L1_PORTAL, PROVE, transaction, 0, output, proof)
    with pytest.raises(reverted):
        evm.call(predeploys.L1_PORTAL, FINALIZE, transaction)
    evm.set_timestamp(TIMESTAMP + 61 + DEVNET.finalization_period_s + 1)
    evm.call(predeploys.L1_PORTAL, FINALIZE, transaction)
    assert open_of(evm, RECIPIENT) == AMOUNT
    assert open_of(evm, predeploys.L1_PORTAL) == locked - AMOUNT
    assert evm.call(predeploys.L1_PORTAL, "balance()", returns="(uint256)") == locked - AMOUNT
    with pytest.raises(reverted):
        evm.call(predeploys.L1_PORTAL, FINALIZE, transaction)


@pytest.mark.parametrize("field", range(6))
def test_a_withdrawal_that_never_was_cannot_be_proven(machine, reverted, withdrawal, field):
    transaction, output, proof = withdrawal
    evm = l1_with_output(machine, output)
    changed = list(transaction)
    replacements = (1 << 240 | 1, b"\xef" * 20, b"\xef" * 20, AMOUNT + 1, 1, b"\x01")
    changed[field] = replacements[field]
    with pytest.raises(reverted):
        evm.call(predeploys.L1_PORTAL, PROVE, tuple(changed), 0, output, proof)


def test_against_a_challenged_output_nothing_is_paid_until_it_is_decided(machine, reverted, withdrawal):
    transaction, output, proof = withdrawal
    evm = l1_with_output(machine, output)
    challenger, root = dev_accounts.USERS[1].address, keccak256(b"".join(output))
    allow = (predeploys.L1_OUTPUT_ORACLE, DEVNET.challenger_bond_wei)
    evm.call(predeploys.L1_PORTAL, PROVE, transaction, 0, output, proof)
    evm.call(predeploys.L1_OPEN_TOKEN, "approve(address,uint256)", *allow, caller=challenger)
    evm.call(predeploys.L1_OUTPUT_ORACLE, "challengeL2Output(uint256,bytes32)", 0, root, caller=challenger)
    for later in (1, 1_000_000):
        evm.set_timestamp(TIMESTAMP + 61 + DEVNET.finalization_period_s + later)
        with pytest.raises(reverted, match=b"output proposal finalization period".hex()):
            evm.call(predeploys.L1_PORTAL, FINALIZE, transaction)
    decide = "decideChallenge(uint256,bytes32,bool)"
    evm.call(predeploys.L1_OUTPUT_ORACLE, decide, 0, root, True, caller=DEVNET.owner)
    evm.call(predeploys.L1_PORTAL, FINALIZE, transaction)
    assert open_of(evm, RECIPIENT) == AMOUNT


def test_against_an_output_decided_wrong_nothing_is_ever_paid(machine, reverted, withdrawal):
    transaction, output, proof = withdrawal
    evm = l1_with_output(machine, output)
    challenger, root = dev_accounts.USERS[1].address, keccak256(b"".join(output))
    allow = (predeploys.L1_OUTPUT_ORACLE, DEVNET.challenger_bond_wei)
    evm.call(predeploys.L1_PORTAL, PROVE, transaction, 0, output, proof)
    evm.call(predeploys.L1_OPEN_TOKEN, "approve(address,uint256)", *allow, caller=challenger)
    evm.call(predeploys.L1_OUTPUT_ORACLE, "challengeL2Output(uint256,bytes32)", 0, root, caller=challenger)
    decide = "decideChallenge(uint256,bytes32,bool)"
    evm.call(predeploys.L1_OUTPUT_ORACLE, decide, 0, root, False, caller=DEVNET.owner)
    evm.set_timestamp(TIMESTAMP + 1_000_000)
    with pytest.raises(reverted):
        evm.call(predeploys.L1_PORTAL, FINALIZE, transaction)


def test_an_output_that_was_not_proposed_proves_nothing(machine, reverted, withdrawal):
    transaction, output, proof = withdrawal
    evm = l1_with_output(machine, (bytes(32), b"\x5b" * 32, *output[2:]))
    with pytest.raises(reverted):
        evm.call(predeploys.L1_PORTAL, PROVE, transaction, 0, output, proof)

"""Output roots on L1: proposed by one, checked by all, and a withdrawal proved against one of them."""

import pytest
from eth_abi import encode as abi_encode

from openledger.evm_ext.signatures import address_of
from openledger.genesis.dev_accounts import OWNER, PROPOSER, USERS, DevAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_OUTPUT_ORACLE, L1_PORTAL, L2_TO_L1_MESSAGE_PASSER
from openledger.genesis.presets import DEVNET
from openledger.node.telemetry import output_metrics
from openledger.rollup.codec.outputs import withdrawal_storage_slot
from openledger.rollup.codec.withdrawals import InvalidWithdrawal, Withdrawal, withdrawal_from_log, withdrawals_in
from openledger.rollup.l1.bond import BondMissing
from openledger.rollup.l1.output_oracle import OutputOracle
from openledger.rollup.output_checker import OutputChecker
from openledger.rollup.proposer import ProposalFailed, Proposer, block_output

INTERVAL = DEVNET.output_interval_blocks
TARGET = b"\x7a" * 20


def proposer(network, account=PROPOSER) -> Proposer:
    return Proposer(
        network.node.engine,
        network.l1_view,
        network.l1_view,
        L1_OUTPUT_ORACLE,
        account.private_key,
        clock=network.clock,
    )


def checker(network, node, key=None) -> OutputChecker:
    return OutputChecker(node.engine, network.l1_view, L1_OUTPUT_ORACLE, key, clock=network.clock)


async def finalize(network) -> None:
    """Let the blocks of two output intervals become final on the sequencer's node."""
    await network.advance(2 * INTERVAL + 4)
    await network.post()
    await network.advance(24)
    await network.node.driver.derive_to_tip()
    assert network.node.chain.head("finalized").number >= INTERVAL


async def test_only_finalized_blocks_are_proposed_and_each_once(network) -> None:
    one = proposer(network)
    assert not await one.step()
    await finalize(network)
    assert await one.step()
    while await one.step():
        pass
    oracle = OutputOracle(network.l1_view, L1_OUTPUT_ORACLE)
    count = await oracle.next_index()
    assert count == network.node.chain.head("finalized").number // INTERVAL
    assert not await proposer(network).step()  # a new process knows it too
    for index in range(count):
        output = await oracle.output(index)
        assert output.l2_block_number == (index + 1) * INTERVAL
        assert output.root == block_output(network.node.engine, output.l2_block_number)
    validator = network.open_node("validator")
    await validator.driver.derive_to_tip()
    watching = checker(network, validator)
    await watching.step()
    assert (watching.checked, watching.problem) == (count, None)
    validator.close()


async def test_a_stranger_cannot_propose(network) -> None:
    await finalize(network)
    with pytest.raises(ProposalFailed, match="proposer"):
        await proposer(network, USERS[0]).step()


async def test_a_wrong_output_is_told_challenged_by_anybody_and_deleted_by_the_decider(network) -> None:
    await finalize(network)
    await network.propose_wrong(b"\x66" * 32, INTERVAL)
    oracle = OutputOracle(network.l1_view, L1_OUTPUT_ORACLE)
    assert (await oracle.output(0)).root == b"\x66" * 32
    validator = network.open_node("validator")
    await validator.driver.derive_to_tip()
    watching = checker(network, validator)
    for _ in range(2):
        await watching.step()
        assert watching.problem is not None
        assert "output 0 on L1 is wrong" in watching.problem
    assert watching.checked == 0
    anybody = checker(network, validator, USERS[1].private_key)
    for _ in range(2):
        await anybody.step()
        assert "frozen until" in str(anybody.problem)
    assert anybody.challenged == 1
    await network.advance(DEVNET.finalization_period_s + 8)
    output = await oracle.output(0)
    assert output.timestamp == network.l1.chain.head().timestamp  # it does not become final
    decider = checker(network, validator, OWNER.private_key)
    await decider.step()
    assert (decider.challenged, decider.disputed, decider.problem, await oracle.next_index()) == (0, 1, None, 0)
    won = DEVNET.challenger_bond_wei + DEVNET.proposer_bond_wei // 2
    assert await oracle.bond_of(USERS[1].address) == (won, 0)
    assert await oracle.bond_of(PROPOSER.address) == (0, 0)
    await watching.step()
    assert watching.problem is None
    one = proposer(network)
    assert await one.step()
    assert await oracle.bond_of(PROPOSER.address) == (0, DEVNET.proposer_bond_wei)
    await watching.step()
    assert watching.checked == 1
    validator.close()


async def test_a_right_output_that_is_challenged_stays_and_the_challenger_pays(network) -> None:
    await finalize(network)
    await proposer(network).step()
    oracle = OutputOracle(network.l1_view, L1_OUTPUT_ORACLE)
    network.allow_bond(USERS[1], DEVNET.challenger_bond_wei)
    await network.advance(4)
    network.send_l1(USERS[1], L1_OUTPUT_ORACLE, data=OutputOracle.challenge(0, (await oracle.output(0)).root))
    await network.advance(4)
    watching, deciding = checker(network, network.node), checker(network, network.node, OWNER.private_key)
    await watching.step()
    assert (watching.frozen_from, watching.problem) == (0, None)
    await deciding.step()
    assert (deciding.upheld, deciding.challenged, await oracle.frozen_from()) == (1, 0, None)
    assert await oracle.bond_of(USERS[1].address) == (0, 0)
    assert await oracle.bond_of(PROPOSER.address) == (DEVNET.challenger_bond_wei // 2, DEVNET.proposer_bond_wei)


async def test_where_nobody_decides_the_challenger_has_the_output_deleted(network) -> None:
    await finalize(network)
    await network.propose_wrong(b"\x66" * 32, INTERVAL)
    anybody = checker(network, network.node, USERS[1].private_key)
    await anybody.step()
    await network.advance(DEVNET.decision_period_s + 16)
    await anybody.step()
    assert (anybody.challenged, anybody.disputed, anybody.problem) == (1, 1, None)
    oracle = OutputOracle(network.l1_view, L1_OUTPUT_ORACLE)
    assert await oracle.next_index() == 0
    assert await oracle.bond_of(USERS[1].address) == (DEVNET.challenger_bond_wei, 0)
    # One who decides needs nobody else to challenge.
    await network.propose_wrong(b"\x67" * 32, INTERVAL)
    deciding = checker(network, network.node, OWNER.private_key)
    await deciding.step()
    assert (deciding.challenged, deciding.disputed, deciding.problem, await oracle.next_index()) == (1, 1, None, 0)


async def test_what_cannot_be_proposed_or_challenged_is_said(network) -> None:
    await finalize(network)
    poor = DevAccount(10, address_of(b"\x05" * 32), b"\x05" * 32)
    with pytest.raises(BondMissing, match="holds 0 OPEN on L1 and 0 in its bond that are free, but 1000 are needed"):
        await proposer(network, poor).step()
    await network.propose_wrong(b"\x66" * 32, INTERVAL)
    watching = checker(network, network.node, poor.private_key)
    await watching.step()
    assert "cannot be challenged" in str(watching.problem)
    await network.advance(DEVNET.finalization_period_s + 8)
    late = checker(network, network.node, USERS[1].private_key)
    for _ in range(2):
        await late.step()
        assert str(late.problem).count("it is final") == 1
    assert await network.l1_view.nonce(USERS[1].address, pending=True) == 0


async def test_the_proposer_allows_as_many_bonds_as_are_open_at_once_and_uses_them_again(network) -> None:
    await finalize(network)
    one, oracle = proposer(network), OutputOracle(network.l1_view, L1_OUTPUT_ORACLE)
    nonce = await network.l1_view.nonce(PROPOSER.address, pending=True)
    while await one.step():
        pass
    proposed = one.count
    assert proposed == 1
    assert await network.l1_view.nonce(PROPOSER.address, pending=True) == nonce + 1 + proposed
    assert await oracle.bond_of(PROPOSER.address) == (0, DEVNET.proposer_bond_wei)
    await network.advance(DEVNET.finalization_period_s + 8)
    await network.post()
    await network.advance(24)
    await network.node.driver.derive_to_tip()
    held = open_balance(network, PROPOSER.address)
    while await one.step():
        pass
    assert one.count > proposed
    watching = checker(network, network.node, USERS[1].private_key)
    await watching.step()
    samples = [sample for metric in output_metrics(watching, one) for sample in metric.samples]
    told = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert told["openledger_outputs_right",] == told["openledger_outputs_proposed_total",] == one.count
    assert told["openledger_outputs_frozen",] == 0
    assert told["openledger_bond_open", "challenger", "locked"] == 0
    assert sum(told["openledger_bond_open", "proposer", state] for state in ("free", "locked")) >= 1_000
    assert open_balance(network, PROPOSER.address) == held  # nothing new was taken


def open_balance(network, holder: bytes) -> int:
    token = keccak256(b"balanceOf(address)")[:4] + abi_encode(["address"], [holder])
    from openledger.evm_ext.calls import CallRequest

    chain = network.l1.chain
    return int.from_bytes(chain.call(CallRequest(to=L1_OPEN_TOKEN, data=token), chain.head().hash).output, "big")


async def test_a_withdrawal_is_proved_against_an_output_and_paid_once(network) -> None:
    chain, value = network.node.chain, 12_345
    initiate = keccak256(b"initiateWithdrawal(address,uint256,bytes)")[:4]
    sent = network.send_l2(
        USERS[0],
        L2_TO_L1_MESSAGE_PASSER,
        value=value,
        data=initiate + abi_encode(["address", "uint256", "bytes"], [TARGET, 100_000, b""]),
    )
    await finalize(network)
    block_hash, index = chain.transaction_location(sent)
    receipt = chain.receipts(block_hash)[index]
    (withdrawal,) = withdrawals_in(receipt.logs)
    assert (withdrawal.sender, withdrawal.target, withdrawal.value) == (USERS[0].address, TARGET, value)
    await proposer(network).step()
    header = chain.header_by_number(INTERVAL)
    slot = int.from_bytes(withdrawal_storage_slot(withdrawal.hash), "big")
    proof = chain.state(header.hash).account_proof(L2_TO_L1_MESSAGE_PASSER, [slot])
    (entry,) = proof.storage_proofs
    assert entry.value == 1
    assert proof.storage_root == header.withdrawals_root
    tuple_type = "(uint256,address,address,uint256,uint256,bytes)"
    prove = keccak256(
        f"proveWithdrawalTransaction({tuple_type},uint256,(bytes32,bytes32,bytes32,bytes32),bytes[])".encode()
    )[:4] + abi_encode(
        [tuple_type, "uint256", "(bytes32,bytes32,bytes32,bytes32)", "bytes[]"],
        [
            withdrawal.fields,
            0,
            (bytes(32), header.state_root, header.withdrawals_root, header.hash),
            list(entry.proof),
        ],
    )
    pay = keccak256(f"finalizeWithdrawalTransaction({tuple_type})".encode())[:4] + abi_encode(
        [tuple_type], [withdrawal.fields]
    )
    before = open_balance(network, L1_PORTAL)
    network.send_l1(USERS[1], L1_PORTAL, data=prove)
    await network.advance(4)
    network.send_l1(USERS[1], L1_PORTAL, data=pay)  # too early
    await network.advance(4)
    assert open_balance(network, TARGET) == 0
    await network.advance(DEVNET.finalization_period_s + 8)
    for _ in range(2):
        network.send_l1(USERS[1], L1_PORTAL, data=pay)
        await network.advance(4)
    assert open_balance(network, TARGET) == value
    assert open_balance(network, L1_PORTAL) == before - value
    broken = receipt.logs[0].__class__(
        receipt.logs[0].address, receipt.logs[0].topics, receipt.logs[0].data[:-1] + b"\x01"
    )
    with pytest.raises(InvalidWithdrawal):
        withdrawal_from_log(broken)
    assert withdrawal == Withdrawal(*withdrawal.fields)

"""OPEN goes to L2 and back as the bridge's commands move it, on a whole network in one process."""

import pytest

from openledger.evm_ext.calls import CallRequest
from openledger.genesis.dev_accounts import OWNER, USERS
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_OUTPUT_ORACLE, L1_PORTAL
from openledger.genesis.presets import DEVNET
from openledger.node.bridge import NotReady, Stage, WithdrawalStatus
from openledger.node.errors import UserError
from openledger.node.rpc_client import RpcError
from openledger.node.wallet import TransactionReverted, Wallet
from openledger.rollup.l1.output_oracle import OutputOracle

ALICE, BOB = Wallet(USERS[0].private_key), Wallet(USERS[1].private_key)
INTERVAL, PERIOD = DEVNET.output_interval_blocks, DEVNET.finalization_period_s


def open_on_l1(network, holder: bytes) -> int:
    chain = network.l1.chain
    call = CallRequest(to=L1_OPEN_TOKEN, data=keccak256(b"balanceOf(address)")[:4] + bytes(12) + holder)
    return int.from_bytes(chain.call(call, chain.head().hash).output, "big")


def open_on_l2(network, holder: bytes) -> int:
    return network.node.chain.state(network.node.chain.head().hash).balance(holder)


async def propose(network) -> None:
    """Let a whole output interval become final, and its outputs be proposed."""
    await network.advance(2 * INTERVAL + 4)
    await network.post()
    await network.advance(24)
    await network.node.driver.derive_to_tip()
    await network.propose()


async def test_open_goes_to_l2_and_back_to_the_wei(network, bridge) -> None:
    locked, before = open_on_l1(network, L1_PORTAL), open_on_l1(network, BOB.address)
    target = b"\x7c" * 20
    digest = await bridge.deposit(BOB, target, 700)
    await network.advance(12)
    assert network.node.chain.transaction_location(digest) is not None
    assert open_on_l2(network, target) == 700
    assert (open_on_l1(network, L1_PORTAL), open_on_l1(network, BOB.address)) == (locked + 700, before - 700)

    begun = await bridge.withdraw(ALICE, target, 900)
    assert (await bridge.status(begun)).stage is Stage.WAITING_FOR_OUTPUT
    with pytest.raises(NotReady, match="waiting for an output"):
        await bridge.prove(ALICE, begun)
    await propose(network)
    assert (await bridge.status(begun)).stage is Stage.READY_TO_PROVE
    with pytest.raises(NotReady, match="ready to prove"):
        await bridge.finalize(ALICE, begun)
    await bridge.prove(BOB, begun)  # anybody may
    proven = await bridge.status(begun)
    assert proven.stage is Stage.PROVEN
    assert 0 < proven.wait_s <= PERIOD + 1
    with pytest.raises(NotReady, match="s are left"):
        await bridge.finalize(BOB, begun)

    async def sleep(seconds: float) -> None:
        await network.advance(int(seconds) // 2 * 2 + 2)

    seen: list[WithdrawalStatus] = []
    ready = await bridge.wait_for(begun, (Stage.READY_TO_FINALIZE,), sleep, seen.append)
    assert {status.stage for status in seen} == {Stage.PROVEN, Stage.READY_TO_FINALIZE}
    assert ready.withdrawal.value == 900
    await bridge.finalize(BOB, begun)
    assert (await bridge.status(begun)).stage is Stage.FINALIZED
    assert open_on_l1(network, target) == 900
    assert open_on_l1(network, L1_PORTAL) == locked + 700 - 900
    with pytest.raises(NotReady, match="finalized"):
        await bridge.finalize(BOB, begun)


async def test_a_proof_against_an_output_that_was_deleted_is_given_again(network, bridge) -> None:
    begun = await bridge.withdraw(ALICE, ALICE.address, 5)
    await propose(network)
    await bridge.prove(ALICE, begun)
    network.send_l1(OWNER, L1_OUTPUT_ORACLE, data=OutputOracle.delete_from(0))
    await network.advance(4)
    assert (await bridge.status(begun)).stage is Stage.WAITING_FOR_OUTPUT
    await propose(network)
    # The same root was proposed again: the proof stands, its time began anew with the output.
    status = await bridge.status(begun)
    assert status.stage is Stage.PROVEN
    assert status.wait_s > PERIOD // 2


async def test_an_output_of_another_chain_is_noticed_before_gas_is_spent(network, bridge) -> None:
    begun = await bridge.withdraw(ALICE, ALICE.address, 5)
    await network.advance(2 * INTERVAL + 4)
    await network.propose_wrong(b"\x66" * 32, INTERVAL)
    with pytest.raises(UserError, match="not of the chain"):
        await bridge.prove(ALICE, begun)


async def test_what_cannot_be_done_is_said(network, bridge) -> None:
    poor = Wallet(b"\x05" * 32)
    with pytest.raises(UserError, match="0 wei of OPEN on L1"):
        await bridge.deposit(poor, poor.address, 1)
    with pytest.raises((RpcError, TransactionReverted), match="insufficient"):
        await bridge.withdraw(poor, poor.address, 1)
    with pytest.raises(UserError, match="no transaction"):
        await bridge.status(bytes(32))
    plain = network.send_l2(USERS[2], b"\x77" * 20, value=1)
    await network.advance(2)
    with pytest.raises(UserError, match="began 0 withdrawals"):
        await bridge.status(plain)

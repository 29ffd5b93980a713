"""Disputes about outputs as people carry them out by `openledger bridge output` and `bond`, and oracles without bonds."""

import json

import pytest

from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.vm.entry import contract_address
from openledger.genesis.build import CONTRACTS_FOLDER
from openledger.genesis.dev_accounts import OWNER, PROPOSER, USERS
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_OUTPUT_ORACLE, L1_PROXY_ADMIN
from openledger.genesis.presets import DEVNET
from openledger.node.bridge import NotReady, Stage
from openledger.node.errors import UserError
from openledger.node.outputs import NoBonds, Outputs, Verdict
from openledger.node.wallet import TransactionReverted, Wallet
from openledger.rollup.l1.output_oracle import OutputOracle
from openledger.rollup.output_checker import OutputChecker
from openledger.rollup.proposer import Proposer

ALICE, BOB, DECIDER, PROPOSING = (Wallet(each.private_key) for each in (USERS[0], USERS[1], OWNER, PROPOSER))
INTERVAL, PERIOD = DEVNET.output_interval_blocks, DEVNET.finalization_period_s
BOND, STAKE = DEVNET.proposer_bond_wei, DEVNET.challenger_bond_wei


@pytest.fixture
def outputs(rpcs) -> Outputs:
    return Outputs(DEVNET, *rpcs)


async def finalize(network) -> None:
    """Let an output interval become final on L2."""
    await network.advance(2 * INTERVAL + 4)
    await network.post()
    await network.advance(24)
    await network.node.driver.derive_to_tip()


async def test_a_withdrawal_waits_for_the_decision_about_its_output(network, bridge, outputs) -> None:
    assert await outputs.listing(5) == []
    begun = await bridge.withdraw(ALICE, ALICE.address, 5)
    await finalize(network)
    await network.propose()
    await bridge.prove(ALICE, begun)
    (right,) = await outputs.listing(5)
    assert (right.verdict, right.frozen, right.challenger) == (Verdict.RIGHT, False, b"")
    assert 0 < right.final_in_s <= PERIOD
    with pytest.raises(UserError, match=r"output 0 is right .* would cost 500 OPEN"):
        await outputs.challenge(BOB, 0)
    network.allow_bond(USERS[1], STAKE)
    await network.advance(4)
    network.send_l1(USERS[1], L1_OUTPUT_ORACLE, data=OutputOracle.challenge(0, right.root))
    await network.advance(PERIOD + 8)
    (frozen,) = await outputs.listing(5)
    assert (frozen.frozen, frozen.final_in_s, frozen.challenger) == (True, None, BOB.address)
    assert (await bridge.status(begun)).stage is Stage.DISPUTED
    with pytest.raises(NotReady, match="challenged and not decided"):
        await bridge.finalize(ALICE, begun)
    with pytest.raises(TransactionReverted, match="NotChallenger"):
        await outputs.decide(BOB, 0)
    assert await outputs.decide(DECIDER, 0) is Verdict.RIGHT
    await bridge.finalize(ALICE, begun)
    assert (await bridge.status(begun)).stage is Stage.FINALIZED
    with pytest.raises(UserError, match="there is no output 1 on L1: the last one is 0"):
        await outputs.challenge(BOB, 1)

    # The proposer's bond is free again, and the challenger's half came to it.
    bond = await outputs.bond(PROPOSING.address)
    assert (bond.free, bond.locked) == (BOND + STAKE // 2, 0)
    with pytest.raises(UserError, match=r"1250 OPEN of .* are free"):
        await outputs.withdraw(PROPOSING, bond.free + 1)
    assert await outputs.withdraw(PROPOSING, None) == bond.free
    assert (await outputs.bond(PROPOSING.address)).held == bond.held + bond.free
    with pytest.raises(UserError, match=r"0 OPEN of .* are free"):
        await outputs.withdraw(BOB, None)


async def test_a_wrong_output_is_challenged_and_decided_by_hand(network, outputs) -> None:
    await network.advance(2 * INTERVAL + 4)
    await network.propose_wrong(b"\x66" * 32, INTERVAL)
    with pytest.raises(UserError, match="not derived yet"):
        await outputs.challenge(BOB, 0)
    await network.post()
    await network.node.driver.derive_to_tip()
    await outputs.deposit(BOB, STAKE // 2)  # the rest is taken as it is needed
    with pytest.raises(TransactionReverted, match="NotChallenged"):
        await outputs.decide(DECIDER, 0)
    await outputs.challenge(BOB, 0)
    assert ((await outputs.bond(BOB.address)).free, (await outputs.bond(BOB.address)).locked) == (0, STAKE)
    with pytest.raises(TransactionReverted, match="DecisionPending"):
        await outputs.expire(ALICE, 0)
    assert await outputs.decide(DECIDER, 0) is Verdict.WRONG
    assert await outputs.listing(5) == []
    assert (await outputs.bond(BOB.address)).free == STAKE + BOND // 2
    poor = Wallet(b"\x05" * 32)
    with pytest.raises(UserError, match="has 0 wei of OPEN on L1"):
        await outputs.deposit(poor, 1)


async def test_a_node_goes_on_with_an_oracle_without_bonds(network, outputs) -> None:
    """The OP-Stack's own, which older versions deployed: its code is put behind the proxy, the storage is the same."""
    package = CONTRACTS_FOLDER / "node_modules/@eth-optimism/contracts-bedrock/forge-artifacts/L2OutputOracle.sol"
    if not package.exists():
        pytest.skip("needs `npm ci` in genesis/contracts")
    code = json.loads((package / "L2OutputOracle.json").read_bytes())["bytecode"]["object"]
    at = contract_address(OWNER.address, network.l1.pool.pending_nonce(OWNER.address))
    network.send_l1(OWNER, None, data=bytes.fromhex(code.removeprefix("0x")), gas=5_000_000)
    await network.advance(4)
    upgrade = keccak256(b"upgrade(address,address)")[:4] + L1_OUTPUT_ORACLE.rjust(32, b"\0") + at.rjust(32, b"\0")
    network.send_l1(OWNER, L1_PROXY_ADMIN, data=upgrade)
    await finalize(network)
    oracle = OutputOracle(network.l1_view, L1_OUTPUT_ORACLE)
    assert await oracle.terms() is None
    with pytest.raises(NoBonds, match="takes no bonds"):
        await outputs.bond(ALICE.address)
    proposer = Proposer(
        network.node.engine,
        network.l1_view,
        network.l1_view,
        L1_OUTPUT_ORACLE,
        PROPOSER.private_key,
        clock=network.clock,
    )
    assert await proposer.step()
    held = CallRequest(to=L1_OPEN_TOKEN, data=keccak256(b"balanceOf(address)")[:4] + L1_OUTPUT_ORACLE.rjust(32, b"\0"))
    assert not any(network.l1.chain.call(held, network.l1.chain.head().hash).output)
    (right,) = await outputs.listing(5)
    assert (right.verdict, right.frozen) == (Verdict.RIGHT, False)

    await network.advance(2 * INTERVAL)
    await network.propose_wrong(b"\x66" * 32, 2 * INTERVAL)
    await network.post()
    await network.node.driver.derive_to_tip()
    checker = OutputChecker(
        network.node.engine, network.l1_view, L1_OUTPUT_ORACLE, OWNER.private_key, clock=network.clock
    )
    await checker.step()
    assert (checker.checked, checker.challenged, checker.disputed, checker.problem) == (1, 0, 1, None)
    assert await oracle.next_index() == 1

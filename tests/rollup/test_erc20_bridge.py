"""An ERC-20 goes to L2 and back through the standard bridges, each end believing the other's messenger alone."""

from typing import Any

import pytest
from eth_abi import encode as abi_encode

from openledger.genesis.artifact import artifact
from openledger.genesis.dev_accounts import USERS
from openledger.genesis.parameters import TOTAL_SUPPLY_WEI
from openledger.genesis.predeploys import (
    L1_CROSS_DOMAIN_MESSENGER,
    L1_OPEN_TOKEN,
    L1_PORTAL,
    L1_STANDARD_BRIDGE,
    L2_CROSS_DOMAIN_MESSENGER,
    L2_STANDARD_BRIDGE,
    OPTIMISM_MINTABLE_ERC20_FACTORY,
)
from openledger.node.bridge import Stage
from openledger.node.contracts import Contract
from openledger.node.rpc_client import RpcClient
from openledger.node.wallet import TransactionReverted, Wallet

ALICE, BOB = Wallet(USERS[0].private_key), Wallet(USERS[1].private_key)
RELAY_GAS = 200_000
_MINT = [{"name": "to", "type": "address"}, {"name": "amount", "type": "uint256"}]

FACTORY = Contract(OPTIMISM_MINTABLE_ERC20_FACTORY, artifact("OptimismMintableERC20Factory").abi)
L1_BRIDGE = Contract(L1_STANDARD_BRIDGE, artifact("L1StandardBridge").abi)
L2_BRIDGE = Contract(L2_STANDARD_BRIDGE, artifact("L2StandardBridge").abi)
OPEN = Contract(L1_OPEN_TOKEN, artifact("OpenToken").abi)
L1_MESSENGER = Contract(L1_CROSS_DOMAIN_MESSENGER, artifact("L1CrossDomainMessenger").abi)


async def ask(rpc: RpcClient, contract: Contract, function: str, *arguments: Any) -> Any:
    call = {"to": "0x" + contract.address.hex(), "data": "0x" + contract.encode(function, *arguments).hex()}
    answer = await rpc.call("eth_call", call, "latest")
    return contract.decode(function, bytes.fromhex(answer[2:]))[0]


def events(contract: Contract, receipt: dict[str, Any]) -> list[Any]:
    found = []
    for log in receipt["logs"]:
        if bytes.fromhex(log["address"][2:]) == contract.address:
            topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
            found.append(contract.event(topics, bytes.fromhex(log["data"][2:])))
    return [event for event in found if event is not None]


@pytest.fixture
async def tokens(network, rpcs) -> tuple[Contract, Contract]:
    """A token on L1, all Alice's, and the one that stands for it on L2. (Any ERC-20 does; this one's code is at hand.)"""
    l1, l2 = rpcs
    abi = artifact("OpenToken").abi
    code = artifact("OpenToken").bytecode + abi_encode(["address"], [ALICE.address])
    created = await l1.wait_for_receipt(network.send_l1(USERS[0], None, data=code, gas=2_000_000))
    on_l1 = Contract(bytes.fromhex(created["contractAddress"][2:]), abi)
    receipt = await BOB.send(l2, FACTORY, "createOptimismMintableERC20", on_l1.address, "Test on L2", "TEST")
    [made] = [event for event in events(FACTORY, receipt) if event.name == "OptimismMintableERC20Created"]
    return on_l1, Contract(bytes.fromhex(made.arguments["localToken"][2:]), abi)


async def test_an_erc20_goes_to_l2_and_back(network, bridge, rpcs, tokens) -> None:
    l1, l2 = rpcs
    on_l1, on_l2 = tokens
    open_locked = await ask(l1, OPEN, "balanceOf", L1_PORTAL)
    assert await ask(l2, on_l2, "symbol") == "TEST"

    await ALICE.send(l1, on_l1, "approve", L1_STANDARD_BRIDGE, 700)
    await ALICE.send(l1, L1_BRIDGE, "bridgeERC20To", on_l1.address, on_l2.address, BOB.address, 700, RELAY_GAS, b"")
    assert await ask(l1, L1_BRIDGE, "deposits", on_l1.address, on_l2.address) == 700
    await network.advance(12)
    assert await ask(l2, on_l2, "balanceOf", BOB.address) == 700
    assert await ask(l2, on_l2, "totalSupply") == 700
    assert await ask(l1, on_l1, "balanceOf", ALICE.address) == TOTAL_SUPPLY_WEI - 700

    # Nobody but the bridge mints, and the bridge believes nobody but the other one.
    mint = Contract(on_l2.address, [{"type": "function", "name": "mint", "inputs": _MINT, "outputs": []}])
    with pytest.raises(TransactionReverted, match="only bridge"):
        await BOB.send(l2, mint, "mint", BOB.address, 1)
    for rpc, contract, pair in ((l2, L2_BRIDGE, (on_l2, on_l1)), (l1, L1_BRIDGE, (on_l1, on_l2))):
        forged = (pair[0].address, pair[1].address, BOB.address, BOB.address, 1, b"")
        with pytest.raises(TransactionReverted, match="other bridge"):
            await BOB.send(rpc, contract, "finalizeBridgeERC20", *forged)

    receipt = await BOB.send(
        l2, L2_BRIDGE, "bridgeERC20To", on_l2.address, on_l1.address, ALICE.address, 300, RELAY_GAS, b""
    )
    assert await ask(l2, on_l2, "totalSupply") == 400
    begun = bytes.fromhex(receipt["transactionHash"][2:])
    status = await bridge.status(begun)
    assert status.withdrawal.value == 0
    assert status.withdrawal.sender == L2_CROSS_DOMAIN_MESSENGER
    assert status.withdrawal.target == L1_CROSS_DOMAIN_MESSENGER
    await network.advance(64)
    await network.post()
    await network.advance(24)
    await network.node.driver.derive_to_tip()
    await network.propose()
    await bridge.prove(BOB, begun)

    async def sleep(seconds: float) -> None:
        await network.advance(int(seconds) // 2 * 2 + 2)

    await bridge.wait_for(begun, (Stage.READY_TO_FINALIZE,), sleep)
    finalized = await l1.call("eth_getTransactionReceipt", "0x" + (await bridge.finalize(BOB, begun)).hex())
    assert [event.name for event in events(L1_MESSENGER, finalized)] == ["RelayedMessage"]
    assert await ask(l1, on_l1, "balanceOf", ALICE.address) == TOTAL_SUPPLY_WEI - 400
    assert await ask(l1, on_l1, "balanceOf", L1_STANDARD_BRIDGE) == 400 == await ask(l2, on_l2, "totalSupply")
    assert await ask(l1, L1_BRIDGE, "deposits", on_l1.address, on_l2.address) == 400
    # OPEN had no part in it.
    assert await ask(l1, OPEN, "balanceOf", L1_PORTAL) == open_locked


async def test_open_itself_cannot_be_sent_through_the_standard_bridge(network, rpcs) -> None:
    """It is the native currency: it goes through the portal, else it would exist twice."""
    l1, l2 = rpcs
    with pytest.raises(TransactionReverted, match="custom gas token"):
        await ALICE.send(l2, L2_BRIDGE, "bridgeETH", RELAY_GAS, b"", value_wei=5)
    with pytest.raises(TransactionReverted, match="custom gas token"):
        await ALICE.send(l1, L1_BRIDGE, "bridgeETH", RELAY_GAS, b"", value_wei=5)

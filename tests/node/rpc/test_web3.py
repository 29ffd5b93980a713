"""web3.py 8, unmodified, over HTTP and WebSocket against a real chain."""

import asyncio
import json
from pathlib import Path

import pytest
from eth_account import Account
from web3 import AsyncWeb3, Web3
from web3.exceptions import ContractCustomError, ContractLogicError, ContractPanicError, Web3RPCError
from web3.providers.persistent import WebSocketProvider
from web3.utils.subscriptions import LogsSubscription, NewHeadsSubscription, PendingTxSubscription

from openledger.genesis.dev_accounts import DEV_ACCOUNTS

ARTIFACT = json.loads((Path(__file__).parents[2] / "clients/contracts/Counter.json").read_text())
ALICE = Account.from_key(DEV_ACCOUNTS[0].private_key)
BOB = Account.from_key(DEV_ACCOUNTS[1].private_key)


@pytest.fixture
def w3(node):
    return Web3(Web3.HTTPProvider(node.url))


def send(w3: Web3, account, transaction: dict) -> dict:
    filled = {
        "from": account.address,
        "chainId": w3.eth.chain_id,
        "nonce": w3.eth.get_transaction_count(account.address, "pending"),
        "maxPriorityFeePerGas": w3.eth.max_priority_fee,
        "maxFeePerGas": 2 * w3.eth.gas_price,
        "value": 0,
    } | transaction
    if "gas" not in filled:
        filled["gas"] = w3.eth.estimate_gas(filled)
    raw = account.sign_transaction(filled).raw_transaction
    return w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(raw), timeout=180, poll_latency=0.02)


def deploy(w3: Web3, account, start: int):
    factory = w3.eth.contract(abi=ARTIFACT["abi"], bytecode=ARTIFACT["bytecode"])
    receipt = send(w3, account, {"data": factory.constructor(start).data_in_transaction})
    assert receipt["status"] == 1
    return w3.eth.contract(receipt["contractAddress"], abi=ARTIFACT["abi"])


def test_connect_send_deploy_call_and_read_logs(w3):
    assert w3.is_connected()
    before = w3.eth.get_balance(BOB.address)
    receipt = send(w3, ALICE, {"to": BOB.address, "value": 123})
    assert (receipt["status"], receipt["gasUsed"]) == (1, 21000)
    assert w3.eth.get_balance(BOB.address) == before + 123
    assert w3.eth.get_transaction(receipt["transactionHash"])["value"] == 123

    counter = deploy(w3, ALICE, 7)
    assert counter.functions.number().call() == 7
    assert counter.functions.owner().call() == ALICE.address
    data = counter.encode_abi("increase", [5, "five"])
    receipt = send(w3, BOB, {"to": counter.address, "data": data, "value": 0})
    assert counter.functions.number().call() == 12
    (event,) = counter.events.Increased().process_receipt(receipt)
    assert dict(event["args"]) == {"by": BOB.address, "number": 12, "note": "five"}
    (found,) = counter.events.Increased().get_logs(from_block=0, argument_filters={"by": BOB.address})
    assert found["transactionHash"] == receipt["transactionHash"]
    assert counter.functions.number().call(block_identifier=receipt["blockNumber"] - 1) == 7
    history = w3.eth.fee_history(2, "latest", [50])
    assert len(history["baseFeePerGas"]) == 3
    assert len(history["reward"]) == 2


def test_every_way_to_fail_is_decoded(w3):
    counter = deploy(w3, ALICE, 1)
    with pytest.raises(ContractLogicError, match="nothing to add"):
        counter.functions.increase(0, "").call()
    with pytest.raises(ContractCustomError):
        counter.functions.increase(1000, "").call()
    with pytest.raises(ContractPanicError):
        counter.functions.divide(0).call()
    with pytest.raises(ContractLogicError, match="nothing to add"):
        counter.functions.increase(0, "").estimate_gas()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nonce": 0}, "nonce too low"),
        ({"chainId": 1}, "chain id"),
        ({"value": 10**40}, "insufficient funds for gas \\* price \\+ value"),
        ({"gas": 20_000}, "intrinsic gas too low"),
        ({"gas": 2**40}, "exceeds block gas limit"),
        ({"maxPriorityFeePerGas": 10**15}, "max priority fee per gas higher than max fee per gas"),
    ],
)
def test_transactions_that_cannot_be_taken_say_why(w3, change, message):
    send(w3, ALICE, {"to": BOB.address})
    with pytest.raises(Web3RPCError, match=message):
        send(w3, ALICE, {"to": BOB.address, "gas": 21_000} | change)
    assert send(w3, ALICE, {"to": BOB.address})["status"] == 1


def test_heads_logs_and_pending_transactions_are_pushed_over_a_websocket(w3, node):
    counter = deploy(w3, ALICE, 1)
    heads, logs, pending = [], [], []

    async def run() -> None:
        async with AsyncWeb3(WebSocketProvider(node.websocket_url)) as live:
            assert await live.eth.chain_id == w3.eth.chain_id

            def collect(into: list):
                async def handler(context) -> None:
                    into.append(context.result)
                    if heads and logs and pending:
                        await live.subscription_manager.unsubscribe_all()

                return handler

            await live.subscription_manager.subscribe(
                [
                    NewHeadsSubscription(handler=collect(heads)),
                    LogsSubscription(address=counter.address, handler=collect(logs)),
                    PendingTxSubscription(handler=collect(pending)),
                ]
            )
            data = counter.encode_abi("increase", [2, "pushed"])
            receipt = await asyncio.to_thread(send, w3, BOB, {"to": counter.address, "data": data})
            await asyncio.wait_for(live.subscription_manager.handle_subscriptions(), 20)
            assert heads[0]["number"] == receipt["blockNumber"]
            assert heads[0]["hash"] == receipt["blockHash"]
            assert logs[0]["transactionHash"] == receipt["transactionHash"]
            assert pending[0] == receipt["transactionHash"]

    asyncio.run(run())

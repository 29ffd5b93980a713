"""A wallet's transactions on a real node: none is lost when several are sent at once, refusals are in words."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from openledger.genesis.dev_accounts import USERS
from openledger.node.predeploy_contracts import model_registry
from openledger.node.rpc_client import RpcClient, RpcError, RpcUnavailable
from openledger.node.wallet import TransactionReverted, Wallet

pytestmark = pytest.mark.slow
SENDER = Wallet(USERS[0].private_key)


async def test_transactions_sent_at_once_by_one_key_all_get_into_blocks(running_devnet: Any) -> None:
    receipts: list[dict[str, Any]] = []
    async with RpcClient(running_devnet.endpoints.rpc) as rpc, trio.open_nursery() as nursery:

        async def send(value: int) -> None:
            receipts.append(await SENDER.transact(rpc, USERS[1].address, value_wei=value))

        for value in range(1, 4):
            nursery.start_soon(send, value)
    assert [receipt["status"] for receipt in receipts] == ["0x1"] * 3
    assert len({receipt["transactionHash"] for receipt in receipts}) == 3


async def test_a_contract_that_refuses_is_quoted_and_nothing_is_sent(running_devnet: Any) -> None:
    async with RpcClient(running_devnet.endpoints.rpc) as rpc:
        before = await SENDER.next_nonce(rpc)
        with pytest.raises(TransactionReverted, match="77"):
            await SENDER.send(rpc, model_registry(), "deprecate", 77)
        assert await SENDER.next_nonce(rpc) == before


async def test_a_poor_account_and_a_dead_endpoint_are_told_apart(running_devnet: Any) -> None:
    async with RpcClient(running_devnet.endpoints.rpc) as rpc:
        with pytest.raises((RpcError, TransactionReverted), match="insufficient funds"):
            await Wallet(b"\x42" * 32).transact(rpc, USERS[1].address, value_wei=1)
    async with RpcClient("http://127.0.0.1:9") as nobody:
        with pytest.raises(RpcUnavailable, match="is the node running"):
            await nobody.call("eth_chainId")

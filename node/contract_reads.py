"""Reading contracts over JSON-RPC, and sending several transactions of one account at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from openledger.node.contracts import Contract, Event
from openledger.node.errors import UserError
from openledger.node.rpc_client import RpcClient, RpcError, RpcUnavailable
from openledger.node.wallet import TransactionReverted, Wallet


async def read(rpc: RpcClient, contract: Contract, function: str, *arguments: Any) -> tuple[Any, ...]:
    """What a view function returns at the newest block. Raises TransactionReverted with the contract's reason."""
    call = {"to": "0x" + contract.address.hex(), "data": "0x" + contract.encode(function, *arguments).hex()}
    try:
        answer = await rpc.call("eth_call", call, "latest")
    except RpcError as error:
        if error.code != 3:
            raise
        raise TransactionReverted(contract.explain(error.revert_data)) from error
    return contract.decode(function, bytes.fromhex(answer[2:]))


async def block_number(rpc: RpcClient) -> int:
    """The number of the newest block."""
    return int(await rpc.call("eth_blockNumber"), 16)


async def send_all(
    rpc: RpcClient,
    wallet: Wallet,
    contract: Contract,
    function: str,
    calls: Sequence[Sequence[Any]],
    *,
    value_wei: int = 0,
) -> list[dict[str, Any]]:
    """The receipts of several calls of one function, which share blocks where they can.

    Every call is tried first, so that none is sent if one would be reverted. Errors as in `Wallet.send`.
    """
    for arguments in calls:
        attempt = {
            "from": "0x" + wallet.address.hex(),
            "to": "0x" + contract.address.hex(),
            "data": "0x" + contract.encode(function, *arguments).hex(),
            "value": hex(value_wei),
        }
        try:
            await rpc.call("eth_estimateGas", attempt)
        except RpcError as error:
            if error.code != 3:
                raise
            raise TransactionReverted(contract.explain(error.revert_data)) from error
    receipts: list[dict[str, Any]] = [{}] * len(calls)
    first = await wallet.next_nonce(rpc)

    failed: list[UserError | RpcError | RpcUnavailable] = []

    async def send(index: int, arguments: Sequence[Any]) -> None:
        try:
            receipts[index] = await wallet.send(
                rpc, contract, function, *arguments, value_wei=value_wei, nonce=first + index
            )
        except (UserError, RpcError, RpcUnavailable) as error:
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for index, arguments in enumerate(calls):
            nursery.start_soon(send, index, arguments)
    if failed:
        raise failed[0]
    return receipts


def events_of(contract: Contract, receipt: dict[str, Any], name: str) -> list[Event]:
    """The events of that name that `contract` emitted in a transaction, from its receipt over JSON-RPC."""
    found = []
    for log in receipt["logs"]:
        if bytes.fromhex(log["address"][2:]) != contract.address:
            continue
        event = contract.event([bytes.fromhex(t[2:]) for t in log["topics"]], bytes.fromhex(log["data"][2:]))
        if event is not None and event.name == name:
            found.append(event)
    return found

"""Paying out what has ripened: one transaction, by anyone, for anyone."""

from __future__ import annotations

from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.node.contract_reads import events_of
from openledger.node.predeploy_contracts import rewards_distributor
from openledger.node.rpc_client import RpcClient
from openledger.node.wallet import Wallet


async def claim(rpc: RpcClient, signer: Wallet, payee: bytes) -> int:
    """Claim for `payee`, who is paid whoever signs; the amount in micro-OPEN.

    Raises TransactionReverted (nothing has ripened), RpcError, RpcUnavailable.
    """
    contract = rewards_distributor()
    receipt = await signer.send(rpc, contract, "claim", "0x" + payee.hex())
    return int(events_of(contract, receipt, "Claimed")[0].arguments["amount"]) // MICRO_OPEN_WEI

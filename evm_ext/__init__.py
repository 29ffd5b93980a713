"""The execution client: blocks, transactions, state and the virtual machine, behind `Chain`.

Names are loaded when they are first used, so that importing a part (`openledger.evm_ext.proofs` above all)
does not import the virtual machine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openledger.evm_ext.block import Block, Header, block_from_payload, payload_from_block
    from openledger.evm_ext.calls import CallRequest, CallResult
    from openledger.evm_ext.chain import Chain, HeadChange
    from openledger.evm_ext.overrides import StateOverride
    from openledger.evm_ext.payload import ExecutionPayload, PayloadAttributes, Withdrawal
    from openledger.evm_ext.pool import PoolLimits, TransactionPool
    from openledger.evm_ext.receipts import Log, Receipt
    from openledger.evm_ext.transactions import (
        Authorization,
        DepositTransaction,
        Transaction,
        decode_transaction,
        sign_transaction,
    )

_HOME = {
    "Block": "block",
    "Header": "block",
    "block_from_payload": "block",
    "payload_from_block": "block",
    "CallRequest": "calls",
    "CallResult": "calls",
    "StateOverride": "overrides",
    "Chain": "chain",
    "HeadChange": "chain",
    "ExecutionPayload": "payload",
    "PayloadAttributes": "payload",
    "Withdrawal": "payload",
    "PoolLimits": "pool",
    "TransactionPool": "pool",
    "Log": "receipts",
    "Receipt": "receipts",
    "Authorization": "transactions",
    "DepositTransaction": "transactions",
    "Transaction": "transactions",
    "decode_transaction": "transactions",
    "sign_transaction": "transactions",
}

__all__ = [
    "Authorization",
    "Block",
    "CallRequest",
    "CallResult",
    "Chain",
    "DepositTransaction",
    "ExecutionPayload",
    "HeadChange",
    "Header",
    "Log",
    "PayloadAttributes",
    "PoolLimits",
    "Receipt",
    "StateOverride",
    "Transaction",
    "TransactionPool",
    "Withdrawal",
    "block_from_payload",
    "decode_transaction",
    "payload_from_block",
    "sign_transaction",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

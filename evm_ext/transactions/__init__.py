"""Transactions: decoded once, at the edge, and kept together with the bytes they came as.

Types 0 (with and without EIP-155), 1 (EIP-2930), 2 (EIP-1559), 3 (EIP-4844, without sidecar),
4 (EIP-7702) and 0x7E (OP-Stack deposit). Decoding checks the form only; whether a transaction may be in
a block is `vm.executor`'s to say.

| file | is |
|---|---|
| `transaction.py`, `deposit.py`, `authorization.py`, `kinds.py` | the values |
| `decoding.py`, `fields.py` | from bytes, and to bytes |
| `signing.py`, `recovery.py` | with a key; the senders of many on all cores |
"""

from openledger.evm_ext.transactions.authorization import Authorization, sign_authorization
from openledger.evm_ext.transactions.decoding import decode_transaction
from openledger.evm_ext.transactions.deposit import DepositTransaction
from openledger.evm_ext.transactions.fields import encode_access_list, encode_authorization_list, encode_transaction
from openledger.evm_ext.transactions.kinds import (
    ACCESS_LIST,
    BLOB,
    DEPOSIT,
    DYNAMIC_FEE,
    LEGACY,
    MAX_TRANSACTION_BYTES,
    MAX_UINT64,
    SET_CODE,
    AccessList,
)
from openledger.evm_ext.transactions.recovery import recover_senders
from openledger.evm_ext.transactions.signing import sign_transaction
from openledger.evm_ext.transactions.transaction import Transaction, transaction_from_deposit

__all__ = [
    "ACCESS_LIST",
    "BLOB",
    "DEPOSIT",
    "DYNAMIC_FEE",
    "LEGACY",
    "MAX_TRANSACTION_BYTES",
    "MAX_UINT64",
    "SET_CODE",
    "AccessList",
    "Authorization",
    "DepositTransaction",
    "Transaction",
    "decode_transaction",
    "encode_access_list",
    "encode_authorization_list",
    "encode_transaction",
    "recover_senders",
    "sign_authorization",
    "sign_transaction",
    "transaction_from_deposit",
]

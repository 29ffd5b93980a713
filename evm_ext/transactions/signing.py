"""Signing transactions with a key at hand, as tests, dev accounts and the node's own services do."""

from __future__ import annotations

from dataclasses import replace

from openledger.evm_ext.signatures import sign_digest
from openledger.evm_ext.transactions.authorization import Authorization
from openledger.evm_ext.transactions.fields import encode_transaction
from openledger.evm_ext.transactions.kinds import DYNAMIC_FEE, AccessList
from openledger.evm_ext.transactions.transaction import Transaction


def sign_transaction(
    private_key: bytes,
    *,
    type: int = DYNAMIC_FEE,
    chain_id: int | None,
    nonce: int,
    gas: int,
    to: bytes | None,
    value: int = 0,
    data: bytes = b"",
    max_fee_per_gas: int,
    max_priority_fee_per_gas: int | None = None,
    access_list: AccessList = (),
    authorization_list: tuple[Authorization, ...] = (),
    max_fee_per_blob_gas: int = 0,
    blob_versioned_hashes: tuple[bytes, ...] = (),
) -> Transaction:
    """A signed transaction of types 0 to 4. `private_key` is 32 bytes. For types 0 and 1 `max_fee_per_gas`
    is the gas price; the priority fee defaults to it."""
    unsigned = Transaction(
        raw=b"",
        type=type,
        chain_id=chain_id,
        nonce=nonce,
        max_priority_fee_per_gas=max_fee_per_gas if max_priority_fee_per_gas is None else max_priority_fee_per_gas,
        max_fee_per_gas=max_fee_per_gas,
        gas=gas,
        to=to,
        value=value,
        data=data,
        access_list=access_list,
        max_fee_per_blob_gas=max_fee_per_blob_gas,
        blob_versioned_hashes=blob_versioned_hashes,
        authorization_list=authorization_list,
    )
    y_parity, r, s = sign_digest(unsigned.signing_hash, private_key)
    signed = replace(unsigned, y_parity=y_parity, r=r, s=s)
    return replace(signed, raw=encode_transaction(signed))

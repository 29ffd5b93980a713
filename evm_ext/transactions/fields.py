"""What transactions consist of, in RLP: fields without the signature, and the whole from its fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import Item, encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.errors import UndecodableTransaction
from openledger.evm_ext.transactions.kinds import ACCESS_LIST, BLOB, LEGACY, SET_CODE, AccessList

if TYPE_CHECKING:
    from openledger.evm_ext.transactions.authorization import Authorization
    from openledger.evm_ext.transactions.transaction import Transaction


def encode_transaction(transaction: Transaction) -> bytes:
    """The canonical encoding from the fields alone; equals `raw` of whatever was decoded."""
    if transaction.deposit is not None:
        return transaction.deposit.encode()
    signature = (encode_uint(transaction.r), encode_uint(transaction.s))
    if transaction.type == LEGACY:
        return encode_sequence((*legacy_fields(transaction), encode_uint(transaction.v), *signature))
    return bytes((transaction.type,)) + encode_sequence(
        (*typed_fields(transaction), encode_uint(transaction.y_parity), *signature)
    )


def legacy_fields(transaction: Transaction) -> tuple[bytes, ...]:
    return (
        encode_uint(transaction.nonce),
        encode_uint(transaction.max_fee_per_gas),
        encode_uint(transaction.gas),
        encode_bytes(transaction.to or b""),
        encode_uint(transaction.value),
        encode_bytes(transaction.data),
    )


def typed_fields(transaction: Transaction) -> tuple[bytes, ...]:
    if transaction.chain_id is None:
        raise UndecodableTransaction(f"a type {transaction.type} transaction needs a chain id")
    fees = (
        (encode_uint(transaction.max_fee_per_gas),)
        if transaction.type == ACCESS_LIST
        else (encode_uint(transaction.max_priority_fee_per_gas), encode_uint(transaction.max_fee_per_gas))
    )
    fields = (
        encode_uint(transaction.chain_id),
        encode_uint(transaction.nonce),
        *fees,
        encode_uint(transaction.gas),
        encode_bytes(transaction.to or b""),
        encode_uint(transaction.value),
        encode_bytes(transaction.data),
        encode_access_list(transaction.access_list),
    )
    if transaction.type == BLOB:
        return (
            *fields,
            encode_uint(transaction.max_fee_per_blob_gas),
            encode_sequence(encode_bytes(item) for item in transaction.blob_versioned_hashes),
        )
    if transaction.type == SET_CODE:
        return (*fields, encode_authorization_list(transaction.authorization_list))
    return fields


def encode_access_list(access_list: AccessList) -> bytes:
    """RLP of an EIP-2930 access list; slots are 32 bytes."""
    if not access_list:
        return encoding.EMPTY_LIST
    return encode_sequence(
        encode_sequence(
            (
                encode_bytes(address),
                encode_sequence(encode_bytes(slot.to_bytes(32, "big")) for slot in slots),
            )
        )
        for address, slots in access_list
    )


def encode_authorization_list(authorizations: Iterable[Authorization]) -> bytes:
    """RLP of an EIP-7702 authorization list."""
    return encode_sequence(
        encode_sequence(
            (
                encode_uint(item.chain_id),
                encode_bytes(item.address),
                encode_uint(item.nonce),
                encode_uint(item.y_parity),
                encode_uint(item.r),
                encode_uint(item.s),
            )
        )
        for item in authorizations
    )


def recipient(item: Item) -> bytes | None:
    """The address that a transaction goes to, None if it creates a contract. Raises `InvalidRLP`."""
    address = encoding.to_bytes(item)
    if not address:
        return None
    if len(address) != 20:
        raise encoding.InvalidRLP(f"to must have 20 bytes or none, got {len(address)}")
    return address

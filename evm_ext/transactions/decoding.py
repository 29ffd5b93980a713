"""From bytes to transactions: the form is checked here, once, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import Item, encode_bytes
from openledger.evm_ext.errors import InvalidSignature, UndecodableTransaction, UnsupportedTransactionType
from openledger.evm_ext.transactions.authorization import Authorization
from openledger.evm_ext.transactions.deposit import DepositTransaction
from openledger.evm_ext.transactions.fields import recipient
from openledger.evm_ext.transactions.kinds import (
    ACCESS_LIST,
    BLOB,
    DEPOSIT,
    DYNAMIC_FEE,
    LEGACY,
    MAX_TRANSACTION_BYTES,
    SET_CODE,
    AccessList,
)
from openledger.evm_ext.transactions.transaction import SIGNED_PAYLOAD, Transaction, transaction_from_deposit


def decode_transaction(raw: bytes, *, max_bytes: int | None = MAX_TRANSACTION_BYTES) -> Transaction:
    """The transaction that `raw` (an EIP-2718 envelope or a type 0 list) encodes. `max_bytes` None is for transactions
    of a block, and deposits may always be longer (they come from L1).

    The sender is not recovered here. Raises `UndecodableTransaction`, `UnsupportedTransactionType` for an
    unknown type byte, and `InvalidSignature` for a v or parity that no signature has."""
    if not raw:
        raise UndecodableTransaction("the transaction is empty")
    if max_bytes is not None and len(raw) > max_bytes and raw[0] != DEPOSIT:
        raise UndecodableTransaction(f"the transaction has {len(raw)} bytes, more than {max_bytes}: send less data")
    raw = bytes(raw)
    if raw[0] == DEPOSIT:
        return transaction_from_deposit(DepositTransaction.decode(raw))
    try:
        if raw[0] >= 0xC0:
            return _decode_legacy(raw)
        decoder = _TYPED_DECODERS.get(raw[0])
        if decoder is None:
            if raw[0] < 0x80:
                raise UnsupportedTransactionType(f"transaction type not supported: 0x{raw[0]:02x}")
            raise UndecodableTransaction("the transaction is a byte string, expected a list or a typed envelope")
        return decoder(raw, encoding.decode_list(raw[1:]))
    except encoding.InvalidRLP as error:
        raise UndecodableTransaction(f"malformed transaction: {error}") from None


def _decode_legacy(raw: bytes) -> Transaction:
    fields = encoding.to_list(encoding.decode(raw), 9)
    v = encoding.to_uint(fields[6])
    if v in (27, 28):
        chain_id, y_parity = None, v - 27
    elif v >= 35:
        chain_id, y_parity = (v - 35) // 2, (v - 35) % 2
    else:
        raise InvalidSignature(f"invalid sender: v must be 27, 28 or at least 35 (EIP-155), got {v}")
    gas_price = encoding.to_uint(fields[1])
    return Transaction(
        raw=raw,
        type=LEGACY,
        chain_id=chain_id,
        nonce=encoding.to_uint(fields[0], 8),
        max_priority_fee_per_gas=gas_price,
        max_fee_per_gas=gas_price,
        gas=encoding.to_uint(fields[2], 8),
        to=recipient(fields[3]),
        value=encoding.to_uint(fields[4]),
        data=encoding.to_bytes(fields[5]),
        y_parity=y_parity,
        r=encoding.to_uint(fields[7]),
        s=encoding.to_uint(fields[8]),
    )


def _decode_access_list_transaction(raw: bytes, fields: list[Item]) -> Transaction:
    encoding.to_list(fields, 11)
    gas_price = encoding.to_uint(fields[2])
    return Transaction(
        raw=raw,
        type=ACCESS_LIST,
        chain_id=encoding.to_uint(fields[0]),
        nonce=encoding.to_uint(fields[1], 8),
        max_priority_fee_per_gas=gas_price,
        max_fee_per_gas=gas_price,
        gas=encoding.to_uint(fields[3], 8),
        to=recipient(fields[4]),
        value=encoding.to_uint(fields[5]),
        data=encoding.to_bytes(fields[6]),
        access_list=_access_list(fields[7]),
        y_parity=_y_parity(fields[8]),
        r=encoding.to_uint(fields[9]),
        s=encoding.to_uint(fields[10]),
    )


def _decode_fee_market(
    raw: bytes,
    fields: list[Item],
    *,
    max_fee_per_blob_gas: int = 0,
    blob_versioned_hashes: tuple[bytes, ...] = (),
    authorization_list: tuple[Authorization, ...] = (),
) -> Transaction:
    """What types 2, 3 and 4 share: the first nine fields and the signature at the end."""
    chain_id, nonce, tip, fee_cap, gas, to, value, data, access_list = fields[:9]
    y_parity, r, s = fields[-3:]
    transaction = Transaction(
        raw,
        raw[0],
        encoding.to_uint(chain_id),
        encoding.to_uint(nonce, 8),
        encoding.to_uint(tip),
        encoding.to_uint(fee_cap),
        encoding.to_uint(gas, 8),
        recipient(to),
        encoding.to_uint(value),
        encoding.to_bytes(data),
        _access_list(access_list),
        max_fee_per_blob_gas,
        blob_versioned_hashes,
        authorization_list,
        _y_parity(y_parity),
        encoding.to_uint(r),
        encoding.to_uint(s),
    )
    # The encoding is canonical, so what was signed is the list without its last three items, as it came.
    header = raw[1]
    start = 2 if header < 0xF8 else header - 0xF5
    end = len(raw) - 1 - len(encode_bytes(cast(bytes, r))) - len(encode_bytes(cast(bytes, s)))
    transaction.__dict__[SIGNED_PAYLOAD] = raw[start:end]
    return transaction


def _decode_dynamic_fee(raw: bytes, fields: list[Item]) -> Transaction:
    return _decode_fee_market(raw, encoding.to_list(fields, 12))


def _decode_blob(raw: bytes, fields: list[Item]) -> Transaction:
    encoding.to_list(fields, 14)
    return _decode_fee_market(
        raw,
        fields,
        max_fee_per_blob_gas=encoding.to_uint(fields[9]),
        blob_versioned_hashes=tuple(encoding.to_bytes(item, 32) for item in encoding.to_list(fields[10])),
    )


def _decode_set_code(raw: bytes, fields: list[Item]) -> Transaction:
    encoding.to_list(fields, 13)
    return _decode_fee_market(raw, fields, authorization_list=_authorization_list(fields[9]))


_TYPED_DECODERS = {
    ACCESS_LIST: _decode_access_list_transaction,
    DYNAMIC_FEE: _decode_dynamic_fee,
    BLOB: _decode_blob,
    SET_CODE: _decode_set_code,
}


def _y_parity(item: Item) -> int:
    y_parity = encoding.to_uint(item)
    if y_parity > 1:
        raise InvalidSignature(f"invalid sender: the signature's parity must be 0 or 1, got {y_parity}")
    return y_parity


def _access_list(item: Item) -> AccessList:
    entries: Sequence[Item] = encoding.to_list(item)
    if not entries:
        return ()
    decoded = []
    for entry in entries:
        address, slots = encoding.to_list(entry, 2)
        decoded.append(
            (
                encoding.to_bytes(address, 20),
                tuple(int.from_bytes(encoding.to_bytes(slot, 32), "big") for slot in encoding.to_list(slots)),
            )
        )
    return tuple(decoded)


def _authorization_list(item: Item) -> tuple[Authorization, ...]:
    decoded = []
    for entry in encoding.to_list(item):
        fields = encoding.to_list(entry, 6)
        decoded.append(
            Authorization(
                chain_id=encoding.to_uint(fields[0]),
                address=encoding.to_bytes(fields[1], 20),
                nonce=encoding.to_uint(fields[2], 8),
                y_parity=encoding.to_uint(fields[3], 1),
                r=encoding.to_uint(fields[4]),
                s=encoding.to_uint(fields[5]),
            )
        )
    return tuple(decoded)

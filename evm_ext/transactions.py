"""Transactions: decoded once, at the edge, and kept together with the bytes they came as.

Types 0 (with and without EIP-155), 1 (EIP-2930), 2 (EIP-1559), 3 (EIP-4844, without sidecar),
4 (EIP-7702) and 0x7E (OP-Stack deposit). Decoding checks the form only; whether a transaction may be in
a block is `vm.executor`'s to say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import Item, encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.errors import (
    InvalidSignature,
    UndecodableTransaction,
    UnsupportedTransactionType,
)
from openledger.evm_ext.fees import flz_compress_len
from openledger.evm_ext.kept import kept, quickly_made
from openledger.evm_ext.signatures import SECP256K1_HALF_N, SECP256K1_N, recover_address, sign_digest
from openledger.genesis.hashing import keccak256

LEGACY = 0
ACCESS_LIST = 1
DYNAMIC_FEE = 2
BLOB = 3
SET_CODE = 4
DEPOSIT = 0x7E

MAX_TRANSACTION_BYTES = 1 << 20
"""Longest encoding of a transaction that is taken from users, in bytes. In a block only its gas limits it."""

MAX_UINT64 = 2**64 - 1
SET_CODE_MAGIC = b"\x05"

AccessList = tuple[tuple[bytes, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Authorization:
    """One entry of an EIP-7702 authorization list. `chain_id` 0 means any chain."""

    chain_id: int
    address: bytes
    nonce: int
    y_parity: int
    r: int
    s: int

    @kept
    def authority(self) -> bytes | None:
        """The account that signed, None if the signature is not one."""
        if self.y_parity > 1 or self.s > SECP256K1_HALF_N:
            return None
        message = SET_CODE_MAGIC + encode_sequence(
            (encode_uint(self.chain_id), encode_bytes(self.address), encode_uint(self.nonce))
        )
        return recover_address(keccak256(message), self.y_parity, self.r, self.s)


@dataclass(frozen=True)
class DepositTransaction:
    """A transaction that L1 orders (OP-Stack specification, deposits).

    `to` None creates a contract. `mint` is wei credited to `sender` before anything else; it stays
    credited when the rest fails.
    """

    source_hash: bytes
    sender: bytes
    to: bytes | None
    mint: int
    value: int
    gas: int
    is_system_transaction: bool
    data: bytes

    def encode(self) -> bytes:
        """0x7E || rlp([sourceHash, from, to, mint, value, gas, isSystemTx, data])."""
        return bytes((DEPOSIT,)) + encode_sequence(
            (
                encode_bytes(self.source_hash),
                encode_bytes(self.sender),
                encode_bytes(self.to or b""),
                encode_uint(self.mint),
                encode_uint(self.value),
                encode_uint(self.gas),
                encode_uint(int(self.is_system_transaction)),
                encode_bytes(self.data),
            )
        )

    @classmethod
    def decode(cls, raw: bytes) -> DepositTransaction:
        """The inverse of `encode`. Raises `UndecodableTransaction`."""
        if raw[:1] != bytes((DEPOSIT,)):
            raise UndecodableTransaction("a deposit transaction begins with 0x7e")
        try:
            fields = encoding.to_list(encoding.decode(raw[1:]), 8)
            is_system = encoding.to_uint(fields[6], 1)
            if is_system > 1:
                raise encoding.InvalidRLP(f"isSystemTx must be 0 or 1, got {is_system}")
            return cls(
                source_hash=encoding.to_bytes(fields[0], 32),
                sender=encoding.to_bytes(fields[1], 20),
                to=_to(fields[2]),
                mint=encoding.to_uint(fields[3]),
                value=encoding.to_uint(fields[4]),
                gas=encoding.to_uint(fields[5], 8),
                is_system_transaction=bool(is_system),
                data=encoding.to_bytes(fields[7]),
            )
        except encoding.InvalidRLP as error:
            raise UndecodableTransaction(f"malformed deposit transaction: {error}") from None


_SIGNED_PAYLOAD = "_signed_payload"


@quickly_made
@dataclass(frozen=True, eq=False)
class Transaction:
    """A transaction of any type. Fields a type does not have keep their defaults.

    `raw` is the canonical encoding (EIP-2718 envelope, or the bare list for type 0). For types 0 and 1
    both fee fields equal the gas price. `to` None creates a contract. For type 0x7E `deposit` holds what
    only deposits have, all fee fields and the nonce are 0 and there is no signature. Equal if the hash is.
    """

    raw: bytes
    type: int
    chain_id: int | None
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas: int
    to: bytes | None
    value: int
    data: bytes
    access_list: AccessList = ()
    max_fee_per_blob_gas: int = 0
    blob_versioned_hashes: tuple[bytes, ...] = ()
    authorization_list: tuple[Authorization, ...] = ()
    y_parity: int = 0
    r: int = 0
    s: int = 0
    deposit: DepositTransaction | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transaction) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    @kept
    def hash(self) -> bytes:
        return keccak256(self.raw)

    @kept
    def sender(self) -> bytes:
        """Who signed (or, for a deposit, who L1 says). Recovered on first use, then kept.

        Raises `InvalidSignature`; of a high s only for transactions that name their chain, since without one they may be
        older than EIP-2 (`vm.validity` knows). The recovery releases the GIL."""
        if self.deposit is not None:
            return self.deposit.sender
        if self.s > SECP256K1_HALF_N and self.chain_id is not None:
            raise InvalidSignature(f"invalid sender: signature s is above half the curve order (EIP-2): {self.s:#x}")
        if not 0 < self.r < SECP256K1_N or self.s == 0:
            raise InvalidSignature("invalid sender: signature r or s out of range")
        sender = recover_address(self.signing_hash, self.y_parity, self.r, self.s)
        if sender is None:
            raise InvalidSignature("invalid sender: no public key can be recovered from the signature")
        return sender

    @kept
    def signing_hash(self) -> bytes:
        """The 32 bytes that the sender signed."""
        payload: bytes | None = self.__dict__.get(_SIGNED_PAYLOAD)
        if payload is not None:
            return keccak256(self.raw[:1] + encode_sequence((payload,)))
        if self.type == LEGACY:
            fields = list(_legacy_fields(self))
            if self.chain_id is not None:
                fields += (encode_uint(self.chain_id), encoding.EMPTY_STRING, encoding.EMPTY_STRING)
            return keccak256(encode_sequence(fields))
        return keccak256(bytes((self.type,)) + encode_sequence(_typed_fields(self)))

    @property
    def gas_price(self) -> int:
        """The most per gas; for types 0 and 1 the price itself."""
        return self.max_fee_per_gas

    def effective_gas_price(self, base_fee_per_gas: int) -> int:
        """Wei per gas paid in a block with this base fee (EIP-1559); 0 for a deposit."""
        return min(self.max_fee_per_gas, base_fee_per_gas + self.max_priority_fee_per_gas)

    def effective_tip(self, base_fee_per_gas: int) -> int:
        """Wei per gas that go to the block's fee recipient; negative if the fee cap is below the base fee."""
        return min(self.max_priority_fee_per_gas, self.max_fee_per_gas - base_fee_per_gas)

    @property
    def v(self) -> int:
        """The signature's v as JSON-RPC shows it: EIP-155 for protected type 0, else the parity."""
        if self.type != LEGACY:
            return self.y_parity
        return self.y_parity + (27 if self.chain_id is None else 35 + 2 * self.chain_id)

    @property
    def is_create(self) -> bool:
        return self.to is None

    @kept
    def flz_size(self) -> int:
        """Length in bytes of the encoding after FastLZ, which the L1 fee is charged on (Fjord)."""
        return flz_compress_len(self.raw)


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


_RECOVERED_AT_ONCE = 16


@cache
def _recovery_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), "recovery")


def recover_senders(transactions: Sequence[Transaction]) -> None:
    """Recover the senders of many transactions on all cores: the curve arithmetic, most of it, releases the GIL.

    Wrong signatures are left to whoever asks for `sender`, which then raises."""
    chunks = [
        transactions[start : start + _RECOVERED_AT_ONCE] for start in range(0, len(transactions), _RECOVERED_AT_ONCE)
    ]
    if len(chunks) < 2 or (os.cpu_count() or 1) < 2:
        return
    for _ in _recovery_threads().map(_recover, chunks):
        pass


def _recover(transactions: Sequence[Transaction]) -> None:
    for transaction in transactions:
        try:
            _ = transaction.sender
        except InvalidSignature:
            continue


def transaction_from_deposit(deposit: DepositTransaction) -> Transaction:
    """The deposit in the form that blocks hold."""
    return Transaction(
        raw=deposit.encode(),
        type=DEPOSIT,
        chain_id=None,
        nonce=0,
        max_priority_fee_per_gas=0,
        max_fee_per_gas=0,
        gas=deposit.gas,
        to=deposit.to,
        value=deposit.value,
        data=deposit.data,
        deposit=deposit,
    )


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


def sign_authorization(private_key: bytes, *, chain_id: int, address: bytes, nonce: int) -> Authorization:
    """An EIP-7702 authorization that lets `address`'s code run as the signer."""
    message = SET_CODE_MAGIC + encode_sequence((encode_uint(chain_id), encode_bytes(address), encode_uint(nonce)))
    y_parity, r, s = sign_digest(keccak256(message), private_key)
    return Authorization(chain_id, address, nonce, y_parity, r, s)


def encode_transaction(transaction: Transaction) -> bytes:
    """The canonical encoding from the fields alone; equals `raw` of whatever was decoded."""
    if transaction.deposit is not None:
        return transaction.deposit.encode()
    signature = (encode_uint(transaction.r), encode_uint(transaction.s))
    if transaction.type == LEGACY:
        return encode_sequence((*_legacy_fields(transaction), encode_uint(transaction.v), *signature))
    return bytes((transaction.type,)) + encode_sequence(
        (*_typed_fields(transaction), encode_uint(transaction.y_parity), *signature)
    )


# --- fields, without the signature ------------------------------------------------------------------


def _legacy_fields(transaction: Transaction) -> tuple[bytes, ...]:
    return (
        encode_uint(transaction.nonce),
        encode_uint(transaction.max_fee_per_gas),
        encode_uint(transaction.gas),
        encode_bytes(transaction.to or b""),
        encode_uint(transaction.value),
        encode_bytes(transaction.data),
    )


def _typed_fields(transaction: Transaction) -> tuple[bytes, ...]:
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


# --- decoders ---------------------------------------------------------------------------------------


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
        to=_to(fields[3]),
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
        to=_to(fields[4]),
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
        _to(to),
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
    transaction.__dict__[_SIGNED_PAYLOAD] = raw[start:end]
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


def _to(item: Item) -> bytes | None:
    address = encoding.to_bytes(item)
    if not address:
        return None
    if len(address) != 20:
        raise encoding.InvalidRLP(f"to must have 20 bytes or none, got {len(address)}")
    return address


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

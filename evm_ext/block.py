"""Headers and blocks of every fork's form, their RLP, and the way to and from Engine API payloads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import Item, encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.errors import HeaderFieldMismatch, InvalidTransaction, UndecodableBlock
from openledger.evm_ext.kept import kept
from openledger.evm_ext.payload import ExecutionPayload, Withdrawal
from openledger.evm_ext.transactions import Transaction, decode_transaction
from openledger.evm_ext.trie import EMPTY_ROOT, ordered_root
from openledger.genesis.hardforks import Hardfork
from openledger.genesis.hashing import keccak256

EMPTY_UNCLES_HASH = keccak256(encoding.EMPTY_LIST)
EMPTY_REQUESTS_HASH = hashlib.sha256(b"").digest()
BLOOM_BYTES = 256


class HeaderForm(IntEnum):
    """Which fields a header has: their number, each form continuing the one before."""

    LEGACY = 15
    LONDON = 16
    """baseFeePerGas (EIP-1559)."""
    SHANGHAI = 17
    """withdrawalsRoot (EIP-4895)."""
    CANCUN = 20
    """blobGasUsed, excessBlobGas (EIP-4844), parentBeaconBlockRoot (EIP-4788)."""
    PRAGUE = 21
    """requestsHash (EIP-7685)."""


def header_form(fork: Hardfork) -> HeaderForm:
    """The form of headers under a fork."""
    if fork >= Hardfork.PRAGUE:
        return HeaderForm.PRAGUE
    if fork >= Hardfork.CANCUN:
        return HeaderForm.CANCUN
    if fork >= Hardfork.SHANGHAI:
        return HeaderForm.SHANGHAI
    return HeaderForm.LONDON if fork >= Hardfork.LONDON else HeaderForm.LEGACY


@dataclass(frozen=True)
class Header:
    """A block header: the fields in the order of its RLP, and how many of them it has.

    Hashes are 32 bytes, the bloom 256, addresses 20, `nonce` 8; numbers are integers. Fields beyond the `form` are 0 or
    zero bytes, and neither encoded nor hashed. `prev_randao` is the seal's mixHash under proof of work.
    """

    parent_hash: bytes
    uncles_hash: bytes
    fee_recipient: bytes
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes
    logs_bloom: bytes
    difficulty: int
    number: int
    gas_limit: int
    gas_used: int
    timestamp: int
    extra_data: bytes
    prev_randao: bytes
    nonce: bytes
    base_fee_per_gas: int = 0
    withdrawals_root: bytes = bytes(32)
    blob_gas_used: int = 0
    excess_blob_gas: int = 0
    parent_beacon_block_root: bytes = bytes(32)
    requests_hash: bytes = bytes(32)
    form: HeaderForm = HeaderForm.PRAGUE

    @kept
    def hash(self) -> bytes:
        return keccak256(self.encode())

    def encode(self) -> bytes:
        """RLP of the fields that the form has."""
        return encode_sequence(
            encode_uint(value) if isinstance(value, int) else encode_bytes(value)
            for value in (getattr(self, name) for name in HEADER_FIELDS[: self.form])
        )

    @classmethod
    def decode(cls, raw: bytes) -> Header:
        """The inverse of `encode`. Raises `UndecodableBlock`."""
        try:
            return _header_from_item(encoding.decode(raw))
        except encoding.InvalidRLP as error:
            raise UndecodableBlock(f"malformed header: {error}") from None


HEADER_FIELDS: Final = tuple(name for name in Header.__dataclass_fields__ if name != "form")
"""The names of a header's fields in the order of its RLP."""


@dataclass(frozen=True)
class Block:
    """A header with its body. Only blocks of proof of work have uncles, only those since Shanghai withdrawals."""

    header: Header
    transactions: tuple[Transaction, ...]
    withdrawals: tuple[Withdrawal, ...] = ()
    uncles: tuple[Header, ...] = ()

    @property
    def hash(self) -> bytes:
        return self.header.hash

    @property
    def number(self) -> int:
        return self.header.number

    def encode(self) -> bytes:
        """rlp([header, transactions, uncles]), since Shanghai with withdrawals behind."""
        return encode_sequence((self.header.encode(), *self._body_parts()))

    @classmethod
    def decode(cls, raw: bytes) -> Block:
        """The inverse of `encode`. Raises `UndecodableBlock`, also for a transaction that cannot be read."""
        try:
            items = encoding.split_list(raw)
            if not items:
                raise UndecodableBlock("malformed block: the list is empty")
            return _with_body(Header.decode(items[0]), items[1:])
        except (encoding.InvalidRLP, ValueError) as error:
            raise UndecodableBlock(f"malformed block: {error}") from None

    def encode_body(self) -> bytes:
        """rlp([transactions, uncles]), since Shanghai with withdrawals, as the store and range sync keep it."""
        return encode_sequence(self._body_parts())

    def _body_parts(self) -> list[bytes]:
        parts = [encode_transactions(self.transactions), encode_uncles(self.uncles)]
        if self.header.form >= HeaderForm.SHANGHAI:
            parts.append(encode_sequence(encode_withdrawal(item) for item in self.withdrawals))
        return parts


def block_from_body(header: Header, body: bytes) -> Block:
    """A block from its header and `Block.encode_body`. Raises `UndecodableBlock`."""
    try:
        return _with_body(header, encoding.split_list(body))
    except encoding.InvalidRLP as error:
        raise UndecodableBlock(f"malformed block body: {error}") from None


def encode_transactions(transactions: tuple[Transaction, ...]) -> bytes:
    """The list of a body: type 0 as lists, all others as strings."""
    return encode_sequence(
        transaction.raw if transaction.type == 0 else encode_bytes(transaction.raw) for transaction in transactions
    )


def encode_uncles(uncles: tuple[Header, ...]) -> bytes:
    """The list of a body; its Keccak-256 is the header's `uncles_hash`."""
    return encode_sequence(uncle.encode() for uncle in uncles) if uncles else encoding.EMPTY_LIST


def encode_withdrawal(withdrawal: Withdrawal) -> bytes:
    """RLP of a withdrawal (EIP-4895)."""
    return encode_sequence(
        (
            encode_uint(withdrawal.index),
            encode_uint(withdrawal.validator_index),
            encode_bytes(withdrawal.address),
            encode_uint(withdrawal.amount),
        )
    )


def transactions_root(transactions: tuple[Transaction, ...]) -> bytes:
    """Root of the trie from rlp(index) to the encoded transaction."""
    return ordered_root([transaction.raw for transaction in transactions])


def withdrawals_trie_root(withdrawals: tuple[Withdrawal, ...]) -> bytes:
    """Root of the trie from rlp(index) to the withdrawal (EIP-4895)."""
    return ordered_root([encode_withdrawal(item) for item in withdrawals]) if withdrawals else EMPTY_ROOT


def payload_from_block(block: Block) -> ExecutionPayload:
    """The block as the Engine API carries it."""
    header = block.header
    return ExecutionPayload(
        parent_hash=header.parent_hash,
        fee_recipient=header.fee_recipient,
        state_root=header.state_root,
        receipts_root=header.receipts_root,
        logs_bloom=header.logs_bloom,
        prev_randao=header.prev_randao,
        block_number=header.number,
        gas_limit=header.gas_limit,
        gas_used=header.gas_used,
        timestamp=header.timestamp,
        extra_data=header.extra_data,
        base_fee_per_gas=header.base_fee_per_gas,
        block_hash=header.hash,
        transactions=tuple(transaction.raw for transaction in block.transactions),
        withdrawals=block.withdrawals,
        blob_gas_used=header.blob_gas_used,
        excess_blob_gas=header.excess_blob_gas,
        withdrawals_root=header.withdrawals_root,
        parent_beacon_block_root=header.parent_beacon_block_root,
    )


def block_from_payload(
    payload: ExecutionPayload,
    requests_hash: bytes = EMPTY_REQUESTS_HASH,
    form: HeaderForm = HeaderForm.PRAGUE,
) -> Block:
    """The block that a payload describes, with a header of the `form` that its fork has.

    Raises `UndecodableBlock` if a transaction or a field cannot be read and `HeaderFieldMismatch` if the
    header built from the payload does not hash to its `block_hash`. Nothing is executed."""
    for name, value, length in (
        ("parent_hash", payload.parent_hash, 32),
        ("fee_recipient", payload.fee_recipient, 20),
        ("state_root", payload.state_root, 32),
        ("receipts_root", payload.receipts_root, 32),
        ("logs_bloom", payload.logs_bloom, BLOOM_BYTES),
        ("prev_randao", payload.prev_randao, 32),
        ("withdrawals_root", payload.withdrawals_root, 32),
        ("parent_beacon_block_root", payload.parent_beacon_block_root, 32),
    ):
        if len(value) != length:
            raise UndecodableBlock(f"payload field {name} must have {length} bytes, got {len(value)}")
    transactions = _decode_transactions(payload.transactions)
    header = Header(
        parent_hash=payload.parent_hash,
        uncles_hash=EMPTY_UNCLES_HASH,
        fee_recipient=payload.fee_recipient,
        state_root=payload.state_root,
        transactions_root=transactions_root(transactions),
        receipts_root=payload.receipts_root,
        logs_bloom=payload.logs_bloom,
        difficulty=0,
        number=payload.block_number,
        gas_limit=payload.gas_limit,
        gas_used=payload.gas_used,
        timestamp=payload.timestamp,
        extra_data=payload.extra_data,
        prev_randao=payload.prev_randao,
        nonce=bytes(8),
        base_fee_per_gas=payload.base_fee_per_gas,
        withdrawals_root=payload.withdrawals_root if form >= HeaderForm.SHANGHAI else bytes(32),
        blob_gas_used=payload.blob_gas_used if form >= HeaderForm.CANCUN else 0,
        excess_blob_gas=payload.excess_blob_gas if form >= HeaderForm.CANCUN else 0,
        parent_beacon_block_root=payload.parent_beacon_block_root if form >= HeaderForm.CANCUN else bytes(32),
        requests_hash=requests_hash if form >= HeaderForm.PRAGUE else bytes(32),
        form=form,
    )
    if header.hash != payload.block_hash:
        raise HeaderFieldMismatch("block_hash", payload.block_hash, header.hash)
    return Block(header, transactions, payload.withdrawals)


def _decode_transactions(encodings: tuple[bytes, ...]) -> tuple[Transaction, ...]:
    transactions = []
    for index, raw in enumerate(encodings):
        try:
            transactions.append(decode_transaction(raw, max_bytes=None))
        except InvalidTransaction as error:
            raise UndecodableBlock(f"transaction {index} cannot be read: {error}") from error
    return tuple(transactions)


def _with_body(header: Header, parts: list[bytes]) -> Block:
    """The block of a header and the encoded parts of its body. Raises `InvalidRLP` and `UndecodableBlock`."""
    expected = 3 if header.form >= HeaderForm.SHANGHAI else 2
    if len(parts) != expected:
        names = "transactions, uncles and withdrawals" if expected == 3 else "transactions and uncles"
        raise encoding.InvalidRLP(f"a body under this header has {names}, got {len(parts)} parts")
    transactions = _decode_transactions(tuple(map(_transaction_in_body, encoding.split_list(parts[0]))))
    uncles = () if parts[1] == encoding.EMPTY_LIST else tuple(map(Header.decode, encoding.split_list(parts[1])))
    withdrawals = () if expected == 2 else _decode_withdrawals(parts[2])
    return Block(header, transactions, withdrawals, uncles)


def _transaction_in_body(part: bytes) -> bytes:
    """The encoding of a transaction from that of its place in a body: a list for type 0, a string for all others."""
    if part[0] >= 0xC0:
        return part
    raw = encoding.to_bytes(encoding.decode(part))
    if raw[:1] >= b"\xc0":
        raise encoding.InvalidRLP("a type 0 transaction stands in a body as a list, not inside a string")
    return raw


def _decode_withdrawals(raw: bytes) -> tuple[Withdrawal, ...]:
    return tuple(
        Withdrawal(
            index=encoding.to_uint(fields[0], 8),
            validator_index=encoding.to_uint(fields[1], 8),
            address=encoding.to_bytes(fields[2], 20),
            amount=encoding.to_uint(fields[3], 8),
        )
        for fields in (encoding.to_list(item, 4) for item in encoding.to_list(encoding.decode(raw)))
    )


def _header_from_item(item: Item) -> Header:
    fields = encoding.to_list(item)
    if len(fields) not in _FORM_SIZES:
        raise encoding.InvalidRLP(f"a header has {', '.join(map(str, _FORM_SIZES))} fields, got {len(fields)}")
    values: dict[str, bytes | int] = {}
    for name, field in zip(HEADER_FIELDS, fields):
        if name in _FIXED_BYTES:
            values[name] = encoding.to_bytes(field, _FIXED_BYTES[name])
        elif name == "extra_data":
            values[name] = encoding.to_bytes(field)
        else:
            values[name] = encoding.to_uint(field, 32 if name in ("difficulty", "base_fee_per_gas") else 8)
    return Header(**values, form=HeaderForm(len(fields)))  # type: ignore[arg-type]


_FORM_SIZES = tuple(int(form) for form in HeaderForm)
_FIXED_BYTES = {
    "parent_hash": 32,
    "uncles_hash": 32,
    "fee_recipient": 20,
    "state_root": 32,
    "transactions_root": 32,
    "receipts_root": 32,
    "logs_bloom": BLOOM_BYTES,
    "prev_randao": 32,
    "nonce": 8,
    "withdrawals_root": 32,
    "parent_beacon_block_root": 32,
    "requests_hash": 32,
}

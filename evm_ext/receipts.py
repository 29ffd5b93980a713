"""Receipts: the consensus encoding, blooms, and the derived fields stored beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import Item, encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.kept import kept, quickly_made
from openledger.evm_ext.trie import ordered_root
from openledger.genesis.hashing import keccak256

BLOOM_BYTES = 256
DEPOSIT_RECEIPT_VERSION = 1
"""Canyon's version of deposit receipts: depositNonce and version are part of what is hashed."""

_DEPOSIT_TYPE = 0x7E
_EMPTY_BLOOM = bytes(BLOOM_BYTES)
_ENCODED_EMPTY_BLOOM_AND_LOGS = encode_bytes(_EMPTY_BLOOM) + encoding.EMPTY_LIST
_BLOOM_PREFIX = encode_bytes(_EMPTY_BLOOM)[:-BLOOM_BYTES]


class UndecodableReceipt(ValueError):
    """Bytes that are not a receipt."""


@quickly_made
@dataclass(frozen=True)
class Log:
    """One event. Topics are 32 bytes each, at most four."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@quickly_made
@dataclass(frozen=True)
class Receipt:
    """What a transaction did.

    The first fields are consensus. Before Byzantium `state_root`, the state after the transaction, takes the place of
    `status`, which is then 1 and says nothing (EIP-658). `deposit_nonce` and `deposit_version` are set for type 0x7E only.
    The fields from `gas_used` on are derived (not in the receipts root) and stored beside: the gas of this
    transaction alone, wei paid per gas, the created contract, the L1 fee and its ingredients (OP chains).
    """

    type: int
    status: int
    cumulative_gas_used: int
    logs: tuple[Log, ...]
    deposit_nonce: int | None = None
    deposit_version: int | None = None
    gas_used: int = 0
    effective_gas_price: int = 0
    contract_address: bytes | None = None
    l1_fee: int | None = None
    l1_gas_used: int | None = None
    l1_gas_price: int | None = None
    l1_blob_base_fee: int | None = None
    l1_base_fee_scalar: int | None = None
    l1_blob_base_fee_scalar: int | None = None
    operator_fee: int | None = None
    operator_fee_scalar: int | None = None
    operator_fee_constant: int | None = None
    blob_gas_used: int | None = None
    blob_gas_price: int | None = None
    state_root: bytes = b""

    @kept
    def bloom(self) -> bytes:
        """The 256-byte Bloom filter over the logs' addresses and topics (Yellow Paper, M3:2048)."""
        return self.bloom_bits.to_bytes(BLOOM_BYTES, "big") if self.logs else _EMPTY_BLOOM

    @kept
    def bloom_bits(self) -> int:
        """The same as an integer."""
        return _bits_of_logs(self.logs)

    def encode(self) -> bytes:
        """The consensus encoding: the bare list for type 0, else type || list."""
        return self._encoded

    @kept
    def _encoded(self) -> bytes:
        outcome = encode_bytes(self.state_root) if self.state_root else encode_uint(self.status)
        logs = self.logs
        fields: tuple[bytes, ...] = (
            outcome,
            encode_uint(self.cumulative_gas_used),
            _BLOOM_PREFIX + self.bloom + encode_sequence([_encode_log(log) for log in logs])
            if logs
            else _ENCODED_EMPTY_BLOOM_AND_LOGS,
        )
        if self.deposit_nonce is not None:
            fields += (encode_uint(self.deposit_nonce),)
            if self.deposit_version is not None:
                fields += (encode_uint(self.deposit_version),)
        body = encode_sequence(fields)
        return body if self.type == 0 else bytes((self.type,)) + body

    @classmethod
    def decode(cls, raw: bytes) -> Receipt:
        """A receipt from its consensus encoding; derived fields stay at their defaults.

        Raises `UndecodableReceipt`, also when the bloom does not fit the logs."""
        try:
            return _decode_consensus(raw)
        except encoding.InvalidRLP as error:
            raise UndecodableReceipt(f"malformed receipt: {error}") from None


def logs_bloom(logs: Sequence[Log]) -> bytes:
    """The Bloom filter of some logs, 256 bytes big-endian."""
    return _bits_of_logs(logs).to_bytes(BLOOM_BYTES, "big") if logs else _EMPTY_BLOOM


def _bits_of_logs(logs: Sequence[Log]) -> int:
    bits = 0
    for log in logs:
        bits |= bloom_bits(log.address)
        for topic in log.topics:
            bits |= bloom_bits(topic)
    return bits


@lru_cache(maxsize=16_384)
def bloom_bits(value: bytes) -> int:
    """The three bits of a 2048-bit filter that an address or a topic sets, as an integer."""
    digest = keccak256(value)
    return (
        1 << (int.from_bytes(digest[0:2], "big") & 2047)
        | 1 << (int.from_bytes(digest[2:4], "big") & 2047)
        | 1 << (int.from_bytes(digest[4:6], "big") & 2047)
    )


def union_bloom(receipts: Iterable[Receipt]) -> bytes:
    """The header's filter: the union of its receipts'."""
    bits = 0
    for receipt in receipts:
        if receipt.logs:
            bits |= receipt.bloom_bits
    return bits.to_bytes(BLOOM_BYTES, "big")


def receipts_root(receipts: Iterable[Receipt]) -> bytes:
    """Root of the trie from rlp(index) to the encoded receipt."""
    return ordered_root([receipt.encode() for receipt in receipts])


def encode_stored(receipts: Iterable[Receipt]) -> bytes:
    """The receipts of a block with their derived fields, as the store keeps them."""
    return encode_sequence([_encode_stored_receipt(receipt) for receipt in receipts])


def decode_stored(raw: bytes) -> tuple[Receipt, ...]:
    """The inverse of `encode_stored`. Raises `UndecodableReceipt`."""
    try:
        return tuple(_decode_stored_receipt(item) for item in encoding.decode_list(raw))
    except encoding.InvalidRLP as error:
        raise UndecodableReceipt(f"malformed stored receipts: {error}") from None


_DERIVED = (
    "gas_used",
    "effective_gas_price",
    "contract_address",
    "l1_fee",
    "l1_gas_used",
    "l1_gas_price",
    "l1_blob_base_fee",
    "l1_base_fee_scalar",
    "l1_blob_base_fee_scalar",
    "operator_fee",
    "operator_fee_scalar",
    "operator_fee_constant",
    "blob_gas_used",
    "blob_gas_price",
)
_derived = attrgetter(*_DERIVED)
_NO_MORE = [None] * (len(_DERIVED) - 2)
_ENCODED_NO_MORE = encoding.EMPTY_LIST * (len(_DERIVED) - 2)


def _encode_log(log: Log) -> bytes:
    # Addresses and topics have one length each, so their prefixes are known: blocks have logs by the thousand.
    topics = log.topics
    encoded_topics = encode_sequence((b"\xa0" + b"\xa0".join(topics),)) if topics else encoding.EMPTY_LIST
    return encode_sequence((b"\x94", log.address, encoded_topics, encode_bytes(log.data)))


def _decode_consensus(raw: bytes) -> Receipt:
    if not raw:
        raise encoding.InvalidRLP("the receipt is empty")
    kind, body = (0, raw) if raw[0] >= 0xC0 else (raw[0], raw[1:])
    fields = encoding.decode_list(body)
    if not (len(fields) == 4 or (kind == _DEPOSIT_TYPE and len(fields) in (5, 6))):
        raise encoding.InvalidRLP(f"a type {kind} receipt cannot have {len(fields)} fields")
    outcome = encoding.to_bytes(fields[0])
    state_root = outcome if len(outcome) == 32 else b""
    status = 1 if state_root else encoding.to_uint(outcome)
    if status > 1:
        raise encoding.InvalidRLP(f"status must be 0 or 1 or a state root of 32 bytes, got 0x{outcome.hex()}")
    receipt = Receipt(
        type=kind,
        status=status,
        cumulative_gas_used=encoding.to_uint(fields[1], 8),
        logs=tuple(_decode_log(item) for item in encoding.to_list(fields[3])),
        deposit_nonce=encoding.to_uint(fields[4], 8) if len(fields) > 4 else None,
        deposit_version=encoding.to_uint(fields[5], 8) if len(fields) > 5 else None,
        state_root=state_root,
    )
    if encoding.to_bytes(fields[2], BLOOM_BYTES) != receipt.bloom:
        raise encoding.InvalidRLP("the bloom does not fit the logs")
    return receipt


def _decode_log(item: Item) -> Log:
    address, topics, data = encoding.to_list(item, 3)
    return Log(
        address=encoding.to_bytes(address, 20),
        topics=tuple(encoding.to_bytes(topic, 32) for topic in encoding.to_list(topics)),
        data=encoding.to_bytes(data),
    )


def _encode_stored_receipt(receipt: Receipt) -> bytes:
    gas_used, price, *rest = _derived(receipt)
    parts = [encode_bytes(receipt.encode()), _encode_optional(gas_used), _encode_optional(price)]
    if rest == _NO_MORE:
        parts.append(_ENCODED_NO_MORE)
    else:
        parts += [encoding.EMPTY_LIST if value is None else _encode_optional(value) for value in rest]
    return encode_sequence(parts)


def _encode_optional(value: int | bytes) -> bytes:
    return encode_sequence((encode_uint(value) if isinstance(value, int) else encode_bytes(value),))


def _decode_stored_receipt(item: Item) -> Receipt:
    consensus, *derived = encoding.to_list(item, 1 + len(_DERIVED))
    receipt = _decode_consensus(encoding.to_bytes(consensus))
    values: dict[str, int | bytes | None] = {}
    for name, field in zip(_DERIVED, derived, strict=True):
        optional = encoding.to_list(field)
        if not optional:
            values[name] = None
        elif name == "contract_address":
            values[name] = encoding.to_bytes(optional[0], 20)
        else:
            values[name] = encoding.to_uint(optional[0])
    return Receipt(
        type=receipt.type,
        status=receipt.status,
        cumulative_gas_used=receipt.cumulative_gas_used,
        logs=receipt.logs,
        deposit_nonce=receipt.deposit_nonce,
        deposit_version=receipt.deposit_version,
        state_root=receipt.state_root,
        **values,  # type: ignore[arg-type]
    )

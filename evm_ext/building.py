"""From payload attributes and candidates to a block; from a foreign block to certainty that it is valid.

Both give the block with its `ExecutedBlock`; nothing is stored here. Sources: EIP-1559, execution-specs
(header validity); OP-Stack specification, exec-engine and Holocene (attributes, extraData).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import structlog

from openledger.evm_ext import errors
from openledger.evm_ext.block import (
    EMPTY_REQUESTS_HASH,
    EMPTY_UNCLES_HASH,
    Block,
    Header,
    transactions_root,
    withdrawals_trie_root,
)
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.processing import (
    BlockProcessor,
    ExecutedBlock,
    child_base_fee,
    child_excess_blob_gas,
    decode_fee_parameters,
)
from openledger.evm_ext.receipts import BLOOM_BYTES, receipts_root, union_bloom
from openledger.evm_ext.state.reader import StateReader
from openledger.evm_ext.transactions import Transaction, decode_transaction
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.evm_ext.vm.executor import GAS_TRANSACTION
from openledger.evm_ext.vm.rules import ETHEREUM_EXTRA_DATA_BYTES, Rules
from openledger.genesis.genesis import encode_holocene_extra_data
from openledger.genesis.hashing import keccak256

GAS_LIMIT_QUOTIENT = 1024
MINIMUM_GAS_LIMIT = 5_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ParentState:
    """What a block is executed on: its parent, the parent's state and the hashes BLOCKHASH can see."""

    header: Header
    reader: StateReader
    ancestor_hash: Callable[[int], bytes]


# --- building -------------------------------------------------------------------------------------------


def build_block(
    rules: Rules, parent: ParentState, attributes: PayloadAttributes, candidates: Iterable[Transaction]
) -> tuple[Block, ExecutedBlock]:
    """A block on `parent`: the attributes' transactions, then as many candidates as fit.

    Raises `InvalidAttributes` or `InvalidBlockTransaction`. A candidate that is invalid or does not fit is
    passed over; `candidates` may be a generator that ends when the time for building is over."""
    header = _template(rules, parent.header, attributes)
    processor = BlockProcessor(rules, parent.reader, header, parent.ancestor_hash)
    processor.start()
    included: list[Transaction] = []
    for index, raw in enumerate(attributes.transactions):
        try:
            transaction = decode_transaction(raw)
            processor.apply(transaction)
        except errors.InvalidTransaction as error:
            raise errors.InvalidBlockTransaction(index, keccak256(raw), error) from error
        included.append(transaction)
    if not attributes.no_tx_pool:
        for candidate in candidates:
            if processor.gas_left < GAS_TRANSACTION:
                break
            if candidate.deposit is not None:
                continue
            try:
                processor.apply(candidate)
            except errors.InvalidTransaction as error:
                _log.debug("candidate_skipped", tx="0x" + candidate.hash.hex(), reason=str(error))
                continue
            included.append(candidate)
    executed = processor.finish(attributes.withdrawals)
    transactions = tuple(included)
    header = replace(
        header,
        transactions_root=transactions_root(transactions),
        **_results(executed),  # type: ignore[arg-type]
    )
    return Block(header, transactions, attributes.withdrawals), executed


def extra_data_for(rules: Rules, attributes: PayloadAttributes) -> bytes:
    """The extraData of a block: on an OP chain version 0 and the base fee parameters (Holocene)."""
    if not rules.is_op:
        return b""
    params = attributes.eip_1559_params or bytes(8)
    if len(params) != 8:
        raise errors.InvalidAttributes(f"eip1559Params has 8 bytes, got 0x{params.hex()}")
    denominator, elasticity = decode_fee_parameters(params)
    if not denominator and not elasticity:
        denominator, elasticity = rules.denominator, rules.elasticity
    if not denominator or not elasticity:
        raise errors.InvalidAttributes(f"eip1559Params 0x{params.hex()} has a zero denominator or elasticity")
    return encode_holocene_extra_data(denominator, elasticity)


def _template(rules: Rules, parent: Header, attributes: PayloadAttributes) -> Header:
    if attributes.timestamp <= parent.timestamp:
        raise errors.InvalidAttributes(f"timestamp {attributes.timestamp} is not after the parent's {parent.timestamp}")
    gas_limit = parent.gas_limit if attributes.gas_limit is None else attributes.gas_limit
    if not MINIMUM_GAS_LIMIT <= gas_limit < 1 << 63:
        raise errors.InvalidAttributes(f"gas limit {gas_limit} is out of range")
    if rules.is_op and attributes.withdrawals:
        raise errors.InvalidAttributes("an OP chain's block has no validator withdrawals")
    for name, value, length in (
        ("prev_randao", attributes.prev_randao, 32),
        ("suggested_fee_recipient", attributes.suggested_fee_recipient, 20),
        ("parent_beacon_block_root", attributes.parent_beacon_block_root, 32),
    ):
        if len(value) != length:
            raise errors.InvalidAttributes(f"{name} has {length} bytes, got {len(value)}")
    return Header(
        parent_hash=parent.hash,
        uncles_hash=EMPTY_UNCLES_HASH,
        fee_recipient=attributes.suggested_fee_recipient,
        state_root=EMPTY_ROOT,
        transactions_root=EMPTY_ROOT,
        receipts_root=EMPTY_ROOT,
        logs_bloom=bytes(BLOOM_BYTES),
        difficulty=0,
        number=parent.number + 1,
        gas_limit=gas_limit,
        gas_used=0,
        timestamp=attributes.timestamp,
        extra_data=extra_data_for(rules, attributes),
        prev_randao=attributes.prev_randao,
        nonce=bytes(8),
        base_fee_per_gas=child_base_fee(rules, parent),
        withdrawals_root=EMPTY_ROOT,
        blob_gas_used=0,
        excess_blob_gas=child_excess_blob_gas(rules, parent),
        parent_beacon_block_root=attributes.parent_beacon_block_root,
        requests_hash=EMPTY_REQUESTS_HASH,
    )


def _results(executed: ExecutedBlock) -> dict[str, bytes | int]:
    """The header fields that follow from execution."""
    return {
        "state_root": executed.changes.root,
        "receipts_root": receipts_root(executed.receipts),
        "logs_bloom": union_bloom(executed.receipts),
        "gas_used": executed.gas_used,
        "withdrawals_root": executed.withdrawals_root,
        "blob_gas_used": executed.blob_gas_used,
        "requests_hash": executed.requests_hash,
    }


# --- importing ------------------------------------------------------------------------------------------


def execute_block(rules: Rules, parent: ParentState, block: Block) -> ExecutedBlock:
    """Execute a foreign block and compare every header field. Raises the `InvalidBlock` that says which
    rule it breaks; for a header field `HeaderFieldMismatch` with both values."""
    validate_header(rules, parent.header, block)
    processor = BlockProcessor(rules, parent.reader, block.header, parent.ancestor_hash)
    processor.start()
    for index, transaction in enumerate(block.transactions):
        try:
            processor.apply(transaction)
        except errors.InvalidTransaction as error:
            raise errors.InvalidBlockTransaction(index, transaction.hash, error) from error
    executed = processor.finish(block.withdrawals)
    for field, expected in _results(executed).items():
        _check(field, getattr(block.header, field), expected)
    return executed


def validate_header(rules: Rules, parent: Header, block: Block) -> None:
    """Every header field that does not need execution."""
    header = block.header
    _check("parent_hash", header.parent_hash, parent.hash)
    _check("number", header.number, parent.number + 1)
    _check("uncles_hash", header.uncles_hash, EMPTY_UNCLES_HASH)
    _check("difficulty", header.difficulty, 0)
    _check("nonce", header.nonce, bytes(8))
    if header.timestamp <= parent.timestamp:
        raise errors.HeaderFieldMismatch("timestamp", header.timestamp, f"more than {parent.timestamp}")
    _check_gas_limit(rules, header.gas_limit, parent.gas_limit)
    if header.gas_used > header.gas_limit:
        raise errors.HeaderFieldMismatch("gas_used", header.gas_used, f"at most {header.gas_limit}")
    _check_extra_data(rules, header.extra_data)
    _check("base_fee_per_gas", header.base_fee_per_gas, child_base_fee(rules, parent))
    _check("excess_blob_gas", header.excess_blob_gas, child_excess_blob_gas(rules, parent))
    _check("transactions_root", header.transactions_root, transactions_root(block.transactions))
    if rules.is_op:
        if block.withdrawals:
            raise errors.InvalidBlock(f"an OP chain's block has no withdrawals, got {len(block.withdrawals)}")
    else:
        _check("withdrawals_root", header.withdrawals_root, withdrawals_trie_root(block.withdrawals))


def _check(field: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise errors.HeaderFieldMismatch(field, actual, expected)


def _check_gas_limit(rules: Rules, gas_limit: int, parent_gas_limit: int) -> None:
    """On an OP chain L1 sets it; elsewhere it moves by less than 1/1024 a block."""
    if not MINIMUM_GAS_LIMIT <= gas_limit < 1 << 63:
        raise errors.HeaderFieldMismatch("gas_limit", gas_limit, f"at least {MINIMUM_GAS_LIMIT}")
    step = parent_gas_limit // GAS_LIMIT_QUOTIENT
    if not rules.is_op and gas_limit != parent_gas_limit and abs(gas_limit - parent_gas_limit) >= step:
        raise errors.HeaderFieldMismatch("gas_limit", gas_limit, f"within 1/1024 of {parent_gas_limit}")


def _check_extra_data(rules: Rules, extra_data: bytes) -> None:
    if rules.is_op:
        denominator, elasticity = decode_fee_parameters(extra_data[1:9])
        if len(extra_data) != 9 or extra_data[0] != 0 or not denominator or not elasticity:
            raise errors.HeaderFieldMismatch(
                "extra_data", extra_data, "9 bytes: 00, denominator and elasticity, neither zero"
            )
    elif len(extra_data) > ETHEREUM_EXTRA_DATA_BYTES:
        raise errors.HeaderFieldMismatch("extra_data", extra_data, f"at most {ETHEREUM_EXTRA_DATA_BYTES} bytes")

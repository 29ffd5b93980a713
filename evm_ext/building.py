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
    HeaderForm,
    encode_uncles,
    transactions_root,
    withdrawals_trie_root,
)
from openledger.evm_ext.header_rules import (
    MAXIMUM_GAS_LIMIT,
    MINIMUM_GAS_LIMIT,
    check,
    child_base_fee,
    child_excess_blob_gas,
    child_gas_limit,
    decode_fee_parameters,
    validate_header,
)
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.processing import BlockProcessor, ExecutedBlock, MachineWrapper
from openledger.evm_ext.proof_of_work import DAO_EXTRA_DATA, DAO_EXTRA_DATA_BLOCKS, difficulty_after, validate_uncles
from openledger.evm_ext.receipts import BLOOM_BYTES, receipts_root, union_bloom
from openledger.evm_ext.state.reader import StateReader
from openledger.evm_ext.transactions import Transaction, decode_transaction, recover_senders
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.evm_ext.vm.intrinsic import GAS_TRANSACTION
from openledger.evm_ext.vm.rules import BlockRules, Rules
from openledger.genesis.genesis import encode_holocene_extra_data
from openledger.genesis.hashing import keccak256
from openledger.genesis.op_forks import OpFork

_HEADER_BYTES = 1_024
_WITHDRAWAL_BYTES = 64
_TRANSACTION_PREFIX_BYTES = 9

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ParentState:
    """What a block is executed on: its parent, the parent's state and the hashes BLOCKHASH can see.

    Only chains of proof of work need the rest: stored blocks by hash, to judge uncles, and the parent's total
    difficulty, to know where the merge is. Without it a block's own word is taken for that (its difficulty is 0)."""

    header: Header
    reader: StateReader
    ancestor_hash: Callable[[int], bytes]
    block_by_hash: Callable[[bytes], Block | None] | None = None
    total_difficulty: Callable[[], int] | None = None


# --- building -------------------------------------------------------------------------------------------


def build_block(
    rules: Rules,
    parent: ParentState,
    attributes: PayloadAttributes,
    candidates: Iterable[Transaction],
    machine_wrapper: MachineWrapper | None = None,
) -> tuple[Block, ExecutedBlock]:
    """A block on `parent`: the attributes' transactions, then as many candidates as fit.

    Raises `InvalidAttributes` or `InvalidBlockTransaction`. A candidate that is invalid or does not fit is
    passed over; `candidates` may be a generator that ends when the time for building is over."""
    header = _template(rules, parent, attributes)
    processor = BlockProcessor(rules, parent.reader, header, parent.ancestor_hash, machine_wrapper)
    processor.start()
    room = processor.block_rules.max_block_rlp_bytes
    if room is not None:
        room -= _HEADER_BYTES + _WITHDRAWAL_BYTES * len(attributes.withdrawals)
        room -= sum(len(raw) + _TRANSACTION_PREFIX_BYTES for raw in attributes.transactions)
    included: list[Transaction] = []
    for index, raw in enumerate(attributes.transactions):
        try:
            transaction = decode_transaction(raw, max_bytes=None)
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
            size = len(candidate.raw) + _TRANSACTION_PREFIX_BYTES
            if room is not None and size > room:
                continue
            try:
                processor.apply(candidate)
            except errors.InvalidTransaction as error:
                _log.debug("candidate_skipped", tx="0x" + candidate.hash.hex(), reason=str(error))
                continue
            included.append(candidate)
            if room is not None:
                room -= size
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
    if rules.op_forks.at(attributes.timestamp) < OpFork.HOLOCENE:
        if attributes.eip_1559_params:
            raise errors.InvalidAttributes("eip1559Params exist since Holocene")
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


def _template(rules: Rules, parent_state: ParentState, attributes: PayloadAttributes) -> Header:
    parent = parent_state.header
    if attributes.timestamp <= parent.timestamp:
        raise errors.InvalidAttributes(f"timestamp {attributes.timestamp} is not after the parent's {parent.timestamp}")
    merged = _parent_is_last_of_work(rules, parent_state) or (parent.number > 0 and parent.difficulty == 0)
    block_rules = rules.at(parent.number + 1, attributes.timestamp, merged=merged)
    gas_limit = attributes.gas_limit
    if gas_limit is None:
        gas_limit = child_gas_limit(rules, parent, block_rules)
    if not MINIMUM_GAS_LIMIT <= gas_limit <= MAXIMUM_GAS_LIMIT:
        raise errors.InvalidAttributes(f"gas limit {gas_limit} is out of range")
    if attributes.withdrawals and (rules.is_op or not block_rules.has_withdrawals):
        raise errors.InvalidAttributes(
            "an OP chain's block has no validator withdrawals"
            if rules.is_op
            else f"blocks under {block_rules.fork.name} have no withdrawals"
        )
    for name, value, length in (
        ("prev_randao", attributes.prev_randao, 32),
        ("suggested_fee_recipient", attributes.suggested_fee_recipient, 20),
        ("parent_beacon_block_root", attributes.parent_beacon_block_root, 32),
    ):
        if len(value) != length:
            raise errors.InvalidAttributes(f"{name} has {length} bytes, got {len(value)}")
    form = block_rules.header_form
    return Header(
        parent_hash=parent.hash,
        uncles_hash=EMPTY_UNCLES_HASH,
        fee_recipient=attributes.suggested_fee_recipient,
        state_root=EMPTY_ROOT,
        transactions_root=EMPTY_ROOT,
        receipts_root=EMPTY_ROOT,
        logs_bloom=bytes(BLOOM_BYTES),
        difficulty=0 if block_rules.is_proof_of_stake else difficulty_after(block_rules, parent, attributes.timestamp),
        number=parent.number + 1,
        gas_limit=gas_limit,
        gas_used=0,
        timestamp=attributes.timestamp,
        extra_data=_dao_mark(rules, parent.number + 1) or extra_data_for(rules, attributes),
        prev_randao=attributes.prev_randao,
        nonce=bytes(8),
        base_fee_per_gas=child_base_fee(rules, parent, block_rules),
        withdrawals_root=EMPTY_ROOT if form >= HeaderForm.SHANGHAI else bytes(32),
        blob_gas_used=0,
        excess_blob_gas=child_excess_blob_gas(rules, parent, block_rules),
        parent_beacon_block_root=attributes.parent_beacon_block_root if form >= HeaderForm.CANCUN else bytes(32),
        requests_hash=EMPTY_REQUESTS_HASH if form >= HeaderForm.PRAGUE else bytes(32),
        form=form,
    )


def _dao_mark(rules: Rules, number: int) -> bytes:
    start = rules.hardforks.dao_fork_block
    if start is None or not rules.hardforks.dao_fork_support:
        return b""
    return DAO_EXTRA_DATA if start <= number < start + DAO_EXTRA_DATA_BLOCKS else b""


def _parent_is_last_of_work(rules: Rules, parent: ParentState) -> bool:
    """Whether the terminal total difficulty is reached, where that is known."""
    terminal = rules.hardforks.terminal_total_difficulty
    return terminal is not None and parent.total_difficulty is not None and parent.total_difficulty() >= terminal


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


def execute_block(
    rules: Rules, parent: ParentState, block: Block, machine_wrapper: MachineWrapper | None = None
) -> ExecutedBlock:
    """Execute a foreign block and compare every header field. Raises the `InvalidBlock` that says which
    rule it breaks; for a header field `HeaderFieldMismatch` with both values."""
    validate_block(rules, parent, block)
    recover_senders(block.transactions)
    processor = BlockProcessor(rules, parent.reader, block.header, parent.ancestor_hash, machine_wrapper)
    processor.start()
    for index, transaction in enumerate(block.transactions):
        try:
            processor.apply(transaction)
        except errors.InvalidTransaction as error:
            raise errors.InvalidBlockTransaction(index, transaction.hash, error) from error
    executed = processor.finish(block.withdrawals, block.uncles)
    for field, expected in _results(executed).items():
        check(field, getattr(block.header, field), expected)
    return executed


def validate_block(rules: Rules, parent: ParentState, block: Block) -> None:
    """Everything about a block that needs no execution: its header, that its body is the one the header commits to, its
    uncles and its size. Raises `InvalidBlock`."""
    header = block.header
    block_rules = validate_header(rules, parent.header, header)
    _check_merge(rules, block_rules, parent, header)
    check("transactions_root", header.transactions_root, transactions_root(block.transactions))
    check("uncles_hash", header.uncles_hash, keccak256(encode_uncles(block.uncles)))
    if block.withdrawals and (rules.is_op or not block_rules.has_withdrawals):
        where = "an OP chain's block" if rules.is_op else f"a block under {block_rules.fork.name}"
        raise errors.InvalidBlock(f"{where} has no withdrawals, got {len(block.withdrawals)}")
    if block_rules.has_withdrawals and not rules.is_op:
        check("withdrawals_root", header.withdrawals_root, withdrawals_trie_root(block.withdrawals))
    if block.uncles:
        if parent.block_by_hash is None:
            raise errors.InvalidUncle("uncles cannot be judged without the ancestors' blocks")
        validate_uncles(block, parent.block_by_hash, lambda older, uncle: _validate_uncle_header(rules, older, uncle))
    limit = block_rules.max_block_rlp_bytes
    if limit is not None and (size := len(block.encode())) > limit:
        raise errors.BlockTooLarge(f"block {header.number} has {size} bytes, at most {limit} (EIP-7934)")


def _validate_uncle_header(rules: Rules, parent: Header, uncle: Header) -> None:
    validate_header(rules, parent, uncle)


def _check_merge(rules: Rules, block_rules: BlockRules, parent: ParentState, header: Header) -> None:
    """Where the total difficulty decides about the merge, it happens there, not earlier and not later (EIP-3675)."""
    terminal = rules.hardforks.terminal_total_difficulty
    if (
        terminal is None
        or parent.total_difficulty is None
        or rules.hardforks.surely_merged(header.number, header.timestamp)
        or (parent.header.number > 0 and parent.header.difficulty == 0)
    ):
        return
    reached = parent.total_difficulty() >= terminal
    if reached != block_rules.is_proof_of_stake:
        raise errors.HeaderFieldMismatch(
            "difficulty",
            header.difficulty,
            f"{'0' if reached else 'above 0'}: the terminal total difficulty {terminal} is "
            f"{'reached' if reached else 'not reached'}",
        )

"""One state test: its transaction executed, and what came of it compared.

There is no block around the transaction: no system calls, no withdrawals, no rewards.
"""

from __future__ import annotations

from dataclasses import dataclass

from openledger.evm_ext import errors
from openledger.evm_ext.block import EMPTY_REQUESTS_HASH, EMPTY_UNCLES_HASH, Header, HeaderForm, header_form
from openledger.evm_ext.conformance.accounts import MemoryState, difference
from openledger.evm_ext.conformance.networks import check_excess_blob_gas, schedule_of
from openledger.evm_ext.conformance.state_fixture import POSSIBLY_INVALID, StateCase, UnsignedTransaction
from openledger.evm_ext.encoding import encode
from openledger.evm_ext.fees import next_excess_blob_gas
from openledger.evm_ext.processing import BlockProcessor
from openledger.evm_ext.receipts import BLOOM_BYTES, Log
from openledger.evm_ext.transactions import (
    ACCESS_LIST,
    BLOB,
    DYNAMIC_FEE,
    LEGACY,
    SET_CODE,
    Transaction,
    decode_transaction,
    encode_transaction,
    sign_transaction,
)
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.evm_ext.vm.rules import BlockRules, Rules
from openledger.genesis.genesis import Genesis
from openledger.genesis.hardforks import Hardfork, HardforkSchedule
from openledger.genesis.hashing import keccak256

_EIP161 = Hardfork.SPURIOUS_DRAGON
_DEFAULT_BASE_FEE = 10
"""What the suites assume where a file since London names no base fee."""


def run_state_case(case: StateCase) -> str | None:
    """What is wrong, in words; None if the case passes. Raises `InvalidFixture` for rules that are not known."""
    schedule = schedule_of(case.fork, case.blobs)
    outcome = _execute(case, schedule, touch=False)
    if outcome.root != case.post_root and schedule.at(case.environment.number, case.environment.timestamp) < _EIP161:
        touched = _execute(case, schedule, touch=True)
        outcome = touched if touched.root == case.post_root else outcome
    if outcome.refusal is not None and case.exception is None:
        return f"the transaction was refused: {outcome.refusal}"
    if outcome.refusal is None and case.exception not in (None, POSSIBLY_INVALID):
        return f"the transaction was accepted, expected {case.exception}"
    if outcome.root != case.post_root:
        found = difference(outcome.state.reader(outcome.root), case.post) if case.post is not None else None
        return found or f"the state root is 0x{outcome.root.hex()}, expected 0x{case.post_root.hex()}"
    logs_hash = keccak256(encode([[log.address, list(log.topics), log.data] for log in outcome.logs]))
    if case.logs_hash is not None and logs_hash != case.logs_hash:
        return f"the hash of the {len(outcome.logs)} logs is 0x{logs_hash.hex()}, expected 0x{case.logs_hash.hex()}"
    return None


class _StateRules(Rules):
    """The fork is what the file says: a difficulty of 0 makes no block of stake here."""

    def of(self, header: Header) -> BlockRules:
        return self.at(header.number, header.timestamp)


@dataclass(frozen=True)
class _Outcome:
    state: MemoryState
    root: bytes
    logs: tuple[Log, ...]
    refusal: errors.InvalidTransaction | None


def _execute(case: StateCase, schedule: HardforkSchedule, *, touch: bool) -> _Outcome:
    """The case's transaction on a fresh state.

    `touch`: the suites of ethereum/tests end with a mining reward of 0, which before EIP-161 brings an account of the
    fee recipient to life where fees did not; the execution-spec tests do not."""
    header = _header(case, schedule)
    rules = _StateRules.from_genesis(
        Genesis(
            rules="ethereum",
            chain_id=case.chain_id,
            timestamp=0,
            gas_limit=header.gas_limit,
            hardforks=schedule,
        )
    )
    state = MemoryState(case.pre)
    processor = BlockProcessor(rules, state.reader(state.root), header, _block_hash)
    logs: tuple[Log, ...] = ()
    refusal: errors.InvalidTransaction | None = None
    try:
        logs = processor.apply(_transaction(case)).logs
    except errors.InvalidTransaction as error:
        refusal = error
    if touch:
        processor.state.delta_balance(header.fee_recipient, 0)
        processor.state.end_transaction()
    changes = processor.state.compute_changes()
    state.add(changes)
    return _Outcome(state, changes.root, logs, refusal)


def _block_hash(number: int) -> bytes:
    """The suites' stand-in for hashes of blocks that do not exist: Keccak-256 of the number in decimal."""
    return keccak256(str(number).encode())


def _header(case: StateCase, schedule: HardforkSchedule) -> Header:
    environment = case.environment
    fork = schedule.at(environment.number, environment.timestamp)
    form = header_form(fork)
    blobs = schedule.blobs_at(environment.timestamp)
    excess = environment.excess_blob_gas if blobs is not None else 0
    if excess is None and blobs is not None:
        excess = next_excess_blob_gas(
            environment.parent_excess_blob_gas, environment.parent_blob_gas_used, blobs.target << 17
        )
    check_excess_blob_gas(excess or 0, schedule)
    base_fee = _DEFAULT_BASE_FEE if environment.base_fee_per_gas is None else environment.base_fee_per_gas
    merged = schedule.surely_merged(environment.number, environment.timestamp)
    return Header(
        parent_hash=bytes(32),
        uncles_hash=EMPTY_UNCLES_HASH,
        fee_recipient=environment.coinbase,
        state_root=EMPTY_ROOT,
        transactions_root=EMPTY_ROOT,
        receipts_root=EMPTY_ROOT,
        logs_bloom=bytes(BLOOM_BYTES),
        difficulty=0 if merged else environment.difficulty,
        number=environment.number,
        gas_limit=environment.gas_limit,
        gas_used=0,
        timestamp=environment.timestamp,
        extra_data=b"",
        prev_randao=environment.prev_randao if merged else bytes(32),
        nonce=bytes(8),
        base_fee_per_gas=base_fee if form >= HeaderForm.LONDON else 0,
        withdrawals_root=EMPTY_ROOT if form >= HeaderForm.SHANGHAI else bytes(32),
        excess_blob_gas=excess or 0,
        requests_hash=EMPTY_REQUESTS_HASH if form >= HeaderForm.PRAGUE else bytes(32),
        form=form,
    )


def _transaction(case: StateCase) -> Transaction:
    """The transaction as it came over the wire. Raises `InvalidTransaction` if it could not have."""
    if case.raw is not None:
        return decode_transaction(case.raw)
    fields = case.transaction
    kind, chain_id = _kind(fields), case.chain_id
    max_fee = fields.gas_price if fields.max_fee_per_gas is None else fields.max_fee_per_gas
    priority = max_fee if kind in (LEGACY, ACCESS_LIST) else fields.max_priority_fee_per_gas
    if fields.secret_key is None:
        return _unsigned(fields, kind, chain_id, max_fee or 0, priority or 0)
    signed = sign_transaction(
        fields.secret_key,
        type=kind,
        chain_id=None if kind == LEGACY else chain_id,
        nonce=fields.nonce,
        gas=fields.gas,
        to=fields.to,
        value=fields.value,
        data=fields.data,
        max_fee_per_gas=max_fee or 0,
        max_priority_fee_per_gas=priority,
        access_list=fields.access_list or (),
        authorization_list=fields.authorizations or (),
        max_fee_per_blob_gas=fields.max_fee_per_blob_gas or 0,
        blob_versioned_hashes=fields.blob_versioned_hashes or (),
    )
    return decode_transaction(signed.raw)


def _kind(fields: UnsignedTransaction) -> int:
    if fields.authorizations is not None:
        return SET_CODE
    if fields.blob_versioned_hashes is not None or fields.max_fee_per_blob_gas is not None:
        return BLOB
    if fields.max_fee_per_gas is not None:
        return DYNAMIC_FEE
    return LEGACY if fields.access_list is None else ACCESS_LIST


def _unsigned(fields: UnsignedTransaction, kind: int, chain_id: int, max_fee: int, priority: int) -> Transaction:
    """A transaction of a sender whose key the file does not have, an account with code for example."""
    if fields.sender is None:
        raise errors.InvalidSignature("the test names neither a sender nor a key")
    transaction = Transaction(
        raw=b"",
        type=kind,
        chain_id=None if kind == LEGACY else chain_id,
        nonce=fields.nonce,
        max_priority_fee_per_gas=priority,
        max_fee_per_gas=max_fee,
        gas=fields.gas,
        to=fields.to,
        value=fields.value,
        data=fields.data,
        access_list=fields.access_list or (),
        max_fee_per_blob_gas=fields.max_fee_per_blob_gas or 0,
        blob_versioned_hashes=fields.blob_versioned_hashes or (),
        authorization_list=fields.authorizations or (),
        r=1,
        s=1,
    )
    known = decode_transaction(encode_transaction(transaction))  # limits of every field
    known.__dict__["sender"] = fields.sender  # where `sender` keeps what it recovered
    return known

"""`Chain`: one chain on disk, with its heads, blocks, state, calls, building and importing.

The API is synchronous; callers on an event loop use a worker thread. One internal lock serialises whatever
writes (`build`, `import_block`, `set_heads`). Reading takes no lock: blocks and trie nodes are only ever
added, and heads are replaced as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog
from lru import LRU

from openledger.evm_ext import calls
from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.building import ParentState, build_block, execute_block
from openledger.evm_ext.calls import CallContext, CallRequest, CallResult, StateOverride
from openledger.evm_ext.errors import (
    DatabaseCorrupt,
    GenesisMismatch,
    InconsistentHeads,
    TooManyResults,
    UnknownBlock,
    UnknownParent,
)
from openledger.evm_ext.genesis_block import genesis_block
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.processing import ExecutedBlock, child_base_fee
from openledger.evm_ext.receipts import Log, Receipt, bloom_bits
from openledger.evm_ext.state.reader import StateDatabase
from openledger.evm_ext.state.view import StateView
from openledger.evm_ext.store import Store
from openledger.evm_ext.transactions import Transaction
from openledger.evm_ext.vm.rules import Rules
from openledger.genesis.genesis import Genesis

Label = Literal["unsafe", "safe", "finalized"]
LABELS: tuple[Label, ...] = ("unsafe", "safe", "finalized")

_RECENT_HEADERS = 4_096
_RECENT_BLOCKS = 128

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HeadChange:
    """A head moved. For "unsafe", `removed` (newest first) left the canonical chain and `added` (oldest
    first) joined it; for the other labels both are empty. All values are block hashes."""

    label: Label
    old: bytes
    new: bytes
    added: tuple[bytes, ...] = ()
    removed: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class LocatedLog:
    """A log with its place. `log_index` counts through the block."""

    log: Log
    block_hash: bytes
    block_number: int
    block_timestamp: int
    transaction_hash: bytes
    transaction_index: int
    log_index: int


class Chain:
    """One chain. Get it from `open`, give it back with `close`."""

    def __init__(self, store: Store, genesis: Genesis, genesis_hash: bytes) -> None:
        self.genesis = genesis
        self.genesis_hash = genesis_hash
        self.rules = Rules.from_genesis(genesis)
        self.listeners: list[Callable[[HeadChange], None]] = []
        """Called after `set_heads`, from its thread, outside the lock, in order of registration."""
        self._store = store
        self._database = StateDatabase(store.node, store.code)
        self._write_lock = threading.RLock()
        self._headers: LRU[bytes, Header] = LRU(_RECENT_HEADERS)
        self._blocks: LRU[bytes, Block] = LRU(_RECENT_BLOCKS)
        self._receipts: LRU[bytes, tuple[Receipt, ...]] = LRU(_RECENT_BLOCKS)
        self._heads: dict[Label, Header] = {}
        for label in LABELS:
            block_hash = store.head(label)
            header = None if block_hash is None else store.header(block_hash)
            if header is None:
                raise DatabaseCorrupt(f"the {label} head in {store.path} is missing: sync from an empty folder")
            self._heads[label] = header

    @classmethod
    def open(cls, path: Path, genesis: Genesis) -> Chain:
        """Open the chain in a folder, starting it from `genesis` if the folder is empty.

        Raises `GenesisMismatch` if the folder holds another chain, `GenesisInvalid`, `DatabaseLocked` if
        another process has it open, `DatabaseCorrupt`."""
        Rules.from_genesis(genesis)
        block, changes = genesis_block(genesis)
        store = Store(path)
        try:
            stored = store.genesis_hash()
            if stored is None:
                store.put_genesis(block, changes)
            elif stored != block.hash:
                raise GenesisMismatch(
                    f"{path} holds the chain with genesis 0x{stored.hex()}, not 0x{block.hash.hex()} "
                    f"(chain id {genesis.chain_id}): use another data folder or the genesis it was made with"
                )
            return cls(store, genesis, block.hash)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Release the folder. The object cannot be used afterwards."""
        with self._write_lock:
            self._store.close()

    @property
    def chain_id(self) -> int:
        return self.genesis.chain_id

    # --- heads --------------------------------------------------------------------------------------

    def head(self, label: Label = "unsafe") -> Header:
        """The header of a head. `unsafe` is the newest block of the canonical chain."""
        return self._heads[label]

    def set_heads(
        self, *, unsafe: bytes | None = None, safe: bytes | None = None, finalized: bytes | None = None
    ) -> None:
        """Move heads to stored blocks, atomically and durably; listeners are told afterwards.

        Moving `unsafe` makes its ancestors canonical and may reorganise the chain. Raises `UnknownBlock` for
        a hash that is not stored and `InconsistentHeads` if safe or finalized would not be on the canonical
        chain, in the order finalized ≤ safe ≤ unsafe; nothing has changed then."""
        with self._write_lock:
            changes = self._move_heads(unsafe, safe, finalized)
            listeners = tuple(self.listeners)
        for change in changes:
            for listener in listeners:
                listener(change)

    def _move_heads(self, unsafe: bytes | None, safe: bytes | None, finalized: bytes | None) -> list[HeadChange]:
        old = self._heads
        new: dict[Label, Header] = dict(old)
        for label, block_hash in zip(LABELS, (unsafe, safe, finalized)):
            if block_hash is not None:
                header = self.header_by_hash(block_hash)
                if header is None:
                    raise UnknownBlock(f"the new {label} head 0x{block_hash.hex()} is not stored")
                new[label] = header
        added, removed = self._path(old["unsafe"], new["unsafe"])
        self._check_consistent(new, added, removed)
        moved: dict[str, bytes] = {label: new[label].hash for label in LABELS if new[label].hash != old[label].hash}
        if not moved:
            return []
        self._store.put_heads(moved, added, removed)
        self._heads = new
        if removed:
            _log.info("chain_reorganised", depth=len(removed), head="0x" + new["unsafe"].hash.hex())
        return [
            HeadChange(
                label,
                old[label].hash,
                new[label].hash,
                tuple(block.hash for block in added) if label == "unsafe" else (),
                tuple(block.hash for block in removed) if label == "unsafe" else (),
            )
            for label in LABELS
            if label in moved
        ]

    def _path(self, old: Header, new: Header) -> tuple[list[Block], list[Block]]:
        """Blocks that join (oldest first) and leave (newest first) when the head moves."""
        added: list[bytes] = []
        removed: list[bytes] = []
        while old.hash != new.hash:
            if new.number >= old.number:
                added.append(new.hash)
                new = self._header(new.parent_hash)
            else:
                removed.append(old.hash)
                old = self._header(old.parent_hash)
        return [self._block(item) for item in reversed(added)], [self._block(item) for item in removed]

    def _check_consistent(self, heads: Mapping[Label, Header], added: list[Block], removed: list[Block]) -> None:
        joining = {block.number: block.hash for block in added}
        leaving = {block.number for block in removed}
        for label, limit in (("safe", "unsafe"), ("finalized", "safe")):
            header, above = heads[label], heads[limit]  # type: ignore[index]
            canonical = joining.get(header.number)
            if canonical is None and header.number not in leaving:
                canonical = self._store.canonical_hash(header.number)
            if canonical != header.hash or header.number > above.number:
                raise InconsistentHeads(
                    f"the {label} head {header.number} (0x{header.hash.hex()}) would not be below the "
                    f"{limit} head {above.number} (0x{above.hash.hex()}) on the canonical chain"
                )

    # --- blocks -------------------------------------------------------------------------------------

    def header_by_hash(self, block_hash: bytes) -> Header | None:
        """Any stored block's header, canonical or not."""
        header = self._headers.get(block_hash)
        if header is None:
            header = self._store.header(block_hash)
            if header is not None:
                self._headers[block_hash] = header
        return header

    def header_by_number(self, number: int) -> Header | None:
        """The canonical header with a number."""
        block_hash = self._store.canonical_hash(number)
        return None if block_hash is None else self.header_by_hash(block_hash)

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """Any stored block, canonical or not."""
        block = self._blocks.get(block_hash)
        if block is None:
            block = self._store.block(block_hash)
            if block is not None:
                self._blocks[block_hash] = block
        return block

    def block_by_number(self, number: int) -> Block | None:
        """The canonical block with a number."""
        block_hash = self._store.canonical_hash(number)
        return None if block_hash is None else self.block_by_hash(block_hash)

    def has_block(self, block_hash: bytes) -> bool:
        """Whether a block is stored, and so known to be valid."""
        return block_hash in self._headers or self._store.has_block(block_hash)

    def receipts(self, block_hash: bytes) -> tuple[Receipt, ...]:
        """The receipts of a stored block. Raises `UnknownBlock`."""
        receipts = self._receipts.get(block_hash)
        if receipts is None:
            receipts = self._store.receipts(block_hash)
            if receipts is None:
                raise UnknownBlock(f"block 0x{block_hash.hex()} is not stored")
            self._receipts[block_hash] = receipts
        return receipts

    def transaction_location(self, tx_hash: bytes) -> tuple[bytes, int] | None:
        """(block hash, index) of a transaction on the canonical chain."""
        return self._store.transaction_location(tx_hash)

    def _header(self, block_hash: bytes) -> Header:
        header = self.header_by_hash(block_hash)
        if header is None:
            raise DatabaseCorrupt(f"block 0x{block_hash.hex()} is missing")
        return header

    def _block(self, block_hash: bytes) -> Block:
        block = self.block_by_hash(block_hash)
        if block is None:
            raise DatabaseCorrupt(f"block 0x{block_hash.hex()} is missing")
        return block

    # --- logs ---------------------------------------------------------------------------------------

    def block_logs(
        self,
        block_hash: bytes,
        addresses: Collection[bytes] = (),
        topics: Sequence[Collection[bytes] | None] = (),
    ) -> Iterator[LocatedLog]:
        """The logs of one block that match an eth_getLogs filter: any of `addresses` (none: all) and, for
        each place in `topics`, any of the given topics (None or empty: all). Raises `UnknownBlock`."""
        header = self.header_by_hash(block_hash)
        if header is None:
            raise UnknownBlock(f"block 0x{block_hash.hex()} is not stored")
        if not _bloom_may_match(int.from_bytes(header.logs_bloom, "big"), addresses, topics):
            return
        log_index = -1
        block = self._block(block_hash)
        for index, receipt in enumerate(self.receipts(block_hash)):
            for log in receipt.logs:
                log_index += 1
                if _matches(log, addresses, topics):
                    yield LocatedLog(
                        log,
                        block_hash,
                        header.number,
                        header.timestamp,
                        block.transactions[index].hash,
                        index,
                        log_index,
                    )

    def logs(
        self,
        first: int,
        last: int,
        addresses: Collection[bytes] = (),
        topics: Sequence[Collection[bytes] | None] = (),
        *,
        limit: int | None = None,
    ) -> list[LocatedLog]:
        """Matching logs of the canonical blocks `first` to `last`, both included, in order.

        Blocks are passed over by their bloom. Raises `TooManyResults` when there are more than `limit`."""
        found: list[LocatedLog] = []
        for number in range(max(first, 0), min(last, self.head().number) + 1):
            block_hash = self._store.canonical_hash(number)
            if block_hash is None:
                break
            found.extend(self.block_logs(block_hash, addresses, topics))
            if limit is not None and len(found) > limit:
                raise TooManyResults(f"query returned more than {limit} results: ask for fewer blocks")
        return found

    # --- state --------------------------------------------------------------------------------------

    def state(self, block_hash: bytes) -> StateView:
        """The state after a stored block. Raises `UnknownBlock`."""
        header = self.header_by_hash(block_hash)
        if header is None:
            raise UnknownBlock(f"block 0x{block_hash.hex()} is not stored")
        return StateView(self._database.reader(header.state_root))

    def next_base_fee(self, block_hash: bytes) -> int:
        """The base fee in wei of a block on top of a stored one. Raises `UnknownBlock`."""
        header = self.header_by_hash(block_hash)
        if header is None:
            raise UnknownBlock(f"block 0x{block_hash.hex()} is not stored")
        return child_base_fee(self.rules, header)

    def call(
        self,
        request: CallRequest,
        block_hash: bytes,
        state_overrides: Mapping[bytes, StateOverride] | None = None,
        *,
        gas_cap: int = calls.DEFAULT_GAS_CAP,
        time_limit_s: float = calls.DEFAULT_TIME_LIMIT_S,
    ) -> CallResult:
        """Run a message on the state after a block; see `calls.call`. Raises `UnknownBlock`."""
        return calls.call(
            self._call_context(block_hash),
            request,
            state_overrides,
            gas_cap=gas_cap,
            time_limit_s=time_limit_s,
        )

    def estimate_gas(
        self,
        request: CallRequest,
        block_hash: bytes,
        state_overrides: Mapping[bytes, StateOverride] | None = None,
        *,
        gas_cap: int = calls.DEFAULT_GAS_CAP,
        time_limit_s: float = calls.DEFAULT_TIME_LIMIT_S,
    ) -> int:
        """Gas that lets a message succeed after a block; see `calls.estimate_gas`. Raises `UnknownBlock`."""
        return calls.estimate_gas(
            self._call_context(block_hash),
            request,
            state_overrides,
            gas_cap=gas_cap,
            time_limit_s=time_limit_s,
        )

    def _call_context(self, block_hash: bytes) -> CallContext:
        header = self.header_by_hash(block_hash)
        if header is None:
            raise UnknownBlock(f"block 0x{block_hash.hex()} is not stored")
        return CallContext(
            self.rules,
            header,
            self._database.reader(header.state_root),
            self._ancestor_hashes(header.parent_hash, header.number - 1),
        )

    # --- new blocks -----------------------------------------------------------------------------------

    def build(
        self,
        parent_hash: bytes,
        attributes: PayloadAttributes,
        candidates: Iterable[Transaction] = (),
    ) -> Block:
        """Build, execute and store a block; heads do not move.

        The attributes' transactions come first; then candidates, in their order, as far as they are valid
        and fit. Raises `UnknownParent`, `InvalidAttributes`, `InvalidBlockTransaction`; what to do about an
        invalid payload (deposits only, since Holocene) is the caller's to decide."""
        with self._write_lock:
            block, executed = build_block(self.rules, self._parent_state(parent_hash), attributes, candidates)
            self._keep(block, executed)
            return block

    def draft(
        self,
        parent_hash: bytes,
        attributes: PayloadAttributes,
        candidates: Iterable[Transaction] = (),
    ) -> tuple[Block, ExecutedBlock]:
        """Build and execute a block as `build` does, without storing it and beside other writers: a payload may
        be rebuilt many times before one is taken. `keep_draft` stores it."""
        return build_block(self.rules, self._parent_state(parent_hash), attributes, candidates)

    def keep_draft(self, block: Block, executed: ExecutedBlock) -> None:
        """Store what `draft` gave, unless it is stored; heads do not move."""
        with self._write_lock:
            if not self.has_block(block.hash):
                self._keep(block, executed)

    def import_block(self, block: Block) -> None:
        """Execute a foreign block, check every header field and store it; heads do not move.

        A stored block is not executed again. Raises `UnknownParent`, or the `InvalidBlock` that names the
        broken rule; nothing is stored then."""
        with self._write_lock:
            if self.has_block(block.hash):
                return
            executed = execute_block(self.rules, self._parent_state(block.header.parent_hash), block)
            self._keep(block, executed)

    def _keep(self, block: Block, executed: ExecutedBlock) -> None:
        self._store.put_block(block, executed.receipts, executed.changes, executed.index_entries)
        self._headers[block.hash] = block.header
        self._blocks[block.hash] = block
        self._receipts[block.hash] = executed.receipts

    def _parent_state(self, parent_hash: bytes) -> ParentState:
        parent = self.header_by_hash(parent_hash)
        if parent is None:
            raise UnknownParent(f"parent 0x{parent_hash.hex()} is not stored: fetch it first")
        return ParentState(
            parent, self._database.reader(parent.state_root), self._ancestor_hashes(parent.hash, parent.number)
        )

    def _ancestor_hashes(self, newest_hash: bytes, newest_number: int) -> Callable[[int], bytes]:
        """Hashes by number along one chain, walked back as far as they are asked for."""
        known = {newest_number: newest_hash}

        def ancestor_hash(number: int) -> bytes:
            lowest = min(known)
            while number < lowest:
                known[lowest - 1] = self._header(known[lowest]).parent_hash
                lowest -= 1
            return known.get(number, b"")

        return ancestor_hash


def _bloom_may_match(bloom: int, addresses: Collection[bytes], topics: Sequence[Collection[bytes] | None]) -> bool:
    for wanted in (addresses, *topics):
        if wanted and not any(bits & bloom == bits for bits in map(bloom_bits, wanted)):
            return False
    return True


def _matches(log: Log, addresses: Collection[bytes], topics: Sequence[Collection[bytes] | None]) -> bool:
    if addresses and log.address not in addresses:
        return False
    if len(topics) > len(log.topics):
        return False
    return all(not wanted or topic in wanted for wanted, topic in zip(topics, log.topics))

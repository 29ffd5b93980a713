"""`Chain`: one chain on disk, with its heads, blocks, state, calls, building and importing.

The API is synchronous; callers on an event loop use a worker thread. One internal lock serialises whatever
writes (`build`, `import_block`, `set_heads`, `rollback`). Reading takes no lock: blocks do not change, a state is read
from a snapshot, and heads are replaced as a whole.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lru import LRU

from openledger.evm_ext import calls
from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.building import ParentState, build_block, execute_block
from openledger.evm_ext.calls import CallBlock, CallContext, CallRequest, CallResult
from openledger.evm_ext.database import REPAIR_HINT, START_ANEW_HINT
from openledger.evm_ext.errors import (
    BeyondRepair,
    CallError,
    CallTimeout,
    DatabaseCorrupt,
    GenesisMismatch,
    InvalidBlock,
    StatePruned,
    TooManyResults,
    UnknownParent,
)
from openledger.evm_ext.genesis_block import genesis_block
from openledger.evm_ext.heads import LABELS, HeadChange, Heads, Label
from openledger.evm_ext.index import AddressIndex, block_entries
from openledger.evm_ext.index_recorder import recording
from openledger.evm_ext.logs import LocatedLog, matching_logs, may_match
from openledger.evm_ext.overrides import StateOverride
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.processing import ExecutedBlock, MachineWrapper, child_base_fee
from openledger.evm_ext.receipts import Receipt
from openledger.evm_ext.state.policy import ARCHIVE, StateHistory
from openledger.evm_ext.state.states import States
from openledger.evm_ext.state.view import StateView
from openledger.evm_ext.store import FORMAT_VERSION, REPAIRED_IN_VAIN, Store
from openledger.evm_ext.stored_blocks import StoredBlocks
from openledger.evm_ext.total_difficulty import TotalDifficulties
from openledger.evm_ext.tracing.replay import BlockReplay
from openledger.evm_ext.tracing.witness import ExecutionWitness, execution_witness
from openledger.evm_ext.transactions import Transaction
from openledger.evm_ext.upgrade import upgrade
from openledger.evm_ext.vm.rules import Rules
from openledger.genesis.genesis import Genesis

_BAD_BLOCKS = 10
_CALLED_BLOCKS = 64

__all__ = ["LABELS", "Chain", "HeadChange", "Label", "LocatedLog"]


class Chain:
    """One chain. Get it from `open`, give it back with `close`."""

    def __init__(
        self,
        store: Store,
        genesis: Genesis,
        genesis_hash: bytes,
        history: StateHistory,
        address_index: bool = False,
    ) -> None:
        self.genesis = genesis
        self.genesis_hash = genesis_hash
        self.rules = Rules.from_genesis(genesis)
        self.listeners: list[Callable[[HeadChange], None]] = []
        """Called after `set_heads`, from its thread, outside the lock, in order of registration."""
        self.bad_blocks: deque[Block] = deque(maxlen=_BAD_BLOCKS)
        """The last blocks that `import_block` refused, the newest last."""
        self.history = history
        self._store = store
        self._write_lock = threading.RLock()
        self._blocks = StoredBlocks(store)
        self._total_difficulties = TotalDifficulties(self._blocks.header)
        self._states = States(store, self._blocks.header)
        self._heads = Heads(store, self._blocks, self._states, history)
        self._call_blocks: LRU[bytes, CallBlock] = LRU(_CALLED_BLOCKS)
        self._machine_wrapper = recording if address_index else None
        index = AddressIndex(store, store.canonical_hash)
        self.index: AddressIndex | None = index if address_index else None
        """Which transactions concern an account, and what they did inside; None where that is not recorded."""
        self._interrupted_index = None if address_index or index.complete_from is None else index
        if address_index:
            index.begin(self.head().number + 1)

    @classmethod
    def open(
        cls, path: Path, genesis: Genesis, *, history: StateHistory = ARCHIVE, address_index: bool = False
    ) -> Chain:
        """Open the chain in a folder, starting it from `genesis` if the folder is empty.

        `history` says how much of the past is kept from now on; what was pruned before does not come back. A folder
        of an older format is brought to the present one first, which takes a minute for a million accounts.
        `address_index` records for explorers what transactions do inside, from now on; `index_one_more` records what
        was stored before.

        Raises `GenesisMismatch` if the folder holds another chain, `GenesisInvalid`, `DatabaseLocked` if
        another process has it open, `DatabaseCorrupt`."""
        Rules.from_genesis(genesis)
        block, changes = genesis_block(genesis)
        store = Store(path)
        try:
            if (repairing := store.mark("repairing")) == REPAIRED_IN_VAIN:
                raise BeyondRepair(
                    f"the database in {path} is damaged, and a repair found nothing to go back to: {START_ANEW_HINT}"
                )
            if repairing is not None:
                raise DatabaseCorrupt(f"the repair of the database in {path} was interrupted: {REPAIR_HINT}")
            stored = store.genesis_hash()
            if stored is None:
                store.put_genesis(block, changes)
            elif stored != block.hash:
                raise GenesisMismatch(
                    f"{path} holds the chain with genesis 0x{stored.hex()}, not 0x{block.hash.hex()} "
                    f"(chain id {genesis.chain_id}): use another data folder or the genesis it was made with"
                )
            if store.version != FORMAT_VERSION or store.mark("base") is None:
                upgrade(store)
            return cls(store, genesis, block.hash, history, address_index)
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
            changes = self._heads.move(unsafe, safe, finalized)
            self._note_blocks_without_index(changes)
            listeners = tuple(self.listeners)
        _tell(listeners, changes)

    def _note_blocks_without_index(self, changes: Sequence[HeadChange]) -> None:
        """A block that was stored before recording began may become canonical only now: `index_one_more` is to take it."""
        if self.index is None:
            return
        for change in changes:
            for block_hash in change.added:
                if not self.index.has_block(block_hash):
                    self.index.interrupt(self._blocks.header(block_hash).number)
                    self.index.begin(self.head().number + 1)

    def rollback(self, block_hash: bytes) -> None:
        """Make an ancestor the unsafe head again, and safe and finalized too if they are above it.

        Done in steps, each of which leaves a whole chain; listeners are told afterwards. Where a pruned chain has
        to make the old tries anew, the blocks above are forgotten. Raises `UnknownBlock`, `InconsistentHeads` for a
        block that is no ancestor, `StatePruned` if too little is kept to go back that far."""
        with self._write_lock:
            changes = self._heads.roll_back(self._blocks.known_header(block_hash))
            listeners = tuple(self.listeners)
        _tell(listeners, changes)

    # --- blocks -------------------------------------------------------------------------------------

    def header_by_hash(self, block_hash: bytes) -> Header | None:
        """Any stored block's header, canonical or not."""
        return self._blocks.find_header(block_hash)

    def header_by_number(self, number: int) -> Header | None:
        """The canonical header with a number."""
        block_hash = self._store.canonical_hash(number)
        return None if block_hash is None else self._blocks.find_header(block_hash)

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """Any stored block, canonical or not."""
        return self._blocks.find_block(block_hash)

    def block_by_number(self, number: int) -> Block | None:
        """The canonical block with a number."""
        block_hash = self._store.canonical_hash(number)
        return None if block_hash is None else self._blocks.find_block(block_hash)

    def has_block(self, block_hash: bytes) -> bool:
        """Whether a block is stored, and so known to be valid."""
        return self._blocks.has(block_hash)

    def total_difficulty(self, block_hash: bytes) -> int:
        """The sum of the difficulties up to a stored block: by it chains of proof of work are chosen. Raises
        `UnknownBlock`."""
        self._blocks.known_header(block_hash)
        return self._total_difficulties.of(block_hash)

    def receipts(self, block_hash: bytes) -> tuple[Receipt, ...]:
        """The receipts of a stored block. Raises `UnknownBlock`."""
        return self._blocks.receipts(block_hash)

    def transaction_location(self, tx_hash: bytes) -> tuple[bytes, int] | None:
        """(block hash, index) of a transaction on the canonical chain."""
        return self._store.transaction_location(tx_hash)

    # --- logs ---------------------------------------------------------------------------------------

    def block_logs(
        self,
        block_hash: bytes,
        addresses: Collection[bytes] = (),
        topics: Sequence[Collection[bytes] | None] = (),
    ) -> Iterator[LocatedLog]:
        """The logs of one block that match an eth_getLogs filter: any of `addresses` (none: all) and, for
        each place in `topics`, any of the given topics (None or empty: all). Raises `UnknownBlock`."""
        if may_match(self._blocks.known_header(block_hash), addresses, topics):
            yield from matching_logs(self._blocks.block(block_hash), self.receipts(block_hash), addresses, topics)

    def logs(
        self,
        first: int,
        last: int,
        addresses: Collection[bytes] = (),
        topics: Sequence[Collection[bytes] | None] = (),
        *,
        limit: int | None = None,
        deadline: float | None = None,
    ) -> list[LocatedLog]:
        """Matching logs of the canonical blocks `first` to `last`, both included, in order.

        Blocks are passed over by their bloom. Raises `TooManyResults` when there are more than `limit`, and
        `CallTimeout` after a block that was done later than `deadline` (monotonic time)."""
        found: list[LocatedLog] = []
        for number in range(max(first, 0), min(last, self.head().number) + 1):
            if deadline is not None and time.monotonic() > deadline:
                raise CallTimeout("the search for logs took longer than its time limit")
            block_hash = self._store.canonical_hash(number)
            if block_hash is None:
                break
            found.extend(self.block_logs(block_hash, addresses, topics))
            if limit is not None and len(found) > limit:
                raise TooManyResults(f"query returned more than {limit} results: ask for fewer blocks")
        return found

    # --- state --------------------------------------------------------------------------------------

    def state(self, block_hash: bytes) -> StateView:
        """The state after a stored block. Raises `UnknownBlock`, and `StatePruned` now, or when a trie is asked for,
        where too little of an old state is kept."""
        header = self._blocks.known_header(block_hash)
        return StateView(self._states.reader(header))

    def next_base_fee(self, block_hash: bytes) -> int:
        """The base fee in wei of a block on top of a stored one. Raises `UnknownBlock`."""
        header = self._blocks.known_header(block_hash)
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
            self.call_context(block_hash),
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
            self.call_context(block_hash),
            request,
            state_overrides,
            gas_cap=gas_cap,
            time_limit_s=time_limit_s,
        )

    def call_context(self, block_hash: bytes) -> CallContext:
        """What calls, access lists and simulations after a block run on. Raises `UnknownBlock`."""
        header = self._blocks.known_header(block_hash)
        block = self._call_blocks.get(block_hash)
        if block is None:
            ancestors = self._ancestor_hashes(header.parent_hash, header.number - 1)
            block = self._call_blocks[block_hash] = CallBlock(self.rules, header, ancestors)
        return CallContext(block, self._states.reader(header))

    def replay(
        self, block: Block, *, deadline: float | None = None, machine_wrapper: MachineWrapper | None = None
    ) -> BlockReplay:
        """A block whose parent is stored, to be executed again transaction by transaction, some of them traced.

        `deadline` is monotonic time. Raises `UnknownParent`, `StatePruned`, and `CallError` for the genesis."""
        if block.number == 0:
            raise CallError("genesis is not traceable")
        return BlockReplay(self.rules, self.parent_state(block.header.parent_hash), block, deadline, machine_wrapper)

    def execution_witness(self, block: Block) -> ExecutionWitness:
        """What a stranger needs to execute a block whose parent is stored; see `tracing.witness`.

        Raises `UnknownParent`, `StatePruned`, `InvalidBlock`; the genesis has no parent."""
        parent = self.header_by_hash(block.header.parent_hash)
        if parent is None:
            raise UnknownParent(f"parent 0x{block.header.parent_hash.hex()} is not stored")
        if parent.number < self._states.first_whole:
            raise StatePruned(parent.number, parent.hash, parent.state_root)
        store = self._store
        return execution_witness(self.rules, block, parent, store.node, store.code, self.header_by_hash)

    def oldest_states(self) -> tuple[int, int]:
        """The lowest numbers of blocks whose state can be read, and of those whose state has proofs."""
        return min(self._states.first_readable, self._states.first_whole), self._states.first_whole

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
            block, executed = build_block(
                self.rules, self.parent_state(parent_hash), attributes, candidates, self._machine_wrapper
            )
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
        return build_block(self.rules, self.parent_state(parent_hash), attributes, candidates, self._machine_wrapper)

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
            try:
                executed = execute_block(
                    self.rules, self.parent_state(block.header.parent_hash), block, self._machine_wrapper
                )
            except InvalidBlock:
                self.bad_blocks.append(block)
                raise
            self._keep(block, executed)

    def _keep(self, block: Block, executed: ExecutedBlock) -> None:
        if self._interrupted_index is not None:
            self._interrupted_index.interrupt(block.number)
        entries = () if self.index is None else block_entries(block, executed.receipts, executed.records)
        self._states.require_tries(self._blocks.header(block.header.parent_hash))
        self._store.put_block(block, executed.receipts, executed.changes, entries)
        self._blocks.remember(block, executed.receipts)
        self._states.remember(block.hash, executed.changes.diff)
        if self._heads.pruner is not None:
            self._heads.pruner.block_stored(block.number, executed.changes.diff)

    @property
    def blocks_to_index(self) -> int:
        """How many blocks were stored before recording began; 0 also where nothing is recorded."""
        complete_from = None if self.index is None else self.index.complete_from
        return 0 if complete_from is None else complete_from - 1

    def index_one_more(self) -> int:
        """Execute again and index the newest canonical block that was stored without; gives how many are left.

        Raises `StatePruned` where the state to execute it on is not kept: what is older stays out of the index."""
        index, number = self.index, self.blocks_to_index
        if index is None or number == 0:
            return 0
        block = self.block_by_number(number)
        if block is None:
            raise DatabaseCorrupt(f"canonical block {number} is missing")
        entries: list[tuple[bytes, bytes]] = []
        if not index.has_block(block.hash):
            replay = self.replay(block, machine_wrapper=recording)  # without roots: it needs no tries
            replay.skip_to(len(block.transactions))
            entries = block_entries(block, self.receipts(block.hash), replay.processor.records)
        with self._write_lock:
            index.fill(number, entries)
        return self.blocks_to_index

    def parent_state(self, parent_hash: bytes) -> ParentState:
        """What a block on a stored parent is executed on. Raises `UnknownParent`, `StatePruned`."""
        parent = self.header_by_hash(parent_hash)
        if parent is None:
            raise UnknownParent(f"parent 0x{parent_hash.hex()} is not stored: fetch it first")
        return ParentState(
            parent,
            self._states.reader(parent),
            self._ancestor_hashes(parent.hash, parent.number),
            block_by_hash=self.block_by_hash,
            total_difficulty=lambda: self._total_difficulties.of(parent_hash),
        )

    def _ancestor_hashes(self, newest_hash: bytes, newest_number: int) -> Callable[[int], bytes]:
        """Hashes by number along one chain, walked back as far as they are asked for, by any thread."""
        known = [newest_hash]  # the newest first
        growing = threading.Lock()

        def ancestor_hash(number: int) -> bytes:
            back = newest_number - number
            if back >= len(known):
                with growing:
                    while back >= len(known):
                        known.append(self._blocks.header(known[-1]).parent_hash)
            return known[back] if back >= 0 else b""

        return ancestor_hash


def _tell(listeners: Iterable[Callable[[HeadChange], None]], changes: Iterable[HeadChange]) -> None:
    for change in changes:
        for listener in listeners:
            listener(change)

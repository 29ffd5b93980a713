"""Whether what a store holds is what was written and what follows from it.

Nothing is trusted: headers are hashed, bodies and receipts held to the roots in their headers, every node of the state
is hashed on the way from the root, and indexes and flat tables are compared with what they are made from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openledger.evm_ext.block import Block, Header, block_from_body, transactions_root, withdrawals_trie_root
from openledger.evm_ext.encoding import InvalidRLP
from openledger.evm_ext.errors import DatabaseCorrupt, ExecutionError, UndecodableBlock
from openledger.evm_ext.receipts import decode_stored, receipts_root
from openledger.evm_ext.state.account import EMPTY_CODE_HASH, decode_account
from openledger.evm_ext.state.difference import state_difference
from openledger.evm_ext.state.flat import history_key
from openledger.evm_ext.store import Store, number_key
from openledger.evm_ext.trie import walk
from openledger.genesis.hashing import keccak256

Progress = Callable[[str, int, int], None]
"""Called now and then with what is checked, how much is done and how much there is (0: not known)."""

LABELS = ("unsafe", "safe", "finalized")
_REPORT_EVERY = 1_000
_MAX_OF_A_KIND = 20


@dataclass(frozen=True)
class Fault:
    """Something that is not as it has to be. `table` names what is wrong: heads, headers, bodies, receipts,
    canonical index, transaction index, block list, state, code, flat tables, history, changes, files."""

    table: str
    text: str

    def __str__(self) -> str:
        return f"{self.table}: {self.text}"


def no_progress(what: str, done: int, total: int) -> None:
    """For callers that do not tell anybody."""


def check(store: Store, *, deep: bool = False, progress: Progress = no_progress) -> Iterator[Fault]:
    """Everything that is wrong with a store; nothing is changed. Faults of one kind stop after some.

    `deep` looks at every state that is kept, and at what every block says it changed, not only at the heads'."""
    canonical: list[Header] = []
    yield from _limited(_check_blocks(store, canonical, progress))
    if canonical:
        yield from _limited(_check_indexes(store, canonical, progress))
        head = canonical[-1]
        yield from _limited(check_state(store, head, set(), progress))
        yield from _limited(check_flat_tables(store, head, progress))
        if deep:
            yield from _limited(_check_states(store, canonical, progress))
            yield from _limited(_check_changes(store, canonical, progress))


def _limited(faults: Iterator[Fault]) -> Iterator[Fault]:
    """Faults until the disk cannot be read any more, and only some of each kind."""
    seen: dict[str, int] = {}
    try:
        for fault in faults:
            seen[fault.table] = seen.get(fault.table, 0) + 1
            if seen[fault.table] <= _MAX_OF_A_KIND:
                yield fault
            elif seen[fault.table] == _MAX_OF_A_KIND + 1:
                yield Fault(fault.table, f"more than {_MAX_OF_A_KIND} faults: the rest is not listed")
    except DatabaseCorrupt as error:
        yield Fault("files", str(error))


# --- blocks -----------------------------------------------------------------------------------------------


def _check_blocks(store: Store, found: list[Header], progress: Progress) -> Iterator[Fault]:
    """Heads, and all blocks from the unsafe head down. The headers of the canonical chain go to `found`, oldest first,
    if it reaches back to block 0."""
    genesis = store.genesis_hash()
    if genesis is None:
        yield Fault("heads", "the hash of block 0 is missing")
    heads: dict[str, Header] = {}
    for label in LABELS:
        block_hash = store.head(label)
        if block_hash is None:
            yield Fault("heads", f"the {label} head is missing")
            continue
        header, faults = header_faults(store, block_hash)
        yield from faults
        if header is not None:
            heads[label] = header
    if "unsafe" not in heads:
        return
    canonical: list[Header] = []
    block_hash, header = heads["unsafe"].hash, heads["unsafe"]
    total = header.number + 1
    while True:
        canonical.append(header)
        yield from body_faults(store, header)
        if len(canonical) % _REPORT_EVERY == 0:
            progress("blocks", len(canonical), total)
        if header.number == 0:
            break
        number = header.number
        parent, faults = header_faults(store, header.parent_hash)
        yield from faults
        if parent is None:
            yield Fault(
                "headers", f"block {number - 1} (0x{header.parent_hash.hex()}) is missing on the canonical chain"
            )
            return
        if parent.number != number - 1:
            yield Fault("headers", f"the parent of block {number} has number {parent.number}")
            return
        header = parent
    canonical.reverse()
    if genesis is not None and canonical[0].hash != genesis:
        yield Fault("headers", f"the chain begins with 0x{canonical[0].hash.hex()}, not with 0x{genesis.hex()}")
    above = heads["unsafe"]
    for label in LABELS[1:]:
        low = heads.get(label)
        if low is not None and (low.number > above.number or canonical[low.number].hash != low.hash):
            yield Fault("heads", f"the {label} head {low.number} is not on the canonical chain below {above.number}")
        elif low is not None:
            above = low
    found.extend(canonical)


def header_faults(store: Store, block_hash: bytes) -> tuple[Header | None, list[Fault]]:
    """A header, or what is wrong with it."""
    try:
        header = store.header(block_hash)
        if header is None:
            return None, [Fault("headers", f"the header of block 0x{block_hash.hex()} is missing")]
        if header.hash != block_hash:
            return None, [Fault("headers", f"what is stored for 0x{block_hash.hex()} hashes to 0x{header.hash.hex()}")]
    except DatabaseCorrupt as error:
        return None, [Fault("headers", str(error))]
    return header, []


def body_faults(store: Store, header: Header) -> Iterator[Fault]:
    """What is wrong with the body and the receipts of a block whose header is right."""
    name = f"block {header.number} (0x{header.hash.hex()})"
    block: Block | None = None
    raw = store.database.get(b"b" + header.hash)
    if raw is None:
        yield Fault("bodies", f"the body of {name} is missing")
    else:
        try:
            block = block_from_body(header, raw)
        except UndecodableBlock as error:
            yield Fault("bodies", f"the body of {name} cannot be read: {error}")
    if block is not None:
        if transactions_root(block.transactions) != header.transactions_root:
            yield Fault("bodies", f"the transactions of {name} do not have the root in its header")
        if block.withdrawals and withdrawals_trie_root(block.withdrawals) != header.withdrawals_root:
            yield Fault("bodies", f"the withdrawals of {name} do not have the root in its header")
    raw = store.database.get(b"r" + header.hash)
    if raw is None:
        yield Fault("receipts", f"the receipts of {name} are missing")
        return
    try:
        receipts = decode_stored(raw)
    except (ExecutionError, ValueError) as error:
        yield Fault("receipts", f"the receipts of {name} cannot be read: {error}")
        return
    if receipts_root(receipts) != header.receipts_root:
        yield Fault("receipts", f"the receipts of {name} do not have the root in its header")


def _check_indexes(store: Store, canonical: list[Header], progress: Progress) -> Iterator[Fault]:
    for header in canonical:
        name = f"block {header.number} (0x{header.hash.hex()})"
        if store.canonical_hash(header.number) != header.hash:
            yield Fault("canonical index", f"number {header.number} does not lead to 0x{header.hash.hex()}")
        if store.database.get(b"k" + number_key(header.number) + header.hash) is None:
            yield Fault("block list", f"{name} is not listed")
        try:
            block = store.block(header.hash)
        except DatabaseCorrupt:
            continue
        for index, transaction in enumerate(block.transactions if block is not None else ()):
            if store.transaction_location(transaction.hash) != (header.hash, index):
                yield Fault("transaction index", f"transaction 0x{transaction.hash.hex()} of {name} is not found")
        if header.number % _REPORT_EVERY == 0:
            progress("indexes", header.number, len(canonical))
    above = number_key(canonical[-1].number + 1)
    for key in store.database.keys(b"i" + above, b"j"):
        yield Fault("canonical index", f"number {int.from_bytes(key[1:], 'big')} is above the unsafe head")
    members = {header.hash for header in canonical}
    for key, value in store.database.items(b"t", b"u"):
        if value[:32] not in members:
            yield Fault("transaction index", f"transaction 0x{key[1:].hex()} leads to a block that is not canonical")
    for number, block_hash in store.blocks_from(0):
        if block_hash not in members and store.header(block_hash) is None:
            yield Fault("block list", f"block {number} (0x{block_hash.hex()}) is listed but not stored")


# --- state ------------------------------------------------------------------------------------------------


def check_state(store: Store, header: Header, whole: set[bytes], progress: Progress) -> Iterator[Fault]:
    """What is missing or damaged in the tries and the code of a block's state.

    Nodes and code in `whole` are passed over with all below them; if nothing is wrong, the state's are added."""
    accounts = 0
    met: set[bytes] = set()
    try:
        for key, raw in _values(store, header.state_root, b"", whole, met):
            account = decode_account(raw)
            accounts += 1
            if accounts % _REPORT_EVERY == 0:
                progress("accounts", accounts, 0)
            for _ in _values(store, account.storage_root, key, whole, met):
                pass
            code_key = b"c" + account.code_hash
            if account.code_hash == EMPTY_CODE_HASH or code_key in whole or code_key in met:
                continue
            met.add(code_key)
            code = store.code(account.code_hash)
            if code is None or keccak256(code) != account.code_hash:
                what = "missing" if code is None else "damaged"
                yield Fault("code", f"code 0x{account.code_hash.hex()} in the state of block {header.number} is {what}")
                met.clear()
    except (DatabaseCorrupt, InvalidRLP) as error:
        yield Fault("state", f"the state of block {header.number} is not whole: {error}")
    else:
        whole |= met


def _values(
    store: Store, root: bytes, owner: bytes, whole: set[bytes], met: set[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    for path, node_hash, value in walk(store.node, root, owner, skip=whole):
        if value is None:
            met.add(owner + node_hash)
        else:
            yield bytes.fromhex(path), value


def check_flat_tables(store: Store, head: Header, progress: Progress) -> Iterator[Fault]:
    """Differences between the flat tables and the tries of the unsafe head."""
    if store.mark("base") != head.hash:
        yield Fault("flat tables", "they do not belong to the unsafe head")
        return
    accounts, slots = _Table(store, b"a", "account"), _Table(store, b"s", "slot")
    count = 0
    try:
        for path, _, raw in walk(store.node, head.state_root):
            if raw is None:
                continue
            key = bytes.fromhex(path)
            yield from accounts.expect(b"a" + key, raw)
            for slot, _, word in walk(store.node, decode_account(raw).storage_root, key):
                if word is not None:
                    yield from slots.expect(b"s" + key + bytes.fromhex(slot), word)
            count += 1
            if count % _REPORT_EVERY == 0:
                progress("flat tables", count, 0)
    except (DatabaseCorrupt, InvalidRLP):
        return  # the state itself is damaged, and said to be
    yield from accounts.end()
    yield from slots.end()


class _Table:
    """One flat table, read beside what it has to hold."""

    def __init__(self, store: Store, letter: bytes, name: str) -> None:
        self._items = store.database.items(letter, bytes((letter[0] + 1,)))
        self._name = name
        self._next = next(self._items, None)

    def expect(self, key: bytes, value: bytes) -> Iterator[Fault]:
        while self._next is not None and self._next[0] < key:
            yield self._fault(self._next[0], "is not in the state")
            self._next = next(self._items, None)
        if self._next is None or self._next[0] != key:
            yield self._fault(key, "is missing")
            return
        if self._next[1] != value:
            yield self._fault(key, "has another value than in the state")
        self._next = next(self._items, None)

    def end(self) -> Iterator[Fault]:
        while self._next is not None:
            yield self._fault(self._next[0], "is not in the state")
            self._next = next(self._items, None)

    def _fault(self, key: bytes, what: str) -> Fault:
        return Fault("flat tables", f"{self._name} 0x{key[1:].hex()} {what}")


# --- every kept state -------------------------------------------------------------------------------------


def _check_states(store: Store, canonical: list[Header], progress: Progress) -> Iterator[Fault]:
    seen: set[bytes] = set()
    for header in canonical[store.number_mark("pruned") or 0 :]:
        yield from check_state(store, header, seen, progress)
        progress("states", header.number, len(canonical))


def _check_changes(store: Store, canonical: list[Header], progress: Progress) -> Iterator[Fault]:
    """That the diffs and the history of blocks are what their tries say."""
    first = max(store.number_mark("history") or 0, store.number_mark("pruned") or 0)
    for header in canonical[first + 1 :]:
        try:
            diff = store.diff(header.hash)
            changed = dict(diff.flat()) if diff is not None else None
            different = list(state_difference(store.node, canonical[header.number - 1].state_root, header.state_root))
        except DatabaseCorrupt as error:
            yield Fault("changes", f"those of block {header.number} cannot be checked: {error}")
            continue
        for key, old, new in different:
            if changed is not None and changed.get(key) != new:
                yield Fault("changes", f"block {header.number} changed 0x{key[1:].hex()}, but does not say so")
            if store.database.get(history_key(key, header.number)) != old:
                yield Fault("history", f"what 0x{key[1:].hex()} was before block {header.number} is missing or wrong")
        progress("changes", header.number, len(canonical))

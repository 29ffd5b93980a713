"""Mending a damaged store: everything that follows from something else is made anew; what is lost for good is cut off.

Blocks that are not wholly there are forgotten, with all that build on them, and the heads go back to the newest block
that is intact with its state. The node fetches and executes the rest again. Interrupted at any moment, it can be run
again; until it is through, the store does not open for anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openledger.evm_ext.block import Header
from openledger.evm_ext.database import START_ANEW_HINT, repair_files
from openledger.evm_ext.errors import BeyondRepair, DatabaseCorrupt
from openledger.evm_ext.integrity import (
    Fault,
    Progress,
    body_faults,
    check,
    check_state,
    header_faults,
    no_progress,
)
from openledger.evm_ext.store import FORMAT_VERSION, REPAIRED_IN_VAIN, REPAIRING, Store, number_key, put_canonical
from openledger.evm_ext.upgrade import delete_range, rebuild_flat_tables

_BATCH_BLOCKS = 500


@dataclass(frozen=True)
class Repaired:
    """What was done. `head` is the unsafe head now, `forgotten` how many blocks are no longer stored."""

    faults: tuple[Fault, ...]
    old_head: int | None
    head: int
    forgotten: int


def open_damaged(path: Path) -> tuple[Store, bool]:
    """Open a store, mending LevelDB's own files if it takes that; whether it did.

    Everything is read once. Raises `DatabaseLocked`, `DatabaseCorrupt` if nothing helps."""
    try:
        store = Store(path, create=False)
        try:
            store.database.read_all()
        except BaseException:
            store.close()
            raise
        return store, False
    except DatabaseCorrupt:
        if not any(path.glob("*.ldb")) and not any(path.glob("*.log")):
            raise
        repair_files(path)
        return Store(path, create=False, version_if_missing=FORMAT_VERSION), True


def repair(store: Store, progress: Progress = no_progress, *, lost_pieces: bool = False) -> Repaired:
    """Bring a store back to the newest block that is wholly intact.

    Does nothing if nothing is wrong, unless `lost_pieces` says that anything may be missing (`open_damaged` had to
    mend files): then the history, whose gaps nobody could see, is begun anew. Raises `BeyondRepair`, and notes it, if
    no state is left that is whole."""
    faults = tuple(check(store, progress=progress))
    old_head = _head_number(store)
    if not faults and not lost_pieces and not store.mark("repairing"):
        return Repaired((), old_head, old_head or 0, 0)
    with store.database.batch(sync=True) as batch:
        batch.put(b"mrepairing", REPAIRING)
        batch.put(b"mversion", store.version)
    try:
        chain, damaged = _intact_chain(store, progress)
        head = _newest_whole_state(store, chain, progress)
    except BeyondRepair:
        with store.database.batch(sync=True) as batch:
            batch.put(b"mrepairing", REPAIRED_IN_VAIN)
        raise
    chain = chain[: head.number + 1]
    heads = _heads(store, chain)
    forgotten = _forget(store, head, damaged)
    _write_indexes(store, chain, heads, progress)
    rebuild_flat_tables(store, head)
    if lost_pieces:  # an index with gaps would hide transactions; without one it is made again
        delete_range(store, b"x", b"y")
    with store.database.batch(sync=True) as batch:
        if store.version != FORMAT_VERSION:
            batch.put(b"mownerless", b"1")
        batch.put(b"mversion", FORMAT_VERSION)
        batch.delete(b"mrepairing")
    store.version = FORMAT_VERSION
    return Repaired(faults, old_head, head.number, forgotten)


def _head_number(store: Store) -> int | None:
    block_hash = store.head("unsafe")
    header = None if block_hash is None else header_faults(store, block_hash)[0]
    return None if header is None else header.number


def _intact_chain(store: Store, progress: Progress) -> tuple[list[Header], set[bytes]]:
    """The chain of intact blocks that gets furthest, the canonical one first, and the hashes of damaged blocks."""
    headers: dict[bytes, Header] = {}
    damaged: set[bytes] = set()
    for key in store.database.keys(b"h", b"i"):
        header, faults = header_faults(store, key[1:])
        if header is None or faults or any(True for _ in body_faults(store, header)):
            damaged.add(key[1:])
        else:
            headers[header.hash] = header
        if len(headers) % 1_000 == 0:
            progress("blocks", len(headers), 0)
    genesis = store.genesis_hash() or next(
        (header.hash for header in headers.values() if header.number == 0 and not any(header.parent_hash)), None
    )
    linked: dict[bytes, Header] = {}
    for header in sorted(headers.values(), key=lambda item: item.number):
        if header.hash == genesis or header.parent_hash in linked:
            linked[header.hash] = header
    if genesis is None or genesis not in linked:
        raise BeyondRepair(
            f"block 0 of the database in {store.path} is damaged, and nothing can be built on it: {START_ANEW_HINT}"
        )
    best = max(linked.values(), key=lambda header: (_is_canonical(store, header), header.number))
    chain = [best]
    while chain[-1].number:
        chain.append(linked[chain[-1].parent_hash])
    chain.reverse()
    return chain, damaged | (headers.keys() - linked.keys())


def _is_canonical(store: Store, header: Header) -> bool:
    return store.canonical_hash(header.number) == header.hash or store.head("unsafe") == header.hash


def _newest_whole_state(store: Store, chain: list[Header], progress: Progress) -> Header:
    """Looks further and further back for a whole state, then between it and the last one that was not."""
    whole: set[bytes] = set()

    def is_whole(number: int) -> bool:
        return not any(True for _ in check_state(store, chain[number], whole, progress))

    lowest = store.number_mark("pruned") or 0
    bad, number, step = len(chain), len(chain) - 1, 1
    while number >= lowest and not is_whole(number):
        bad, number, step = number, number - step, step * 2
    if number < lowest:
        number = lowest
        if number >= bad or not is_whole(number):
            raise BeyondRepair(f"no state in the database in {store.path} is whole: {START_ANEW_HINT}")
    while bad - number > 1:
        middle = (bad + number) // 2
        if is_whole(middle):
            number = middle
        else:
            bad = middle
    return chain[number]


def _forget(store: Store, head: Header, damaged: set[bytes]) -> int:
    """Delete damaged blocks and all above the head: what they stand on may not be whole."""
    above: set[tuple[int, bytes]] = set()
    for key in store.database.keys(b"h", b"i"):
        header, _ = header_faults(store, key[1:])
        number = -1 if header is None else header.number
        if key[1:] in damaged or number > head.number:
            above.add((number, key[1:]))
    listed = {(number, block_hash) for number, block_hash in store.blocks_from(0)}
    gone = {block_hash for _, block_hash in above}
    above |= {entry for entry in listed if entry[1] in gone or not store.has_block(entry[1])}
    pending = list(above)
    for start in range(0, len(pending), _BATCH_BLOCKS):
        with store.database.batch() as batch:
            for number, block_hash in pending[start : start + _BATCH_BLOCKS]:
                store.delete_block(batch, max(number, 0), block_hash)
    return len({block_hash for _, block_hash in above})


def _write_indexes(store: Store, chain: list[Header], heads: dict[str, Header], progress: Progress) -> None:
    """Heads, and the indexes of numbers, transactions and blocks, from the blocks themselves."""
    delete_range(store, b"i", b"j")
    delete_range(store, b"t", b"u")
    for start in range(0, len(chain), _BATCH_BLOCKS):
        with store.database.batch() as batch:
            for header in chain[start : start + _BATCH_BLOCKS]:
                block = store.block(header.hash)
                if block is None:
                    raise DatabaseCorrupt(f"block {header.number} (0x{header.hash.hex()}) went missing meanwhile")
                put_canonical(batch, block)
        progress("indexes", min(start + _BATCH_BLOCKS, len(chain)), len(chain))
    with store.database.batch(sync=True) as batch:
        for number, block_hash in _stored_blocks(store):
            batch.put(b"k" + number_key(number) + block_hash, b"")
        for label, header in heads.items():
            batch.put(b"H" + label.encode(), header.hash)
        batch.put(b"mgenesis", chain[0].hash)


def _stored_blocks(store: Store) -> Iterator[tuple[int, bytes]]:
    for key in store.database.keys(b"h", b"i"):
        header, _ = header_faults(store, key[1:])
        if header is not None:
            yield header.number, header.hash


def _heads(store: Store, chain: list[Header]) -> dict[str, Header]:
    """The heads on the repaired chain: the old ones as far as it reaches; where one is not on it, the one below."""
    finalized = _clipped(store, chain, "finalized") or chain[0]
    safe = _clipped(store, chain, "safe") or finalized
    if safe.number < finalized.number:
        safe = finalized
    return {"unsafe": chain[-1], "safe": safe, "finalized": finalized}


def _clipped(store: Store, chain: list[Header], label: str) -> Header | None:
    block_hash = store.head(label)
    header = None if block_hash is None else header_faults(store, block_hash)[0]
    if header is None:
        return None
    if header.number >= len(chain):
        return chain[-1] if store.canonical_hash(header.number) == header.hash else None
    return header if chain[header.number].hash == header.hash else None

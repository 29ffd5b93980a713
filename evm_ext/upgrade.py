"""The flat tables of a chain, made anew from the state trie of its unsafe head.

That is done for folders of format 1, and where the tables are missing because somebody was interrupted here. The
tables count as there only when the last batch is written, so an interruption just starts it again.
"""

from __future__ import annotations

import time

import structlog

from openledger.evm_ext.block import Header
from openledger.evm_ext.encoding import InvalidRLP
from openledger.evm_ext.errors import DatabaseCorrupt
from openledger.evm_ext.state.account import decode_account
from openledger.evm_ext.store import FORMAT_VERSION, Store, number_key
from openledger.evm_ext.trie import Trie

_log = structlog.get_logger(__name__)

_BATCH_ENTRIES = 5_000
_REPORT_S = 5.0


def upgrade(store: Store) -> None:
    """Bring a folder to the present format. Raises `MissingTrieNode` and other `DatabaseCorrupt`."""
    head_hash = store.head("unsafe")
    head = None if head_hash is None else store.header(head_hash)
    if head is None:
        raise DatabaseCorrupt(f"the unsafe head in {store.path} is missing: sync from an empty folder")
    if store.version != FORMAT_VERSION:
        _log.info("database_upgrade", path=str(store.path), to_format=FORMAT_VERSION.decode())
        index_blocks(store)
    rebuild_flat_tables(store, head)
    if store.version != FORMAT_VERSION:
        with store.database.batch(sync=True) as batch:
            batch.put(b"mownerless", b"1")
            batch.put(b"mversion", FORMAT_VERSION)
        store.version = FORMAT_VERSION


def index_blocks(store: Store) -> None:
    """The list of all stored blocks by number."""
    entries = []
    for key, raw in store.database.items(b"h", b"i"):
        try:
            entries.append(b"k" + number_key(Header.decode(raw).number) + key[1:])
        except ValueError as error:
            raise DatabaseCorrupt(f"the header of block 0x{key[1:].hex()} is damaged: {error}") from error
        if len(entries) == _BATCH_ENTRIES:
            _put_keys(store, entries)
    _put_keys(store, entries)


def _put_keys(store: Store, keys: list[bytes]) -> None:
    with store.database.batch() as batch:
        for key in keys:
            batch.put(key, b"")
    keys.clear()


def rebuild_flat_tables(store: Store, head: Header) -> int:
    """Make the flat tables hold the state of `head`, without any history; the number of accounts.

    Raises `MissingTrieNode`, `DamagedTrieNode`."""
    with store.database.batch(sync=True) as batch:
        batch.delete(b"mbase")
    for letter in (b"a", b"s", b"A", b"S"):
        delete_range(store, letter, bytes((letter[0] + 1,)))
    accounts = entries = 0
    started = reported = time.monotonic()
    pending: list[tuple[bytes, bytes]] = []
    for key, raw in Trie(store.node, head.state_root).entries():
        pending.append((b"a" + key, raw))
        try:
            storage_root = decode_account(raw).storage_root
        except InvalidRLP as error:
            raise DatabaseCorrupt(f"the account with hash 0x{key.hex()} is damaged: {error}") from error
        for slot, word in Trie(store.node, storage_root, owner=key).entries():
            pending.append((b"s" + key + slot, word))
            if len(pending) >= _BATCH_ENTRIES:
                entries += _put_pairs(store, pending)
        accounts += 1
        if len(pending) >= _BATCH_ENTRIES:
            entries += _put_pairs(store, pending)
        if time.monotonic() - reported > _REPORT_S:
            reported = time.monotonic()
            _log.info(
                "flat_tables_progress",
                accounts=accounts,
                slots=entries + len(pending) - accounts,
                done_percent=round(int.from_bytes(key[:4], "big") * 100 / 2**32, 1),
            )
    entries += _put_pairs(store, pending)
    with store.database.batch(sync=True) as batch:
        batch.put(b"mhistory", number_key(head.number))
        batch.put(b"mbase", head.hash)
    _log.info(
        "flat_tables_built",
        block=head.number,
        accounts=accounts,
        slots=entries - accounts,
        seconds=round(time.monotonic() - started, 1),
    )
    return accounts


def _put_pairs(store: Store, pairs: list[tuple[bytes, bytes]]) -> int:
    number = len(pairs)
    with store.database.batch() as batch:
        for key, value in pairs:
            batch.put(key, value)
    pairs.clear()
    return number


def delete_range(store: Store, start: bytes, stop: bytes) -> int:
    """Delete all keys from `start` to below `stop`, a batch at a time; how many there were."""
    deleted = 0
    pending: list[bytes] = []
    for key in store.database.keys(start, stop):
        pending.append(key)
        if len(pending) == _BATCH_ENTRIES:
            deleted += _delete_keys(store, pending)
    return deleted + _delete_keys(store, pending)


def _delete_keys(store: Store, keys: list[bytes]) -> int:
    number = len(keys)
    with store.database.batch() as batch:
        for key in keys:
            batch.delete(key)
    keys.clear()
    return number

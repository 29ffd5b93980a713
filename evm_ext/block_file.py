"""Files of blocks one after another, each in RLP: what `geth export` writes and `geth import` reads.

A name that ends in `.gz` means gzip.
"""

from __future__ import annotations

import errno
import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from openledger.evm_ext.block import Block
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.database import REPAIR_HINT
from openledger.evm_ext.errors import DatabaseCorrupt, InvalidBlock, UndecodableBlock, UnknownParent
from openledger.evm_ext.store import Store

MOST_BLOCK_BYTES = 64 * 1024 * 1024
_BLOCKS_BETWEEN_HEADS = 64


class BlockFileError(UndecodableBlock):
    """A block of a file that cannot be read or does not fit the chain; the message says which."""


def read_blocks(file: BinaryIO) -> Iterator[Block]:
    """The blocks of an open file, one at a time. Raises `BlockFileError`."""
    index = 0
    while True:
        try:
            raw = _read_list(file)
            if raw is None:
                return
            yield Block.decode(raw)
        except (UndecodableBlock, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BlockFileError(f"block {index} of the file cannot be read: {error}") from error
        index += 1


def import_block_file(
    chain: Chain, path: Path, *, on_block: Callable[[Block], None] | None = None, final: bool = True
) -> int:
    """Execute and store the blocks of a file and make the last one the head, if `final` the safe and finalized one
    too. A file that ends below the unsafe head, on its chain, moves no head back.

    Genesis and blocks that are stored are passed over, so an import that was interrupted goes on where it was.
    Gives how many blocks were executed. What came before an invalid block stays, with its head.
    Raises `BlockFileError`, OSError."""
    executed = 0
    last = None
    empty = True
    with open_block_file(path) as file:
        for block in read_blocks(file):
            empty = False
            if block.number == 0:
                if block.hash != chain.genesis_hash:
                    raise BlockFileError(
                        f"the file begins with genesis 0x{block.hash.hex()}, this chain with 0x{chain.genesis_hash.hex()}"
                    )
                continue
            if not chain.has_block(block.hash):
                try:
                    chain.import_block(block)
                except (InvalidBlock, UnknownParent) as error:
                    _move_heads(chain, last, final)
                    raise BlockFileError(f"block {block.number} (0x{block.hash.hex()}): {error}") from error
                executed += 1
            last = block
            if on_block is not None:
                on_block(block)
            if executed and executed % _BLOCKS_BETWEEN_HEADS == 0:
                _move_heads(chain, last, final)
    if empty:
        raise BlockFileError("the file holds no block")
    _move_heads(chain, last, final)
    return executed


def write_blocks(file: BinaryIO, blocks: Iterator[Block]) -> int:
    """Append blocks to an open file; gives how many."""
    written = 0
    for block in blocks:
        file.write(block.encode())
        written += 1
    return written


def export_block_file(store: Store, path: Path, first: int, last: int, *, on_block: Callable[[int], None]) -> int:
    """Write the canonical blocks `first` to `last`, both included; gives how many.

    The file has its name only when it is whole. Raises ValueError for a range that the chain does not have, OSError,
    `DatabaseCorrupt`."""
    head_hash = store.head("unsafe")
    head = None if head_hash is None else store.header(head_hash)
    if head is None:
        raise DatabaseCorrupt(f"the unsafe head in {store.path} is missing: {REPAIR_HINT}")
    if not 0 <= first <= last <= head.number:
        raise ValueError(f"there are no blocks {first} to {last}: the chain has 0 to {head.number}")

    def blocks() -> Iterator[Block]:
        for number in range(first, last + 1):
            block_hash = store.canonical_hash(number)
            block = None if block_hash is None else store.block(block_hash)
            if block is None:
                before = f"; --to {number - 1} writes those before it" if number > first else ""
                raise DatabaseCorrupt(f"block {number} is missing: {REPAIR_HINT}{before}")
            yield block
            on_block(number)

    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(path.name, "wb", fileobj=raw, mtime=0) as file:
                    written = write_blocks(cast(BinaryIO, file), blocks())
            else:
                written = write_blocks(raw, blocks())
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return written


def open_block_file(path: Path) -> BinaryIO:
    """A file of blocks, opened for `read_blocks`."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _move_heads(chain: Chain, block: Block | None, final: bool) -> None:
    if block is None:
        return
    head = chain.head()
    below = chain.header_by_number(block.number)
    if block.number <= head.number and below is not None and below.hash == block.hash:
        if final and block.number > chain.head("finalized").number:
            chain.set_heads(safe=block.hash, finalized=block.hash)
    elif final:
        chain.set_heads(unsafe=block.hash, safe=block.hash, finalized=block.hash)
    else:
        chain.set_heads(unsafe=block.hash)


def _read_list(file: BinaryIO) -> bytes | None:
    """The next RLP list as it stands, None at the end. Its length is checked before it is read."""
    first = file.read(1)
    if not first:
        return None
    if first[0] < 0xC0:
        raise UndecodableBlock(f"a block is an RLP list, the next byte is 0x{first.hex()}")
    head = first
    if first[0] < 0xF8:
        length = first[0] - 0xC0
    else:
        size = file.read(first[0] - 0xF7)
        length = int.from_bytes(size, "big")
        head += size
    if length > MOST_BLOCK_BYTES:
        raise UndecodableBlock(f"a block of {length} bytes, at most {MOST_BLOCK_BYTES} are read")
    body = file.read(length)
    if len(body) < length:
        raise UndecodableBlock("the file ends in the middle of a block")
    return head + body

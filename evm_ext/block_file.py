"""Files of blocks one after another, each in RLP: what `geth export` writes and `geth import` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from openledger.evm_ext.block import Block
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import InvalidBlock, UndecodableBlock, UnknownParent

MOST_BLOCK_BYTES = 64 * 1024 * 1024
_BLOCKS_BETWEEN_HEADS = 1_024


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
        except UndecodableBlock as error:
            raise BlockFileError(f"block {index} of the file cannot be read: {error}") from error
        index += 1


def import_block_file(chain: Chain, path: Path, *, on_block: Callable[[Block], None] | None = None) -> int:
    """Execute and store the blocks of a file and make the last one the head: unsafe, safe and finalized.

    Genesis and blocks that are stored are passed over. Gives how many blocks were executed. What came before an
    invalid block stays, with its head. Raises `BlockFileError`, OSError."""
    executed = 0
    last = None
    with path.open("rb") as file:
        for block in read_blocks(file):
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
                    _move_heads(chain, last)
                    raise BlockFileError(f"block {block.number} (0x{block.hash.hex()}): {error}") from error
                executed += 1
            last = block
            if on_block is not None:
                on_block(block)
            if executed % _BLOCKS_BETWEEN_HEADS == 0:
                _move_heads(chain, last)
    _move_heads(chain, last)
    return executed


def write_blocks(file: BinaryIO, blocks: Iterator[Block]) -> int:
    """Append blocks to an open file; gives how many."""
    written = 0
    for block in blocks:
        file.write(block.encode())
        written += 1
    return written


def _move_heads(chain: Chain, block: Block | None) -> None:
    if block is not None:
        chain.set_heads(unsafe=block.hash, safe=block.hash, finalized=block.hash)


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

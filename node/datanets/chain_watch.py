"""Noticing new blocks of a chain, and where one chain was left for another."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import trio

from openledger.evm_ext.block import Header
from openledger.evm_ext.chain import Chain

POLL_S = 0.5


@dataclass(frozen=True)
class NewHead:
    """The unsafe head now. Blocks up to number `kept` are the same as at the head seen before."""

    head: Header
    kept: int


def common_block(chain: Chain, block_hash: bytes) -> int:
    """The number of the newest block that both the canonical chain and the chain of `block_hash` have.

    -1 where the block is not stored: nothing is known about it then.
    """
    header = chain.header_by_hash(block_hash)
    while header is not None:
        canonical = chain.header_by_number(header.number)
        if canonical is not None and canonical.hash == header.hash:
            return header.number
        header = chain.header_by_hash(header.parent_hash)
    return -1


async def new_heads(chain: Chain, poll_s: float = POLL_S) -> AsyncGenerator[NewHead, None]:
    """The head now, then every head that is found different, forever. Heads in between may be passed over."""
    before: bytes | None = None
    while True:
        head = chain.head("unsafe")
        if head.hash != before:
            kept = -1 if before is None else await trio.to_thread.run_sync(common_block, chain, before)
            yield NewHead(head, kept)
            before = head.hash
        else:
            await trio.sleep(poll_s)

"""What this package asks of the node it runs in, and the simplest node: a chain on disk."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from openledger.evm_ext.block import Header, block_from_payload, payload_from_block
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import ExecutionPayload


class PeerBackend(Protocol):
    """The node's side. Every method may be called from several tasks at once and may be cancelled."""

    async def head(self) -> Header:
        """The unsafe head."""

    async def has_block(self, block_hash: bytes) -> bool:
        """Whether a block is stored (and so valid), canonical or not."""

    async def payload_by_number(self, number: int) -> ExecutionPayload | None:
        """The canonical block with that number."""

    async def headers(self, start: int, count: int) -> Sequence[bytes]:
        """RLP of up to `count` canonical headers from `start` upwards, without a gap."""

    async def bodies(self, hashes: Sequence[bytes], max_bytes: int) -> Sequence[bytes]:
        """`Block.encode_body` in the order asked for, up to the first that is missing or passes the limit."""

    async def import_payload(self, payload: ExecutionPayload) -> None:
        """Execute a block and make it the unsafe head if it continues it; one that is stored is no change.

        Raises InvalidBlock for a block that breaks a rule and UnknownParent when its parent is not stored
        (openledger.evm_ext.errors)."""

    async def content(self, digest: bytes) -> bytes | None:
        """An object of at most 1 MiB by its hash."""


class ChainBackend:
    """A PeerBackend on a `Chain`, in worker threads.

    `content` answers content requests. `import_payload` replaces the import, for a node whose driver decides about
    heads; without it a block becomes the unsafe head when it is higher than the present one.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        content: Callable[[bytes], bytes | None] | None = None,
        import_payload: Callable[[ExecutionPayload], Awaitable[None]] | None = None,
    ) -> None:
        self._chain = chain
        self._content = content
        self._import_payload = import_payload

    async def head(self) -> Header:
        """See PeerBackend."""
        return self._chain.head()

    async def has_block(self, block_hash: bytes) -> bool:
        """See PeerBackend."""
        return await trio.to_thread.run_sync(self._chain.has_block, block_hash)

    async def payload_by_number(self, number: int) -> ExecutionPayload | None:
        """See PeerBackend."""
        block = await trio.to_thread.run_sync(self._chain.block_by_number, number)
        return None if block is None else payload_from_block(block)

    async def headers(self, start: int, count: int) -> Sequence[bytes]:
        """See PeerBackend."""

        def read() -> list[bytes]:
            encoded: list[bytes] = []
            for number in range(start, start + count):
                header = self._chain.header_by_number(number)
                if header is None:
                    break
                encoded.append(header.encode())
            return encoded

        return await trio.to_thread.run_sync(read)

    async def bodies(self, hashes: Sequence[bytes], max_bytes: int) -> Sequence[bytes]:
        """See PeerBackend."""

        def read() -> list[bytes]:
            encoded: list[bytes] = []
            size = 0
            for block_hash in hashes:
                block = self._chain.block_by_hash(block_hash)
                if block is None or size > max_bytes:
                    break
                encoded.append(block.encode_body())
                size += len(encoded[-1])
            return encoded

        return await trio.to_thread.run_sync(read)

    async def import_payload(self, payload: ExecutionPayload) -> None:
        """See PeerBackend."""
        if self._import_payload is not None:
            await self._import_payload(payload)
            return

        def run() -> None:
            block = block_from_payload(payload)
            if not self._chain.has_block(block.hash):
                self._chain.import_block(block)
            if block.number > self._chain.head().number:
                self._chain.set_heads(unsafe=block.hash)

        await trio.to_thread.run_sync(run)

    async def content(self, digest: bytes) -> bytes | None:
        """See PeerBackend."""
        return None if self._content is None else await trio.to_thread.run_sync(self._content, digest)

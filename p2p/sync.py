"""Range sync: from what this node has to a target block, headers first.

Stages, each of which can stop and be started again:
  1. link: headers backwards from the target's hash until a block this node has. Only hashes are kept.
  2. fetch: headers and bodies forwards by those hashes, checked against them.
  3. execute: blocks in order through the backend. What was imported stays; the next run links from there.

Trust comes from the target: a block the sequencer signed, so every hash below it is the sequencer's too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
import trio
from libp2p.peer.id import ID

from openledger.evm_ext.block import Block, Header, block_from_body, payload_from_block, transactions_root
from openledger.evm_ext.errors import InvalidBlock, UndecodableBlock, UnknownParent
from openledger.p2p.backend import PeerBackend
from openledger.p2p.protocols import InvalidAnswer, PeerClient, RequestRefused
from openledger.p2p.scoring import PeerScores, Penalty
from openledger.p2p.streams import PeerUnresponsive

_LINK_HEADERS = 512
_FETCH_HEADERS = 128
_BLOCKS_AHEAD = 32

log = structlog.get_logger(__name__)


class PeerLacksBlocks(Exception):
    """The peer is on another branch, or does not have the blocks (any more)."""


class SyncFailed(Exception):
    """No peer could bring this node to the target; what was imported stays."""


@dataclass(frozen=True)
class Target:
    """The block to sync to; `trusted` when the sequencer signed it."""

    number: int
    block_hash: bytes
    trusted: bool


class RangeSync:
    """Syncs to targets, one at a time. `on_block` is called with each imported block's number."""

    def __init__(
        self,
        backend: PeerBackend,
        client: PeerClient,
        scores: PeerScores,
        on_block: Callable[[int], None] | None = None,
    ) -> None:
        self._backend = backend
        self._client = client
        self._scores = scores
        self._on_block = on_block

    async def run(self, target: Target, peers: Sequence[ID]) -> None:
        """Imports everything up to the target, trying the peers in turn. Raises SyncFailed, InvalidBlock.

        InvalidBlock only for a trusted target: then the sequencer signed what this node finds invalid.
        """
        problems: list[str] = []
        for peer in peers:
            try:
                await self._from_peer(target, peer)
                return
            except PeerLacksBlocks as error:
                problems.append(f"{peer}: {error}")
            except (PeerUnresponsive, RequestRefused) as error:
                self._scores.penalise(str(peer), Penalty.UNRESPONSIVE, str(error))
                problems.append(f"{peer}: {error}")
            except InvalidAnswer as error:
                self._scores.penalise(str(peer), Penalty.INVALID, str(error))
                problems.append(f"{peer}: {error}")
            except InvalidBlock as error:
                if target.trusted:
                    raise
                self._scores.penalise(str(peer), Penalty.INVALID, f"invalid block: {error}")
                problems.append(f"{peer}: {error}")
        raise SyncFailed(f"no peer brought block {target.number}: " + ("; ".join(problems) or "no peers"))

    async def _from_peer(self, target: Target, peer: ID) -> None:
        hashes = await self._link(target, peer)
        if not hashes:
            return
        first = target.number - len(hashes) + 1
        log.info("range sync", first=first, last=target.number, peer=str(peer))
        send, receive = trio.open_memory_channel[Block](_BLOCKS_AHEAD)
        failures: list[Exception] = []

        async def fetch() -> None:
            async with send:
                try:
                    await self._fetch(peer, first, hashes, send)
                except (PeerLacksBlocks, PeerUnresponsive, RequestRefused, InvalidAnswer) as error:
                    failures.append(error)  # raised once the blocks that did arrive are imported

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            try:
                async with receive:
                    async for block in receive:
                        await self._import(block)
            except (InvalidBlock, PeerLacksBlocks) as error:
                failures.insert(0, error)
            nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]

    async def _import(self, block: Block) -> None:
        try:
            await self._backend.import_payload(payload_from_block(block))
        except UnknownParent as error:
            raise PeerLacksBlocks(f"block {block.number} does not follow what was imported: {error}") from error
        if self._on_block is not None:
            self._on_block(block.number)

    async def _link(self, target: Target, peer: ID) -> list[bytes]:
        """The hashes of the missing blocks, oldest first."""
        head = (await self._backend.head()).number
        missing: list[bytes] = []
        expected, number = target.block_hash, target.number
        while not await self._backend.has_block(expected):
            if number <= 0:
                raise PeerLacksBlocks("its chain does not lead to this node's genesis")
            start = max(number - _LINK_HEADERS + 1, head + 1 if number > head else 1)
            headers = _decode(await self._client.headers(peer, start, number - start + 1))
            if len(headers) != number - start + 1 or headers[-1].hash != expected:
                raise PeerLacksBlocks(f"it does not have block {number} of the target's chain")
            for header in reversed(headers):
                if header.hash != expected or header.number != number:
                    raise InvalidAnswer(f"header {number} is not the parent of the one after it")
                if number <= head and await self._backend.has_block(expected):
                    break
                missing.append(expected)
                expected, number = header.parent_hash, number - 1
        missing.reverse()
        return missing

    async def _fetch(self, peer: ID, first: int, hashes: list[bytes], send: trio.MemorySendChannel[Block]) -> None:
        for begin in range(0, len(hashes), _FETCH_HEADERS):
            wanted = hashes[begin : begin + _FETCH_HEADERS]
            headers = _decode(await self._client.headers(peer, first + begin, len(wanted)))
            if [header.hash for header in headers] != wanted:
                raise PeerLacksBlocks(f"its chain changed at block {first + begin}")
            while headers:
                bodies = await self._client.bodies(peer, [header.hash for header in headers])
                for header, body in zip(headers, bodies):
                    await send.send(await trio.to_thread.run_sync(_join, header, body))
                headers = headers[len(bodies) :]


def _decode(encoded: Sequence[bytes]) -> list[Header]:
    try:
        return [Header.decode(item) for item in encoded]
    except UndecodableBlock as error:
        raise InvalidAnswer(str(error)) from error


def _join(header: Header, body: bytes) -> Block:
    try:
        block = block_from_body(header, body)
    except UndecodableBlock as error:
        raise InvalidAnswer(f"body of block {header.number}: {error}") from error
    if block.withdrawals or transactions_root(block.transactions) != header.transactions_root:
        raise InvalidAnswer(f"body of block {header.number} is not the one its header commits to")
    return block

"""Packing receipts into settlements: one L2 transaction that debits channels and credits everyone who earned.

A settlement is written to the book, with the nonce it is sent with, before it is sent; after a crash its fate is read
from the ledger by its root. Whatever happens, at most one transaction with it can be in a block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import structlog
import trio

from openledger.evm_ext.proofs.eip712 import InvalidSignature
from openledger.evm_ext.proofs.merkle import StandardTree
from openledger.evm_ext.proofs.settlement import (
    MAX_BYTES,
    Group,
    Record,
    Settlement,
    encode_settlement,
)
from openledger.node.content import ContentStore
from openledger.node.predeploy_contracts import datanet_registry, inference_ledger
from openledger.node.receipts import BookedReceipt, ReceiptBook, SentSettlement
from openledger.node.records import RECEIPTS_PER_BATCH, decode_receipt_list, encode_receipt_list
from openledger.node.registry import Registry
from openledger.node.rpc_client import RpcClient, RpcError, RpcUnavailable
from openledger.node.wallet import TransactionReverted, Wallet
from openledger.rollup.da.client import DAError

log = structlog.get_logger(__name__)

PUBLISHED_PART_BYTES = 8 << 20
"""Most bytes of receipt bodies in one DA payload (besides the last body of a part)."""
GROUP_BYTES, RECORD_BYTES, ENTRY_BYTES, HEADER_BYTES = 111, 6, 6, 35


@dataclass(frozen=True)
class Packed:
    """A settlement ready to send, and the receipts in it in record order."""

    settlement: Settlement
    receipts: tuple[BookedReceipt, ...]

    @property
    def payload(self) -> bytes:
        return encode_settlement(self.settlement)


def decode_vector(encoded: bytes) -> tuple[tuple[int, int], ...]:
    """The entries of an encoded attribution vector (`proofs.settlement.encode_entries`)."""
    return tuple(
        (int.from_bytes(encoded[i : i + 4], "big"), int.from_bytes(encoded[i + 4 : i + 6], "big"))
        for i in range(1, len(encoded), ENTRY_BYTES)
    )


def pack(receipts: Sequence[BookedReceipt], vouchers: Callable[[bytes], tuple[int, bytes]]) -> Packed | None:
    """As many receipts as one settlement holds, grouped by channel and release; None where there are none.

    A channel's receipts stay in their order, and a new group begins where the release changes. `vouchers(channel)`
    gives the best voucher: its amount and signature.
    """
    chosen: list[tuple[BookedReceipt, Record]] = []
    size = HEADER_BYTES
    by_channel: dict[bytes, list[tuple[BookedReceipt, Record]]] = {}
    for receipt in receipts[:RECEIPTS_PER_BATCH]:
        entries = decode_vector(receipt.vector)
        size += GROUP_BYTES + RECORD_BYTES + ENTRY_BYTES * len(entries)  # at worst each is a group of its own
        if size > MAX_BYTES:
            break
        by_channel.setdefault(receipt.channel, []).append((receipt, Record(receipt.after - receipt.before, entries)))
    groups: list[Group] = []
    for channel, members in by_channel.items():
        amount, signature = vouchers(channel)
        runs: list[list[tuple[BookedReceipt, Record]]] = []
        for receipt, record in members:
            if not runs or runs[-1][-1][0].release != receipt.release:
                runs.append([])
            runs[-1].append((receipt, record))
        for run in runs:
            groups.append(Group(channel, run[0][0].release, amount, signature, tuple(record for _, record in run)))
            chosen += run
    if not groups:
        return None
    in_order = tuple(receipt for receipt, _ in chosen)
    root = StandardTree.of_receipts([receipt.hash for receipt in in_order]).root
    return Packed(Settlement(root, tuple(groups)), in_order)


class Settler:
    """The service that settles one provider's receipts. `publish(data)` puts bytes on the DA layer and returns the
    commitment; `registry()` reads at the current head."""

    def __init__(
        self,
        *,
        book: ReceiptBook,
        content: ContentStore,
        registry: Callable[[], Registry],
        publish: Callable[[bytes], Awaitable[bytes]],
        rpc_url: str,
        provider: Wallet,
        interval_s: float,
        sending: trio.Lock | None = None,
    ) -> None:
        """`sending` is held while the wallet's next nonce is taken and used; share it with whoever else sends."""
        self._book = book
        self._content = content
        self._registry = registry
        self._publish = publish
        self._rpc_url = rpc_url
        self._provider = provider
        self._interval_s = interval_s
        self._sending = sending or trio.Lock()
        self._wake = trio.Event()
        self._problem: str | None = None
        self._withheld: str | None = None

    def probe(self) -> str | None:
        """What keeps receipts from being settled, or None."""
        return self._problem

    def settle_soon(self) -> None:
        """Do not wait for the interval."""
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Settle every interval until cancelled."""
        task_status.started()
        while True:
            try:
                async with RpcClient(self._rpc_url) as rpc:
                    while await self.settle_once(rpc):
                        pass
                self._problem = self._withheld
            except (RpcUnavailable, RpcError, TransactionReverted, InvalidSignature) as error:
                self._problem = f"receipts wait to be settled: {error}"
                log.warning("settlement failed, trying again", error=str(error))
            with trio.move_on_after(self._interval_s):
                await self._wake.wait()
            self._wake = trio.Event()

    async def settle_once(self, rpc: RpcClient) -> bool:
        """Finish what was begun, else send one settlement. Returns whether there may be more to do."""
        await self._publish_due(rpc)
        async with self._sending:
            sent = self._book.unfinished_settlement() or await self._begin(rpc)
            if sent is None:
                return False
            if not self._in_ledger(sent.root):
                await self._send(rpc, sent)
        if not self._in_ledger(sent.root):
            return False  # its transaction waits in a pool; the next round looks again
        await trio.to_thread.run_sync(self._book.finish_settlement, sent.root)
        log.info("settled", root="0x" + sent.root.hex())
        return True

    async def _begin(self, rpc: RpcClient) -> SentSettlement | None:
        packed = pack(self._book.open_receipts(RECEIPTS_PER_BATCH), self._voucher)
        if packed is None:
            return None
        hashes = [receipt.hash for receipt in packed.receipts]
        root = packed.settlement.receipts_root
        # Kept first: who knows a root in the ledger can ask for its receipts.
        self._content.put_named(root, encode_receipt_list(hashes))
        sent = SentSettlement(root, packed.payload, await self._provider.next_nonce(rpc))
        await trio.to_thread.run_sync(self._book.begin_settlement, sent.root, sent.payload, sent.nonce, hashes)
        return sent

    async def _send(self, rpc: RpcClient, sent: SentSettlement) -> None:
        """Send a settlement always with its one nonce, so that no two copies of it can both be in blocks."""
        try:
            await self._provider.send(rpc, inference_ledger(), "settle", sent.payload, nonce=sent.nonce)
        except (TransactionReverted, RpcError) as error:
            text = str(error).lower()
            if "already known" in text or "underpriced" in text:
                return
            # The nonce is spent or the ledger refuses: unless it is in a block, it never can be.
            spent = int(await rpc.call("eth_getTransactionCount", "0x" + self._provider.address.hex(), "latest"), 16)
            if isinstance(error, TransactionReverted) or spent > sent.nonce:
                if self._in_ledger(sent.root):
                    return
                await trio.to_thread.run_sync(self._book.abandon_settlement, sent.root)
            raise

    def _in_ledger(self, root: bytes) -> bool:
        return self._registry().settlement_with_root(root) is not None

    def _voucher(self, channel: bytes) -> tuple[int, bytes]:
        known = self._book.channel(channel)
        assert known is not None, "a booked receipt has a channel"
        return known.max_claimable, known.signature

    async def _publish_due(self, rpc: RpcClient) -> None:
        """Publish the bodies behind settlements. While the DA layer is away people are paid without it: peers still
        have the bodies, and nothing is forgotten."""
        self._withheld = None
        try:
            for root in self._book.unpublished_settlements():
                await self._publish_bodies(rpc, root)
        except DAError as error:
            self._withheld = f"the bodies of settled receipts wait for the DA layer: {error}"
            log.warning("bodies of receipts wait", error=str(error))

    async def _publish_bodies(self, rpc: RpcClient, root: bytes) -> None:
        """Put the bodies of a settlement's receipts on the DA layer and say where."""
        listed = self._content.get_named(root)
        assert listed is not None, "the list is kept before the settlement is sent"
        for bodies in _parts([self._content.get_named(digest) or b"" for digest in decode_receipt_list(listed)]):
            commitment = await self._publish(msgspec.msgpack.encode(bodies))
            async with self._sending:
                await self._provider.send(rpc, datanet_registry(), "announceContent", root, commitment)
        await trio.to_thread.run_sync(self._book.mark_published, root)


def _parts(bodies: list[bytes]) -> Iterator[list[bytes]]:
    """The bodies in lists that each fit in one DA payload."""
    part: list[bytes] = []
    size = 0
    for body in bodies:
        if part and size + len(body) > PUBLISHED_PART_BYTES:
            yield part
            part, size = [], 0
        part.append(body)
        size += len(body)
    if part:
        yield part

"""Getting a receipt's body, and the list behind a receipts root, from wherever they are: here, peers, the DA layer.

Both are found under a hash that their reader recomputes, so it does not matter who hands them over.
"""

from __future__ import annotations

import msgspec
import structlog

from openledger.evm_ext.proofs.content import InvalidContent
from openledger.evm_ext.proofs.eip712 import Domain
from openledger.evm_ext.proofs.merkle import StandardTree
from openledger.evm_ext.proofs.receipt import ledger_domain
from openledger.node.content import ContentMissing
from openledger.node.loaded_adapters import MAX_ADAPTER_BYTES
from openledger.node.predeploy_contracts import datanet_registry, inference_ledger
from openledger.node.records import AnswerBody, InvalidRecord, decode_receipt_list
from openledger.node.rollup_node import RollupNode
from openledger.rollup.da.client import DAError

log = structlog.get_logger(__name__)

MAX_PUBLISHED_BYTES = 16 << 20


def is_body_of(data: bytes, receipt_hash: bytes, domain: Domain) -> bool:
    """Whether these bytes are the body of the receipt with that hash."""
    try:
        return AnswerBody.decode(data).signed_receipt().hash(domain) == receipt_hash
    except InvalidRecord:
        return False


def is_list_of(data: bytes, receipts_root: bytes) -> bool:
    """Whether these bytes are the receipts under that root, in order."""
    try:
        return StandardTree.of_receipts(decode_receipt_list(data)).root == receipts_root
    except InvalidRecord:
        return False


class ReceiptSync:
    """Brings receipts into the node's content store."""

    def __init__(self, node: RollupNode) -> None:
        self._node = node
        self._domain = ledger_domain(node.chain.chain_id)

    async def body(self, receipt_hash: bytes) -> bool:
        """Make the body of a receipt available locally; False when nobody asked has it."""
        content = self._node.content
        if content.get_named(receipt_hash) is not None:
            return True
        data = await self._node.p2p.fetch_content(receipt_hash, lambda d: is_body_of(d, receipt_hash, self._domain))
        if data is None:
            return False
        content.put_named(receipt_hash, data)
        return True

    async def adapters(self, receipt_hash: bytes) -> bool:
        """Make the adapters that an answer names available locally, if its body is; False where nobody asked has one.

        The adapters of releases come by the content follower; these are those that an operator loaded by hand.
        """
        data = self._node.content.get_named(receipt_hash)
        try:
            used = AnswerBody.decode(data).request.adapters if data is not None else ()
            for adapter in used:
                await self._node.content.obtain_folder(adapter.digest, self._node.p2p.fetch_content, MAX_ADAPTER_BYTES)
        except (InvalidRecord, InvalidContent, ContentMissing) as error:
            log.warning("an adapter cannot be had", receipt="0x" + receipt_hash.hex(), error=str(error))
            return False
        return True

    async def settlement_lists(self) -> None:
        """Make the lists of all settlements available, as far as somebody has them."""
        registry = self._node.registry()
        for number in range(registry.settlement_count(), 0, -1):
            root = registry.settlement(number).receipts_root
            if self._node.content.get_named(root) is not None:
                continue
            data = await self._node.p2p.fetch_content(root, lambda d, root=root: is_list_of(d, root))  # type: ignore[misc]
            if data is not None:
                self._node.content.put_named(root, data)
            else:
                await self.published(root)

    async def published(self, receipts_root: bytes) -> None:
        """Take the bodies under a root from the DA layer, where they were announced. Their order is not said there,
        so the list is kept only if it is in record order, as providers publish it."""
        chain = self._node.chain
        registry = datanet_registry()
        found: list[bytes] = []
        for located in chain.logs(
            0, chain.head("unsafe").number, [registry.address], [[registry.topic("Announced")], [receipts_root]]
        ):
            event = registry.event(located.log.topics, located.log.data)
            assert event is not None
            try:
                payload = await self._node.da.get(event.arguments["daCommitment"])
                bodies = msgspec.msgpack.decode(payload, type=list[bytes])
            except (DAError, msgspec.MsgspecError) as error:
                log.warning("published receipts unreadable", root="0x" + receipts_root.hex(), error=str(error))
                continue
            for body in bodies:
                try:
                    digest = AnswerBody.decode(body).signed_receipt().hash(self._domain)
                except InvalidRecord:
                    continue
                self._node.content.put_named(digest, body)
                found.append(digest)
        listed = b"".join(found)
        if is_list_of(listed, receipts_root):
            self._node.content.put_named(receipts_root, listed)

    def settled_payload(self, receipts_root: bytes) -> tuple[int, bytes] | None:
        """L2 block number and calldata of the settlement with that root; None where the ledger has none."""
        settlement = self._node.registry().settlement_with_root(receipts_root)
        if settlement is None:
            return None
        block = self._node.chain.block_by_number(settlement.block_number)
        contract = inference_ledger()
        for transaction in block.transactions if block else ():
            if transaction.to == contract.address and transaction.data[:4] == contract.selector("settle"):
                (payload,) = contract.decode_call("settle", transaction.data)
                if payload[1:33] == receipts_root:
                    return settlement.block_number, payload
        return None

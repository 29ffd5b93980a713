"""Settling goes on while other parts of the world do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from openledger.node.content import ContentStore
from openledger.node.receipts import BookedReceipt, ReceiptBook
from openledger.node.records import encode_receipt_list
from openledger.node.rpc_client import RpcClient
from openledger.node.settlement import Settler
from openledger.node.wallet import Wallet
from openledger.rollup.da.client import DAUnavailable

ROOT, RECEIPT = b"\x09" * 32, b"\x01" * 32


async def test_without_the_da_layer_people_are_paid_and_the_bodies_wait(tmp_path: Path) -> None:
    book, content = ReceiptBook(tmp_path / "book.sqlite"), ContentStore(tmp_path / "content")
    book.add(BookedReceipt(RECEIPT, b"\xcc" * 32, 1, 0, 30, b"\0", b"\x02" * 32), 100, b"\x05" * 65)
    content.put_named(ROOT, encode_receipt_list([RECEIPT]))
    content.put_named(RECEIPT, b"body")
    book.begin_settlement(ROOT, b"payload", 4, [RECEIPT])
    book.finish_settlement(ROOT)
    asked: list[bytes] = []

    async def publish(data: bytes) -> bytes:
        asked.append(data)
        raise DAUnavailable("the DA server does not answer")

    class Ledger:
        """In which every settlement is already."""

        def settlement_with_root(self, root: bytes) -> int:
            return 7

    settler = Settler(
        book=book,
        content=content,
        registry=cast(Any, Ledger),
        publish=publish,
        rpc_url="http://127.0.0.1:1",
        provider=Wallet(b"\x11" * 32),
        interval_s=1,
    )
    book.add(BookedReceipt(b"\x03" * 32, b"\xcc" * 32, 1, 30, 40, b"\0", b"\x02" * 32), 100, b"\x05" * 65)
    book.begin_settlement(b"\x0a" * 32, b"payload", 5, [b"\x03" * 32])
    async with RpcClient("http://127.0.0.1:1") as rpc:
        assert await settler.settle_once(rpc)
    settled = book.receipt(b"\x03" * 32)
    assert settled is not None
    assert settled.state == "settled"
    assert len(asked) == 1
    assert book.unpublished_settlements() == [ROOT, b"\x0a" * 32]

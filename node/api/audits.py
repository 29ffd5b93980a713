"""POST /v1/receipts/{hash}/audit: re-do an answer on this node and stream what is found, one event a finding.

Heavy, so only callers on this machine may ask, and one audit runs at a time; others wait.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import asdict

import orjson
import trio

from openledger.node.api.errors import ApiError, answering, hash_parameter
from openledger.node.audit import Auditor, Finding
from openledger.node.http import Request, Response, Router, StreamingResponse
from openledger.node.receipt_sync import ReceiptSync

MAX_WAITING = 8


class AuditsApi:
    """`auditor()` raises ApiError while the engine is not ready."""

    def __init__(self, auditor: Callable[[], Auditor], receipts: ReceiptSync) -> None:
        self._auditor = auditor
        self._receipts = receipts
        self._one = trio.Lock()

    def mount(self, router: Router) -> None:
        router.add("POST", "/v1/receipts/{hash}/audit", answering(self.audit))

    async def audit(self, request: Request) -> Response | StreamingResponse:
        receipt_hash = hash_parameter(request, "hash")
        if not request.is_loopback:
            raise ApiError(403, "not_allowed", "only callers on this machine may have receipts audited: run a node")
        if self._one.statistics().tasks_waiting >= MAX_WAITING:
            raise ApiError(503, "overloaded", "too many audits are waiting: try again later", "server_error")
        auditor = self._auditor()
        await self._receipts.body(receipt_hash)
        await self._receipts.adapters(receipt_hash)
        await self._receipts.settlement_lists()
        return StreamingResponse(self._findings(auditor, receipt_hash))

    async def _findings(self, auditor: Auditor, receipt_hash: bytes) -> AsyncGenerator[bytes, None]:
        await self._one.acquire()
        try:
            async with aclosing(auditor.audit(receipt_hash)) as findings:
                async for finding in findings:
                    yield _event(finding)
        finally:
            self._one.release()
        yield b"data: [DONE]\n\n"


def _event(finding: Finding) -> bytes:
    return b"data: " + orjson.dumps(asdict(finding)) + b"\n\n"

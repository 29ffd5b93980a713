"""GET /v1/receipts and /v1/receipts/{hash}: what was answered, by whom it was paid, whether it is settled."""

from __future__ import annotations

from typing import Any

from openledger.evm_ext.proofs.eip712 import Domain
from openledger.node.api.errors import ApiError, answering, hash_parameter
from openledger.node.api.paid_answers import marks
from openledger.node.content import ContentStore
from openledger.node.http import Request, Response, Router
from openledger.node.receipts import BookedReceipt, ReceiptBook
from openledger.node.records import AnswerBody, InvalidRecord

MAX_LISTED = 200


class ReceiptsApi:
    """Reads the provider's book (where this node is a provider) and the content store."""

    def __init__(self, content: ContentStore, domain: Domain, book: ReceiptBook | None) -> None:
        self._content = content
        self._domain = domain
        self._book = book

    def mount(self, router: Router) -> None:
        router.add("GET", "/v1/receipts", self.receipts)
        router.add("GET", "/v1/receipts/{hash}", answering(self.receipt))
        router.add("GET", "/v1/receipts/{hash}/body", answering(self.body))

    async def receipts(self, _request: Request) -> Response:
        listed = self._book.recent(MAX_LISTED) if self._book else []
        return Response.json({"data": [_booked(receipt) for receipt in listed]})

    async def body(self, request: Request) -> Response:
        """The body's bytes, as they are stored: what a verifier reads."""
        return Response(200, self._bytes(request), (("content-type", "application/msgpack"),))

    async def receipt(self, request: Request) -> Response:
        digest = hash_parameter(request, "hash")
        try:
            body = AnswerBody.decode(self._bytes(request))
            receipt = body.signed_receipt()
        except InvalidRecord as error:
            raise ApiError(500, "damaged_receipt", str(error), "server_error") from error
        booked = self._book.receipt(digest) if self._book else None
        return Response.json(
            {
                "hash": "0x" + digest.hex(),
                "receipt": receipt.to_json(),
                "signature": "0x" + body.signature.hex(),
                "typed_data": receipt.typed_data(self._domain),
                "messages": [{"role": m.role, "content": m.content} for m in body.request.messages],
                "prompt": body.request.prompt,
                "schema": body.request.schema or None,
                "adapters": [
                    {"adapter": "0x" + used.digest.hex(), "weight": used.weight_milli / 1000}
                    for used in body.request.adapters
                ],
                "text": body.text,
                "prompt_tokens": len(body.prompt_tokens),
                "output_tokens": len(body.output_tokens),
                "fee_micro_open": receipt.fee,
                "vector": [{"contribution": c, "weight": w} for c, w in body.vector],
                "marks": marks(receipt.mode),
                "state": booked.state if booked else None,
                "receipts_root": "0x" + booked.root.hex() if booked and booked.root else None,
            }
        )

    def _bytes(self, request: Request) -> bytes:
        digest = hash_parameter(request, "hash")
        found = self._content.get_named(digest)
        if found is None:
            raise ApiError(404, "unknown_receipt", f"this node does not have receipt 0x{digest.hex()}")
        return found


def _booked(receipt: BookedReceipt) -> dict[str, Any]:
    return {
        "hash": "0x" + receipt.hash.hex(),
        "channel_id": "0x" + receipt.channel.hex(),
        "release": receipt.release,
        "fee_micro_open": receipt.after - receipt.before,
        "state": receipt.state,
        "receipts_root": "0x" + receipt.root.hex() if receipt.root else None,
    }

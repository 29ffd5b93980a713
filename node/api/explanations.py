"""GET /v1/receipts/{hash}/explanation: why each contributor got what of an answer's fee."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import trio

from openledger.evm_ext.proofs.content import InvalidContent
from openledger.kernels.model.tokenizer import ModelTokenizer
from openledger.node.api.errors import ApiError, answering, hash_parameter
from openledger.node.content import ContentStore
from openledger.node.datanets.documents import MAX_METADATA_BYTES, BadMetadata, DocumentMetadata
from openledger.node.explanation import Decode, explain, shown
from openledger.node.http import Request, Response, Router
from openledger.node.records import AnswerBody, InvalidRecord
from openledger.node.registry import NotRegistered, Registry


class ExplanationsApi:
    """`registry` reads the contracts at the head; `tokenizer` gives None where no model is ready: then the answer is not
    cut into its spans."""

    def __init__(
        self, content: ContentStore, registry: Callable[[], Registry], tokenizer: Callable[[], ModelTokenizer | None]
    ) -> None:
        self._content = content
        self._registry = registry
        self._tokenizer = tokenizer

    def mount(self, router: Router) -> None:
        router.add("GET", "/v1/receipts/{hash}/explanation", answering(self.explanation))

    async def explanation(self, request: Request) -> Response:
        digest = hash_parameter(request, "hash")
        return Response.json(await trio.to_thread.run_sync(self._explained, digest))

    def _explained(self, digest: bytes) -> dict[str, Any]:
        encoded = self._content.get_named(digest)
        if encoded is None:
            raise ApiError(404, "unknown_receipt", f"this node does not have receipt 0x{digest.hex()}")
        registry = self._registry()
        tokenizer = self._tokenizer()
        decode: Decode | None = tokenizer.decode if tokenizer is not None else None
        try:
            body = AnswerBody.decode(encoded)
            release = registry.release(body.request.release)
            explained = explain(body, release, registry.contribution, registry.platform_bps(), decode)
        except (InvalidRecord, NotRegistered) as error:
            raise ApiError(500, "damaged_receipt", str(error), "server_error") from error
        return shown(explained, digest, self._metadata)

    def _metadata(self, content_hash: bytes) -> dict[str, Any] | None:
        """What goes with a document, where it is here: anyone can register any hash."""
        try:
            data = self._content.get(content_hash, MAX_METADATA_BYTES)
            return None if data is None else dict(orjson.loads(DocumentMetadata.decode(data).encode()))
        except (InvalidContent, BadMetadata):
            return None

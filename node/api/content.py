"""Documents and other content over REST.

POST /v1/documents?name=&licence=&title=   the body is the document, .txt or .md; 201 once it is on disk. Text that was taken from
     another file names it: &source={"name", "mediaType", "hash", "tool"}
POST /v1/content                           a JSON object of at most 64 KiB (a Datanet's description); 201
GET  /v1/content                           how much of what the chain names is on this node
GET  /v1/content/{hash}                    content by its hash as bytes, a folder as JSON
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import orjson
import trio

from openledger.evm_ext.proofs.content import ContentManifest, InvalidContent, decode_folder
from openledger.evm_ext.proofs.domain import FOLDER
from openledger.node.api.errors import ApiError, hash_parameter
from openledger.node.api.refusals import refusing
from openledger.node.content import ContentStore
from openledger.node.datanets.documents import BadMetadata, source_of
from openledger.node.datanets.follower import ContentFollower
from openledger.node.datanets.service import MAX_SMALL_CONTENT_BYTES, PublishingService
from openledger.node.http import Request, Response, Router, StreamingResponse

# Contributed bytes must never run as a page of this origin.
_HEADERS = (
    ("content-type", "text/plain; charset=utf-8"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("cache-control", "public, max-age=31536000, immutable"),
)


class ContentApi:
    """See the module's text. `publishing` None: this node takes no content in."""

    def __init__(self, content: ContentStore, follower: ContentFollower, publishing: PublishingService | None) -> None:
        self._content = content
        self._follower = follower
        self._publishing = publishing

    def mount(self, router: Router) -> None:
        router.add("POST", "/v1/documents", refusing(self.add_document))
        router.add("POST", "/v1/content", refusing(self.add_content))
        router.add("GET", "/v1/content", refusing(self.progress))
        router.add("GET", "/v1/content/{hash}", refusing(self.get))

    def _taking(self) -> PublishingService:
        if self._publishing is None:
            raise ApiError(
                403, "not_taking_content", "this node takes no content in: upload to a sequencer or serving node"
            )
        return self._publishing

    async def add_document(self, request: Request) -> Response:
        publishing = self._taking()
        for parameter in ("name", "licence"):
            if not request.query.get(parameter):
                raise ApiError(
                    400,
                    "bad_parameter",
                    f"{parameter} is missing: POST /v1/documents?name=whales.md&licence=CC0-1.0 with the document as body",
                )
        try:
            source = source_of(orjson.loads(request.query.get("source", "null")))
        except orjson.JSONDecodeError as error:
            raise BadMetadata("source is not JSON: it names the file that the text was taken from") from error
        accepted = await publishing.accept_document(
            request.query["name"], request.body, request.query["licence"], request.query.get("title", ""), source
        )
        return Response.json(
            {
                "document_hash": "0x" + accepted.document_hash.hex(),
                "metadata_hash": "0x" + accepted.metadata_hash.hex(),
                "size": accepted.size,
                "words": accepted.words,
                "metadata": orjson.loads(accepted.metadata.encode()),
            },
            201,
        )

    async def add_content(self, request: Request) -> Response:
        publishing = self._taking()
        if len(request.body) > MAX_SMALL_CONTENT_BYTES:
            raise ApiError(413, "content_too_large", f"content here has at most {MAX_SMALL_CONTENT_BYTES:,} bytes")
        try:
            value = orjson.loads(request.body)
        except orjson.JSONDecodeError as error:
            raise ApiError(400, "bad_request", f"the body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise ApiError(400, "bad_request", "the body must be a JSON object")
        data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        return Response.json({"content_hash": "0x" + (await publishing.accept_content(data)).hex()}, 201)

    async def progress(self, _request: Request) -> Response:
        progress = self._follower.progress()
        return Response.json(
            {
                "wanted": progress.wanted,
                "held": progress.held,
                "missing": [
                    {
                        "hash": "0x" + wanted.hash.hex(),
                        "kind": wanted.kind,
                        "of": wanted.of,
                        "refused": self._follower.refused(wanted.hash),
                    }
                    for wanted in progress.missing
                ],
            }
        )

    async def get(self, request: Request) -> Response | StreamingResponse:
        digest = hash_parameter(request, "hash")
        first = await trio.to_thread.run_sync(self._content.get_object, digest)
        if first is None:
            raise ApiError(404, "content_not_found", f"this node does not have content 0x{digest.hex()}")
        try:
            if first[:1] == FOLDER:
                files = decode_folder(first, digest)
                return Response.json({"files": {path: "0x" + found.hex() for path, found in files.items()}})
            manifest = ContentManifest.decode(first, digest)
        except InvalidContent:
            raise ApiError(
                404, "content_not_found", f"0x{digest.hex()} names a piece of content: ask for the whole by its hash"
            ) from None
        held = await trio.to_thread.run_sync(
            lambda: all(self._content.get_object(chunk) is not None for chunk in manifest.chunks)
        )
        if not held:
            raise ApiError(
                503, "content_incomplete", "this node is still fetching that content: try again", "server_error"
            )
        return StreamingResponse(
            self._chunks(manifest), headers=(("x-content-length", str(manifest.length)), *_HEADERS)
        )

    async def _chunks(self, manifest: ContentManifest) -> AsyncGenerator[bytes, None]:
        for digest in manifest.chunks:
            chunk = await trio.to_thread.run_sync(self._content.get_object, digest)
            if chunk is None:
                raise InvalidContent(f"chunk 0x{digest.hex()} went away")
            yield chunk

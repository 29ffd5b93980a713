"""POST /v1/embeddings: vectors of texts by the encoder that also finds passages, with the same bits on every machine.

A component is a whole number of 512ths; the vector's length is 1 but for that rounding and for components cut at 127/512.
Free of charge, as no release is asked and no receipt given; so there are bounds, and a node need not offer it.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import numpy as np
import trio

from openledger.kernels.attribution.client import AttributionClient
from openledger.kernels.attribution.errors import AttributionError
from openledger.node.api.errors import ApiError, answering
from openledger.node.api.models import EMBEDDER
from openledger.node.api.parameters import decode_body, refuse
from openledger.node.http import Request, Response, Router

DIMENSIONS = 384
READ_TOKENS = 256
MAX_TEXTS = 1_000
MAX_CHARACTERS = 250_000
MAX_WAITING = 16
TEXTS_AT_ONCE = 4
"""Between so many texts, searches for paid answers have their turn."""

_QUANTUM = np.float32(2.0**-9)
_NAMES = (EMBEDDER.lower(), f"sentence-transformers/{EMBEDDER}".lower())


class EmbeddingBody(msgspec.Struct, frozen=True):
    """The fields of OpenAI's request, and vLLM's `truncate_prompt_tokens`: -1 reads of a long text what can be read."""

    model: str
    input: str | list[Any]
    encoding_format: str | None = None
    dimensions: int | None = None
    truncate_prompt_tokens: int | None = None


class EmbeddingsApi:
    """The handler; see the module's text. Where it is not `offered`, it says so."""

    def __init__(self, attribution: AttributionClient, *, offered: bool) -> None:
        self._attribution = attribution
        self._offered = offered
        self._one = trio.Lock()

    def mount(self, router: Router) -> None:
        router.add("POST", "/v1/embeddings", answering(self.embed))

    async def embed(self, http: Request) -> Response:
        if not self._offered:
            raise ApiError(403, "embeddings_off", "this node embeds no texts: its operator may set embeddings = true")
        body = decode_body(http.body, EmbeddingBody, "a request for embeddings")
        texts = _checked(body)
        if self._one.statistics().tasks_waiting >= MAX_WAITING:
            raise ApiError(503, "overloaded", "too many texts are waiting: try again later", "server_error")
        return await http.run_until_disconnect(self._embed, body, texts)

    async def _embed(self, body: EmbeddingBody, texts: list[str]) -> Response:
        vectors: list[bytes] = []
        tokens = 0
        async with self._one:
            for first in range(0, len(texts), TEXTS_AT_ONCE):
                try:
                    found = await self._attribution.embed_counted(texts[first : first + TEXTS_AT_ONCE])
                except AttributionError as error:
                    raise ApiError(503, "embedding_failed", f"try again: {error}", "server_error") from error
                for number, count in enumerate(found.tokens, first):
                    if count > READ_TOKENS and body.truncate_prompt_tokens is None:
                        raise refuse(
                            "input",
                            f"text {number} has {count} tokens, {EMBEDDER} reads {READ_TOKENS}: "
                            "cut it, or send truncate_prompt_tokens = -1 to have its beginning embedded",
                        )
                    tokens += min(count, READ_TOKENS)
                vectors += found.vectors
        shown = _base64 if body.encoding_format == "base64" else _floats
        return Response.json(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": number, "embedding": shown(vector)}
                    for number, vector in enumerate(vectors)
                ],
                "model": EMBEDDER,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
                "openledger": {"fee_micro_open": 0, "numerics": "exact-1"},
            }
        )


def _checked(body: EmbeddingBody) -> list[str]:
    """The texts. Raises ApiError naming what is wrong."""
    if body.model.lower() not in _NAMES:
        raise ApiError(
            404, "model_not_found", f"texts are embedded by {EMBEDDER}, not {body.model!r:.200}", param="model"
        )
    if body.encoding_format not in (None, "float", "base64"):
        raise refuse("encoding_format", f"encoding_format is float or base64, not {body.encoding_format!r:.80}")
    if body.dimensions not in (None, DIMENSIONS):
        raise refuse(
            "dimensions", f"{EMBEDDER} gives {DIMENSIONS} dimensions, and fewer of them mean nothing: leave it out"
        )
    if body.truncate_prompt_tokens not in (None, -1, READ_TOKENS):
        raise refuse("truncate_prompt_tokens", f"truncate_prompt_tokens is -1 or {READ_TOKENS}")
    texts = [body.input] if isinstance(body.input, str) else body.input
    if any(isinstance(text, int | list) for text in texts):
        raise refuse(
            "input",
            "input is text: tokens of another model's tokenizer mean nothing here "
            "(langchain: check_embedding_ctx_length=False)",
        )
    if not 0 < len(texts) <= MAX_TEXTS or any(not isinstance(text, str) or not text for text in texts):
        raise refuse("input", f"input is a text or a list of 1 to {MAX_TEXTS} texts, none empty")
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise refuse(
            "input", f"the texts of one call may have {MAX_CHARACTERS:,} characters together: send fewer at once"
        )
    return texts


def _components(vector: bytes) -> Any:
    return np.frombuffer(vector, np.int8).astype("<f4") * _QUANTUM


def _floats(vector: bytes) -> list[float]:
    return [float(component) for component in _components(vector)]


def _base64(vector: bytes) -> str:
    return base64.b64encode(_components(vector).astype("<f4").tobytes()).decode()

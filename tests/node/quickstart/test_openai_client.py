"""The openai package against an endpoint that behaves as ours can: refusals, larger vouchers, errors within a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from openledger.node.http import Request, Response, Router, StreamingResponse, serve_http
from openledger.node.payer import Api, ApiRefused, ApiUnavailable, Payer, Provider
from openledger.node.payments import PAYMENT_HEADER, parse_voucher
from openledger.node.quickstart import openai_client
from openledger.node.wallet import Wallet

BODY = {
    "model": "whales",
    "messages": [{"role": "user", "content": "What is ambergris?"}],
    "max_tokens": 8,
    "temperature": 0.0,
    "openledger": {"passages": 3},
}
PAYER = Payer.of(Wallet(b"\x11" * 32), Provider(b"\xaa" * 20, 161_299, 40))
END = {"receipt_hash": "0xab"}


def refusal(code: str, needed: int) -> Response:
    answer = {
        "error": {"message": code, "type": "payment_required", "code": code, "param": None},
        "accepts": [{"extra": {"minimumMaxClaimable": needed}}],
    }
    return Response.json(answer, 402)


def chunk(content: str = "", **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    envelope = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "whales"}
    return b"data: " + json.dumps({**envelope, "choices": [choice], **more}).encode() + b"\n\n"


@pytest.fixture
async def endpoint(nursery: Any) -> AsyncIterator[Callable[..., Any]]:
    """`endpoint(ending)` serves; `ending` is what the stream ends with; `needed` grows once, as another call's does."""
    asked: list[dict[str, Any]] = []
    opened: list[Api] = []

    async def start(ending: list[bytes], needed: int = 100) -> tuple[Api, list[dict[str, Any]]]:
        async def complete(request: Request) -> Response | StreamingResponse:
            asked.append(json.loads(request.body))
            header = request.headers.get(PAYMENT_HEADER)
            if header is None:
                return refusal("payment_required", 60)
            if parse_voucher(header).voucher.max_claimable < needed:
                return refusal("voucher_too_small", needed)

            async def stream() -> AsyncGenerator[bytes, None]:
                yield chunk("Am")
                yield chunk("bergris")
                for part in ending:
                    yield part

            return StreamingResponse(stream())

        async def channel(_: Request) -> Response:
            return Response.json({"next_voucher_above_micro_open": 20})

        router = Router()
        router.add("POST", "/v1/chat/completions", complete)
        router.add("GET", "/v1/channels/{id}", channel)
        server = await nursery.start(serve_http, router)
        opened.append(Api(server.url))
        return opened[-1], asked

    yield start
    for api in opened:
        await api.http.aclose()


@pytest.fixture(params=["openai", "own client"])
def either_client(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "openai":
        pytest.importorskip("openai")
    else:
        monkeypatch.setattr(openai_client, "is_installed", lambda: False)
    return str(request.param)


async def test_an_unpaid_call_is_told_its_price(endpoint: Callable[..., Any], either_client: str) -> None:
    api, _ = await endpoint([])
    refused = await openai_client.ask_unpaid(api, BODY)
    assert (refused.status, refused.code) == (402, "payment_required")
    assert refused.answer["accepts"][0]["extra"]["minimumMaxClaimable"] == 60


async def test_an_answer_streams_and_a_larger_voucher_is_signed_when_asked_for(
    endpoint: Callable[..., Any], either_client: str
) -> None:
    api, asked = await endpoint([chunk(openledger=END), b"data: [DONE]\n\n"])
    heard: list[str] = []
    assert await openai_client.ask(PAYER, api, BODY, heard.append) == END
    assert "".join(heard) == "Ambergris"
    assert asked[-1]["openledger"] == {"passages": 3}
    assert asked[-1]["stream"] is True
    assert len(asked) == 3, "a quote, a voucher for 80 that is too small, one for 100"


async def test_an_error_within_the_stream_is_said(endpoint: Callable[..., Any], either_client: str) -> None:
    error = {"error": {"message": "the engine died; nothing is owed", "type": "server_error", "code": "engine_died"}}
    api, _ = await endpoint([b"data: " + json.dumps(error).encode() + b"\n\n"])
    with pytest.raises(ApiRefused, match="nothing is owed"):
        await openai_client.ask(PAYER, api, BODY, lambda _: None)


async def test_an_answer_that_breaks_off_is_asked_for_again_by_the_story(
    endpoint: Callable[..., Any], either_client: str
) -> None:
    api, _ = await endpoint([])
    with pytest.raises(ApiUnavailable, match="broke off"):
        await openai_client.ask(PAYER, api, BODY, lambda _: None)


async def test_nobody_there_is_an_absence_and_not_a_refusal() -> None:
    pytest.importorskip("openai")
    async with Api("http://127.0.0.1:9") as api:
        with pytest.raises(ApiUnavailable):
            await openai_client.ask_unpaid(api, BODY)

"""A paid question by the `openai` Python package, as any program asks one; our own client where it is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import trio

from openledger.node.errors import UserError
from openledger.node.payer import Api, ApiRefused, ApiUnavailable, Payer
from openledger.node.payments import PAYMENT_HEADER


def is_installed() -> bool:
    """Whether the `openai` package can be imported."""
    return importlib.util.find_spec("openai") is not None


async def ask_unpaid(api: Api, body: dict[str, Any]) -> ApiRefused:
    """What a call without a voucher is answered: 402. Raises UserError where it is answered at all."""
    try:
        if is_installed():
            await trio.to_thread.run_sync(_stream, api.url, body, None, lambda _: None)
        else:
            await api.request("POST", "/v1/chat/completions", json=body)
    except ApiRefused as refused:
        if refused.status != 402:
            raise
        return refused
    raise UserError("the endpoint answered a call that nobody paid for")


async def ask(payer: Payer, api: Api, body: dict[str, Any], on_text: Callable[[str], None]) -> dict[str, Any]:
    """Ask, and give the `openledger` part of the answer: citations, vector, fee, receipt.

    Raises ApiUnavailable, ApiRefused, UserError.
    """
    if not is_installed():
        end: dict[str, Any] = {}
        async with aclosing(payer.ask(api, body)) as chunks:
            async for chunk in chunks:
                for choice in chunk["choices"]:
                    on_text(choice["delta"].get("content", ""))
                end = chunk.get("openledger", end)
        return _whole(end, api.url)
    voucher = await payer.voucher_for(api, body)
    for _ in range(4):
        try:
            return await trio.to_thread.run_sync(
                _stream, api.url, body, voucher.header(), lambda text: trio.from_thread.run_sync(on_text, text)
            )
        except ApiRefused as refused:
            needed = (refused.answer.get("accepts") or [{}])[0].get("extra", {}).get("minimumMaxClaimable")
            if refused.code not in ("voucher_too_small", "replayed_voucher") or not needed:
                raise
            voucher = payer.voucher(int(needed))
    raise UserError("the provider keeps asking for larger vouchers")


def _stream(url: str, body: dict[str, Any], voucher: str | None, on_text: Callable[[str], None]) -> dict[str, Any]:
    """The whole call with OpenAI's client, in its own thread."""
    import openai

    arguments = {**body, "extra_body": {"openledger": body["openledger"]}, "stream": True}
    del arguments["openledger"]
    headers = {PAYMENT_HEADER: voucher} if voucher is not None else {}
    end: dict[str, Any] = {}
    try:
        with openai.OpenAI(
            base_url=f"{url}/v1",
            api_key="vouchers-pay",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        ) as client:
            for chunk in client.chat.completions.create(**arguments, extra_headers=headers):
                for choice in chunk.choices:
                    if choice.delta.content:
                        on_text(choice.delta.content)
                end = (chunk.model_extra or {}).get("openledger", end)
    except openai.APIStatusError as error:
        raise ApiRefused(error.status_code, _json(error)) from error
    except openai.APIConnectionError as error:
        raise ApiUnavailable(f"no answer from {url}: is the node running? `openledger dev` starts one") from error
    except openai.APIError as error:  # an error within the stream
        body_of_error = error.body if isinstance(error.body, dict) else {"message": str(error)}
        raise ApiRefused(500, {"error": body_of_error}) from error
    return _whole(end, url)


def _whole(end: dict[str, Any], url: str) -> dict[str, Any]:
    if not end:
        raise ApiUnavailable(f"the answer of {url} broke off before its receipt: nothing is owed for it")
    return end


def _json(error: Any) -> dict[str, Any]:
    try:
        answer = error.response.json()
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"error": {"message": str(error)}}

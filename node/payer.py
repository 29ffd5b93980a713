"""The payer's side of a call: a channel with the provider, a voucher for each call, the answer as it streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from openledger.evm_ext.proofs.receipt import ChannelTerms, Voucher, ledger_domain
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.node.errors import UserError
from openledger.node.payments import PAYMENT_HEADER, SignedVoucher
from openledger.node.predeploy_contracts import inference_ledger
from openledger.node.rpc_client import RpcClient
from openledger.node.wallet import Wallet

NO_SALT = bytes(32)


class ApiUnavailable(UserError):
    """Nothing answers at the API's address."""


class ApiRefused(UserError):
    """The API answered with an error: `status`, `code`, and the whole answer."""

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        error = answer.get("error") or {}
        super().__init__(str(error.get("message", f"the API answered with status {status}")))
        self.status = status
        self.code = str(error.get("code", ""))
        self.answer = answer


@dataclass(frozen=True)
class Provider:
    """Whom a node's answers pay."""

    address: bytes
    chain_id: int
    min_withdraw_delay: int


class Api:
    """A node's REST API. Use as an async context manager."""

    def __init__(self, url: str, timeout_s: float = 600.0) -> None:
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(timeout_s, connect=5.0), trust_env=False)

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def request(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of an answer. Raises ApiUnavailable and ApiRefused."""
        try:
            response = await self.http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error
        return self._json(response)

    async def get(self, path: str) -> Any:
        """As `request` with GET."""
        return await self.request("GET", path)

    def _unavailable(self, error: httpx.HTTPError) -> ApiUnavailable:
        return ApiUnavailable(
            f"no answer from {self.url} ({type(error).__name__}): is the node running? `openledger dev` starts one"
        )

    @staticmethod
    def _json(response: httpx.Response) -> Any:
        try:
            answer = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            answer = {"error": {"message": response.text[:300] or f"status {response.status_code}"}}
        if response.status_code >= 400:
            raise ApiRefused(response.status_code, answer if isinstance(answer, dict) else {})
        return answer

    async def provider(self) -> Provider:
        """Whom this node's answers pay."""
        answer = await self.get("/v1/provider")
        return Provider(bytes.fromhex(answer["provider"][2:]), answer["chain_id"], answer["min_withdraw_delay_blocks"])

    async def events(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> AsyncGenerator[Any, None]:
        """The JSON of each server-sent event of a POST, until `[DONE]`. Raises ApiUnavailable and ApiRefused."""
        try:
            async with self.http.stream("POST", path, json=body, headers=headers) as response:
                if response.status_code >= 400:
                    await response.aread()
                    self._json(response)
                async for line in response.aiter_lines():
                    if line == "data: [DONE]":
                        return
                    if line.startswith("data: "):
                        event = orjson.loads(line[6:])
                        if "error" in event:
                            raise ApiRefused(500, event)
                        yield event
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error


@dataclass(frozen=True)
class Payer:
    """A wallet's channel with a provider. `terms` follow from the two addresses, so nothing need be remembered."""

    wallet: Wallet
    terms: ChannelTerms
    chain_id: int

    @classmethod
    def of(cls, wallet: Wallet, provider: Provider) -> Payer:
        """The channel between this wallet and the provider, opened or not."""
        terms = ChannelTerms(wallet.address, provider.address, wallet.address, provider.min_withdraw_delay, NO_SALT)
        return cls(wallet, terms, provider.chain_id)

    async def fund(self, rpc: RpcClient, api: Api, amount: int) -> bool:
        """Open the channel with `amount` micro-OPEN, or top it up by that much. Returns whether it was opened now.

        Raises TransactionReverted, RpcError, RpcUnavailable.
        """
        value = amount * MICRO_OPEN_WEI
        if await self.state(api) is not None:
            await self.wallet.send(rpc, inference_ledger(), "topUp", self.terms.id, value_wei=value)
            return False
        terms = self.terms
        await self.wallet.send(
            rpc,
            inference_ledger(),
            "open",
            terms.receiver,
            terms.authorizer,
            terms.withdraw_delay,
            terms.salt,
            value_wei=value,
        )
        return True

    async def state(self, api: Api) -> dict[str, Any] | None:
        """What the provider says of the channel; None before it is opened."""
        try:
            found: dict[str, Any] = await api.get(f"/v1/channels/0x{self.terms.id.hex()}")
        except ApiRefused as error:
            if error.status == 404:
                return None
            raise
        return found

    def voucher(self, max_claimable: int) -> SignedVoucher:
        """A signed voucher: of this channel, up to `max_claimable` micro-OPEN may be claimed, ever."""
        voucher = Voucher(self.terms.id, max_claimable)
        return SignedVoucher(voucher, voucher.sign(ledger_domain(self.chain_id), self.wallet.private_key))

    async def voucher_for(self, api: Api, body: dict[str, Any]) -> SignedVoucher:
        """The smallest voucher that admits this call: what the channel owes and what the call can cost.

        Raises ApiRefused; UserError when the channel is not open.
        """
        state = await self.state(api)
        if state is None:
            raise UserError("there is no channel with this provider yet: `openledger channel open` makes one")
        most = 0
        try:
            await api.request("POST", "/v1/chat/completions", json={**body, "stream": False})
        except ApiRefused as refused:
            if refused.code != "payment_required":
                raise
            most = int(refused.answer["accepts"][0]["extra"]["minimumMaxClaimable"])
        return self.voucher(int(state["next_voucher_above_micro_open"]) + most)

    async def ask(self, api: Api, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Stream an answer's chunks in OpenAI's form; the last holds the `openledger` part.

        Signs a larger voucher when the provider names one, as it does when passages make the prompt longer.
        Raises ApiUnavailable, ApiRefused, UserError.
        """
        voucher = await self.voucher_for(api, body)
        for _ in range(3):
            headers = {PAYMENT_HEADER: voucher.header()}
            try:
                async with aclosing(api.events("/v1/chat/completions", {**body, "stream": True}, headers)) as events:
                    async for event in events:
                        yield event
                return
            except ApiRefused as refused:
                needed = (refused.answer.get("accepts") or [{}])[0].get("extra", {}).get("minimumMaxClaimable")
                if refused.code not in ("voucher_too_small", "replayed_voucher") or not needed:
                    raise
                voucher = self.voucher(int(needed))
        raise UserError("the provider keeps asking for larger vouchers: try again, or pass fewer passages")

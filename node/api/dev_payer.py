"""POST /v1/dev/voucher: on a development network, pay for the page's questions from a well-known account.

So that a browser without a wallet can ask at once. Whoever may call it spends that account's money, so it answers
only programs on this machine, and of browser pages only this node's own. It is never mounted on another network.
"""

from __future__ import annotations

import msgspec
import trio

from openledger.genesis.dev_accounts import dev_account
from openledger.node.api.errors import ApiError, answering
from openledger.node.api.local_callers import require_local_json
from openledger.node.config import Endpoints
from openledger.node.http import Request, Response, Router, require_modest_json
from openledger.node.payer import Api, ApiRefused, ApiUnavailable, Payer
from openledger.node.rpc_client import RpcClient, RpcError, RpcUnavailable
from openledger.node.wallet import TransactionReverted, Wallet

PAYER_ACCOUNT = 4
DEPOSIT_MICRO_OPEN = 5_000_000
"""What the channel is opened with, and topped up by."""
MAX_CALL_MICRO_OPEN = 1_000_000_000


class _VoucherFor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`most`: the greatest fee of the call to pay for, in micro-OPEN."""

    most: int


class NotDevelopment(ValueError):
    """This endpoint was to be made on a network whose money is real."""


class DevPayerApi:
    """Signs vouchers as development account 4, over the same API and JSON-RPC that any payer uses."""

    def __init__(self, endpoints: Endpoints, *, development: bool) -> None:
        """Raises NotDevelopment."""
        if not development:
            raise NotDevelopment("vouchers of development accounts are only signed on a development network")
        self._endpoints = endpoints
        self._wallet = Wallet(dev_account(PAYER_ACCOUNT).private_key)
        self._one = trio.Lock()

    def mount(self, router: Router) -> None:
        router.add("POST", "/v1/dev/voucher", answering(self.voucher))

    async def voucher(self, request: Request) -> Response:
        """A voucher that admits one call, on a channel opened or topped up for it where needed."""
        require_local_json(request, "development vouchers are signed")
        try:
            require_modest_json(request.body)
            asked = msgspec.json.decode(request.body, type=_VoucherFor)
        except (ValueError, msgspec.MsgspecError) as error:
            raise ApiError(400, "bad_request", f'send {{"most": micro-OPEN}}: {error}') from error
        if not 0 < asked.most <= MAX_CALL_MICRO_OPEN:
            raise ApiError(400, "bad_parameter", f"most must be from 1 to {MAX_CALL_MICRO_OPEN} micro-OPEN")
        try:
            # One at a time: two openings of the same channel would collide.
            async with self._one, Api(self._endpoints.api) as api, RpcClient(self._endpoints.rpc) as rpc:
                return await self._signed(api, rpc, asked.most)
        except (ApiUnavailable, ApiRefused, RpcUnavailable, RpcError, TransactionReverted) as error:
            raise ApiError(
                503, "channel_not_funded", f"the channel could not be paid into: {error}", "server_error"
            ) from error

    async def _signed(self, api: Api, rpc: RpcClient, most: int) -> Response:
        payer = Payer.of(self._wallet, await api.provider())
        state = await payer.state(api)
        above = 0 if state is None else int(state["next_voucher_above_micro_open"])
        needed = above + most
        if state is None or state["deposit_micro_open"] < needed:
            await payer.fund(rpc, api, max(DEPOSIT_MICRO_OPEN, needed - (state["deposit_micro_open"] if state else 0)))
        signed = payer.voucher(needed)
        return Response.json(
            {
                "account": PAYER_ACCOUNT,
                "payer": "0x" + self._wallet.address.hex(),
                "channelId": "0x" + signed.voucher.channel_id.hex(),
                "maxClaimable": str(needed),
                "signature": "0x" + signed.signature.hex(),
            },
            headers=(("cache-control", "no-store"),),
        )

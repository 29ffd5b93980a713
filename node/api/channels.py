"""GET /v1/provider and /v1/channels/{id}: what a payer needs to open a channel and to sign the next voucher."""

from __future__ import annotations

from collections.abc import Callable

from openledger.genesis.predeploys import INFERENCE_LEDGER
from openledger.node.api.errors import ApiError, answering, hash_parameter
from openledger.node.http import Request, Response, Router
from openledger.node.payments import PAYMENT_HEADER, Payments
from openledger.node.registry import Registry


class ChannelsApi:
    """Reads the ledger and the provider's book."""

    def __init__(self, payments: Payments, registry: Callable[[], Registry]) -> None:
        self._payments = payments
        self._registry = registry

    def mount(self, router: Router) -> None:
        router.add("GET", "/v1/provider", self.provider)
        router.add("GET", "/v1/channels/{channel}", answering(self.channel))

    async def provider(self, _request: Request) -> Response:
        registry = self._registry()
        return Response.json(
            {
                "provider": "0x" + self._payments.provider.hex(),
                "chain_id": self._payments.chain_id,
                "ledger": "0x" + INFERENCE_LEDGER.hex(),
                "staked": registry.is_staked(self._payments.provider),
                "min_withdraw_delay_blocks": registry.min_withdraw_delay(),
                "payment_header": PAYMENT_HEADER,
            }
        )

    async def channel(self, request: Request) -> Response:
        channel_id = hash_parameter(request, "channel")
        state = self._registry().channel(channel_id)
        if state is None:
            raise ApiError(404, "unknown_channel", f"there is no channel 0x{channel_id.hex()} on this chain")
        return Response.json(
            {
                "channel_id": "0x" + channel_id.hex(),
                "payer": "0x" + state.payer.hex(),
                "receiver": "0x" + state.receiver.hex(),
                "authorizer": "0x" + state.authorizer.hex(),
                "deposit_micro_open": state.deposit,
                "claimed_micro_open": state.total_claimed,
                "owed_micro_open": self._payments.owed(channel_id, state),
                "next_voucher_above_micro_open": self._payments.next_voucher(channel_id, state, 0),
                "closing": state.closing,
            }
        )

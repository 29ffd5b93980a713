"""GET /v1/accounts/{address} and /v1/contributors: what people earned, what they can claim, and when the rest ripens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import trio

from openledger.evm_ext.chain import Chain
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.node.api.errors import address_parameter, answering
from openledger.node.http import Request, Response, Router
from openledger.node.predeploy_contracts import rewards_distributor
from openledger.node.registry import Registry

MAX_CONTRIBUTORS = 1000


class AccountsApi:
    """Reads balances and credits at the unsafe head."""

    def __init__(self, chain: Chain, registry: Callable[[], Registry]) -> None:
        self._chain = chain
        self._registry = registry
        self._claimed = ClaimedTotals(chain)

    def mount(self, router: Router) -> None:
        router.add("GET", "/v1/accounts/{address}", answering(self.account))
        router.add("GET", "/v1/contributors", self.contributors)

    async def account(self, request: Request) -> Response:
        address = address_parameter(request, "address")
        return Response.json(await trio.to_thread.run_sync(self._account, address))

    async def contributors(self, _request: Request) -> Response:
        """Everyone who contributed, with their documents and earnings."""
        return Response.json({"data": await trio.to_thread.run_sync(self._contributors)})

    def _account(self, address: bytes) -> dict[str, Any]:
        head = self._chain.head("unsafe")
        registry = self._registry()
        earnings = registry.earnings(address)
        blocks = registry.epoch_blocks()
        return {
            "address": "0x" + address.hex(),
            "block": head.number,
            "balance_wei": str(self._chain.state(head.hash).balance(address)),
            "epoch": earnings.epoch,
            "claimable_micro_open": earnings.claimable,
            "pending": [
                {
                    "micro_open": amount,
                    "ripens_in_epoch": earnings.epoch + n,
                    "ripens_at_block": (earnings.epoch + n) * blocks,
                }
                for n, amount in enumerate(earnings.pending, 1)
            ],
            "claimed_micro_open": self._claimed.totals().get(address, 0),
        }

    def _contributors(self) -> list[dict[str, Any]]:
        registry = self._registry()
        claimed = self._claimed.totals()
        documents: dict[bytes, list[dict[str, Any]]] = {}
        for contribution in registry.contributions():
            if len(documents) >= MAX_CONTRIBUTORS and contribution.contributor not in documents:
                continue
            documents.setdefault(contribution.contributor, []).append(
                {
                    "contribution": contribution.id,
                    "datanet": contribution.datanet,
                    "status": contribution.status.name.lower(),
                    "document_hash": "0x" + contribution.document_hash.hex(),
                }
            )
        rows = []
        for address, contributions in documents.items():
            earnings = registry.earnings(address)
            rows.append(
                {
                    "address": "0x" + address.hex(),
                    "contributions": contributions,
                    "claimable_micro_open": earnings.claimable,
                    "pending_micro_open": sum(earnings.pending),
                    "claimed_micro_open": claimed.get(address, 0),
                }
            )
        return rows


class ClaimedTotals:
    """Everything ever claimed, by payee, from the distributor's events. Finalized blocks are read once."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._final: dict[bytes, int] = {}
        self._next = 0
        self._lock = threading.Lock()

    def totals(self) -> dict[bytes, int]:
        """Amounts in micro-OPEN at the unsafe head."""
        with self._lock:
            final = self._chain.head("finalized").number
            if final >= self._next:
                self._add(self._final, self._next, final)
                self._next = final + 1
            totals = dict(self._final)
            self._add(totals, self._next, self._chain.head("unsafe").number)
            return totals

    def _add(self, totals: dict[bytes, int], first: int, last: int) -> None:
        contract = rewards_distributor()
        for located in self._chain.logs(first, last, [contract.address], [[contract.topic("Claimed")]]):
            event = contract.event(located.log.topics, located.log.data)
            assert event is not None
            payee = bytes.fromhex(event.arguments["payee"][2:])
            totals[payee] = totals.get(payee, 0) + int(event.arguments["amount"]) // MICRO_OPEN_WEI

"""Making sure that a provider may settle: it must have a stake in the StakeManager."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from openledger.node.predeploy_contracts import stake_manager
from openledger.node.registry import Registry
from openledger.node.rpc_client import RpcClient, RpcError, RpcUnavailable
from openledger.node.wallet import TransactionReverted, Wallet

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 30.0
RETRY_S = 2.0


class ProviderStake:
    """The service that keeps the provider staked. `stake_for_me`: stake the least amount by itself (a devnet does);
    otherwise it only says what is missing."""

    def __init__(
        self,
        registry: Callable[[], Registry],
        provider: Wallet,
        rpc_url: str,
        sending: trio.Lock,
        *,
        stake_for_me: bool,
    ) -> None:
        self._registry = registry
        self._provider = provider
        self._rpc_url = rpc_url
        self._sending = sending
        self._stake_for_me = stake_for_me
        self._problem: str | None = "the stake has not been looked at yet"

    def probe(self) -> str | None:
        """Why receipts could not be settled, or None."""
        return self._problem

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look, and stake where asked to, until cancelled."""
        task_status.started()
        while True:
            try:
                await self._look()
            except (RpcUnavailable, RpcError, TransactionReverted) as error:
                self._problem = f"the stake cannot be placed: {error}"
            await trio.sleep(LOOK_AGAIN_S if self._problem is None else RETRY_S)

    async def _look(self) -> None:
        registry = self._registry()
        address = self._provider.address
        if registry.is_staked(address):
            self._problem = None
            return
        least = registry.min_provider_stake()
        if not self._stake_for_me:
            self._problem = f"provider 0x{address.hex()} is not staked: send {least} wei to StakeManager.stake()"
            return
        async with RpcClient(self._rpc_url) as rpc, self._sending:
            await self._provider.send(rpc, stake_manager(), "stake", value_wei=least)
        log.info("provider staked", provider="0x" + address.hex(), wei=least)
        self._problem = None

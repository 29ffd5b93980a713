"""Where the story plays: both nodes of a devnet, the development accounts, and patience with nodes that restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio

from openledger.genesis.counted import counted
from openledger.genesis.dev_accounts import dev_account
from openledger.genesis.presets import DEVNET
from openledger.node.config import Endpoints
from openledger.node.errors import UserError
from openledger.node.payer import Api, ApiRefused, ApiUnavailable
from openledger.node.quickstart.memory import Memory, StoryState
from openledger.node.quickstart.narrator import Narrator
from openledger.node.rpc_client import RpcClient, RpcUnavailable
from openledger.node.wallet import Wallet

FIRST_ANSWER_S = 30.0
"""How long a node may take to answer at all before it is said that there is none."""
READY_S = 900.0
"""How long its services may take: the model is imported at the first start."""
RETURN_S = 300.0
"""How long a node that was there may be gone."""
LONGEST_PAUSE_S = 10.0
QUIET_S = 60.0
POLL_S = 0.5


class NoNode(UserError):
    """There is no devnet to tell the story on."""


@dataclass
class Scene:
    """What every step works with."""

    node: Api
    rpc: RpcClient
    second: Api
    second_rpc: RpcClient
    memory: Memory
    narrator: Narrator
    drafts: Path

    @property
    def story(self) -> StoryState:
        return self.memory.story

    async def all(self, kind: str) -> list[dict[str, Any]]:
        """Every entry of a list of the API: "datanets" or "releases"."""
        found: list[dict[str, Any]] = []
        while True:
            told = await self.node.get(f"/v1/{kind}?after={len(found)}&limit=500")
            found += told[kind]
            if len(found) >= told["count"] or not told[kind]:
                return found

    def wallet(self, account: int) -> Wallet:
        """The key of a development account; it signs here and is sent nowhere."""
        return Wallet(dev_account(account).private_key)

    async def quiet(self, account: int) -> Wallet:
        """The wallet once nothing of it waits in the pool: what was sent before an interruption is then in a block."""
        wallet = self.wallet(account)
        address = "0x" + wallet.address.hex()

        async def nothing_waits() -> bool:
            counts = {await self.rpc.call("eth_getTransactionCount", address, at) for at in ("latest", "pending")}
            return len(counts) == 1

        await until(nothing_waits, QUIET_S, f"the transactions of account {account} to be in blocks")
        return wallet


async def until(condition: Callable[[], Awaitable[Any]], timeout_s: float, what: str) -> None:
    """Wait for a condition, looked at twice a second. Raises UserError naming `what` was waited for."""
    with trio.move_on_after(timeout_s):
        while not await condition():  # noqa: ASYNC110  # it is asked of a node
            await trio.sleep(POLL_S)
        return
    raise UserError(f"waited {timeout_s:.0f} s for {what}: `openledger health` tells what the node is doing")


@asynccontextmanager
async def open_scene(
    first: Endpoints, second: Endpoints, folder: Path, narrator: Narrator, *, fresh: bool
) -> AsyncIterator[Scene]:
    """Wait until the devnet is ready, and find the story of its chain. Raises NoNode, UserError."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Api(first.api))
        rpc = await stack.enter_async_context(RpcClient(first.rpc))
        health = await wait_until_ready(node, narrator)
        if int(await rpc.call("eth_chainId"), 16) != DEVNET.l2_chain_id:
            raise NoNode(f"{first.rpc} is not a devnet: the story signs with keys that everybody knows")
        if "validator" not in health:
            raise NoNode(
                "this devnet runs without its second node, which checks what the first one does: start it whole"
            )
        genesis = await rpc.call("eth_getBlockByNumber", "0x0", False)
        yield Scene(
            node=node,
            rpc=rpc,
            second=await stack.enter_async_context(Api(second.api)),
            second_rpc=await stack.enter_async_context(RpcClient(second.rpc)),
            memory=Memory(folder / "quickstart.json", genesis["hash"], fresh=fresh),
            narrator=narrator,
            drafts=folder / "quickstart-drafts",
        )


async def wait_until_ready(node: Api, narrator: Narrator, first_answer_s: float = FIRST_ANSWER_S) -> dict[str, str]:
    """The node's services by name, once every one is ready. Raises NoNode."""
    begun = heard = trio.current_time()
    told = ""
    services: dict[str, str] = {}
    with narrator.spinner(f"waiting for {node.url}") as progress:
        while True:
            try:
                # The status is no error here: it says which services are not ready.
                answer = await node.http.get("/health", timeout=5)
                services = answer.json()["services"]
                heard = trio.current_time()
                if answer.status_code == 200:
                    return services
                (first, *more) = (f"{name}: {state}" for name, state in services.items() if state != "ready")
                reason = f"{first}, and {counted(len(more), 'more service')}" if more else first
            except (httpx.HTTPError, ValueError, KeyError) as error:
                reason = f"no answer from {node.url} ({type(error).__name__})"
            progress.update(progress.task_ids[0], note=reason[:160])
            if told != reason and trio.current_time() - begun > 3 and not narrator.console.is_terminal:
                told = reason
                narrator.waiting(reason)
            if trio.current_time() - heard > first_answer_s:
                raise NoNode(
                    f"no node answers at {node.url}: start one with `openledger dev` (or `make dev`) in another terminal, "
                    "and name its --port-offset here if it has one"
                )
            if trio.current_time() - begun > READY_S:
                raise NoNode(f"the node at {node.url} is not ready: {reason}")
            await trio.sleep(0.5)


def is_passing(error: BaseException) -> bool:
    """Whether an error goes away when a node is back."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_passing(inner) for inner in error.exceptions)
    if isinstance(error, ApiRefused):
        return error.status in (502, 503, 504)
    return isinstance(error, ApiUnavailable | RpcUnavailable | httpx.HTTPError)


def _message(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


async def patiently(
    act: Callable[[], Awaitable[Any]], node: Api, narrator: Narrator, patience_s: float = RETURN_S
) -> None:
    """Run `act`, again from its beginning whenever a node was not there, for up to `patience_s` of failing.

    `act` looks at the chain before it does anything, so that what was done is not done again.
    """
    failing_since: float | None = None
    pause = 0.5
    while True:
        begun = trio.current_time()
        try:
            await act()
            return
        except Exception as error:
            if not is_passing(error):
                raise
            now = trio.current_time()
            # What ran for long before it failed got somewhere: the time starts anew.
            if failing_since is None or now - begun > patience_s / 2:
                failing_since, pause = now, 0.5
            if now - failing_since > patience_s:
                raise
            narrator.waiting(_message(error))
        await trio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
        await wait_until_ready(node, narrator, first_answer_s=patience_s)

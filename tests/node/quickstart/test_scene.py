"""A node that is not there is waited for in words, for a while, and then named."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from openledger.node.http import Request, Response, Router, serve_http
from openledger.node.payer import Api, ApiRefused, ApiUnavailable
from openledger.node.quickstart.narrator import Narrator
from openledger.node.quickstart.scene import NoNode, is_passing, patiently, wait_until_ready
from openledger.node.rpc_client import RpcUnavailable
from openledger.node.wallet import TransactionReverted


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def slow_node(nursery: Any) -> AsyncIterator[Api]:
    """A node whose services are ready at the third look."""
    looks = 0

    async def health(_: Request) -> Response:
        nonlocal looks
        looks += 1
        state = "ready" if looks > 2 else "loading the model"
        return Response.json({"services": {"api": "ready", "engine": state}}, 200 if looks > 2 else 503)

    router = Router()
    router.add("GET", "/health", health)
    server = await nursery.start(serve_http, router)
    async with Api(server.url) as api:
        yield api


async def test_services_that_are_not_ready_are_waited_for(slow_node: Api, narrator: Narrator) -> None:
    assert await wait_until_ready(slow_node, narrator) == {"api": "ready", "engine": "ready"}


async def test_where_no_node_is_it_says_how_to_start_one(unused_port: int, narrator: Narrator) -> None:
    async with Api(f"http://127.0.0.1:{unused_port}") as api:
        with pytest.raises(NoNode, match="openledger dev"):
            await wait_until_ready(api, narrator, first_answer_s=0.2)


async def test_a_step_is_told_again_when_the_node_is_back(slow_node: Api, narrator: Narrator) -> None:
    tries = 0

    async def step() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ExceptionGroup("a nursery", [ExceptionGroup("inner", [ApiUnavailable("nobody there")])])

    await patiently(step, slow_node, narrator)
    assert tries == 3
    written = narrator.console.file.getvalue()  # type: ignore[attr-defined]
    assert "waiting for the node: nobody there" in written


async def test_what_will_not_pass_ends_the_story_at_once(slow_node: Api, narrator: Narrator) -> None:
    tries = 0

    async def step() -> None:
        nonlocal tries
        tries += 1
        raise TransactionReverted("NotOwner()")

    with pytest.raises(TransactionReverted, match="NotOwner"):
        await patiently(step, slow_node, narrator)
    assert tries == 1


async def test_patience_ends(slow_node: Api, narrator: Narrator) -> None:
    async def step() -> None:
        raise RpcUnavailable("gone for good")

    with pytest.raises(RpcUnavailable, match="gone for good"):
        await patiently(step, slow_node, narrator, patience_s=0.7)


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ApiUnavailable("x"), True),
        (RpcUnavailable("x"), True),
        (httpx.ReadError("x"), True),
        (ApiRefused(503, {}), True),
        (ApiRefused(409, {}), False),
        (ApiRefused(402, {}), False),
        (TransactionReverted("x"), False),
        (ExceptionGroup("g", [ApiUnavailable("x"), RpcUnavailable("y")]), True),
        (ExceptionGroup("g", [ApiUnavailable("x"), TransactionReverted("y")]), False),
        (KeyError("a bug"), False),
    ],
)
def test_only_an_absent_node_passes(error: BaseException, passing: bool) -> None:
    assert is_passing(error) is passing

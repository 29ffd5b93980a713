"""An engine that dies while it answers, however fast it is."""

from collections.abc import Awaitable, Callable

import trio

from openledger.kernels.engine.client import EngineClient
from openledger.kernels.engine.messages import Failed, Generate, Token


async def killed_in_the_middle(engine: EngineClient, kill: Callable[[], Awaitable[None]]) -> Failed:
    """How an answer ended during which `kill` was called, after its first token. One that was over before anybody noticed is
    asked for again, once the engine is back."""
    for attempt in range(50):
        before, begun = engine.restarts, False
        request = Generate(request_id=f"long {attempt}", prompt_tokens=[1, 2, 3], max_tokens=240, stop_tokens=[])
        async for event in engine.generate(request):
            if isinstance(event, Token) and not begun:
                begun = True
                await kill()
            elif begun and isinstance(event, Failed):
                return event
        while begun and engine.restarts == before:  # noqa: ASYNC110  it is told of by nothing else
            await trio.sleep(0.05)
        await engine.ready()
    raise AssertionError("fifty answers were over before their engine died")

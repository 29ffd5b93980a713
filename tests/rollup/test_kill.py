"""kill -9 of everything at once, at any moment, and again: what was built stays, and the nodes still agree."""

import random
import sys
from pathlib import Path

import pytest
import trio

TARGET = Path(__file__).with_name("killed_network.py")


async def run_and_kill(folder: Path, rounds: int, delay_s: float) -> int:
    """Let the network go through some rounds, kill it a little later; the last height it told."""
    process = await trio.lowlevel.open_process([sys.executable, str(TARGET), str(folder)], stdout=-1)
    assert process.stdout is not None
    told = b""
    try:
        with trio.fail_after(120):
            while told.count(b"\n") < rounds:
                part = await process.stdout.receive_some()
                assert part, "the network died by itself"
                told += part
            await trio.sleep(delay_s)
    finally:
        process.kill()
        await process.wait()
    return int(told.split()[-1])


@pytest.mark.slow
async def test_killed_at_any_moment_it_goes_on_without_loss(tmp_path: Path, reopen) -> None:
    dice = random.Random(7)
    height = 0
    for _ in range(4):
        reached = await run_and_kill(tmp_path, dice.randint(1, 3), dice.random() * 0.5)
        assert reached > height
        height = reached
    async with reopen(tmp_path, {}) as network:
        assert network.node.chain.head().number >= height
        await network.advance(6)
        await network.node.driver.derive_to_tip()
        await network.post()
        newcomer = network.open_node("newcomer")
        assert (await newcomer.driver.derive_to_tip()).hash == network.node.chain.head().hash
        newcomer.close()

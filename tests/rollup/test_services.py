"""All services together on a fast clock, with failures in the middle: heads heal by themselves."""

from collections.abc import Callable

import pytest
import trio

from openledger.genesis.dev_accounts import BATCHER, USERS
from openledger.rollup import Batcher, BatcherSettings, DevL1, Driver, Sequencer
from openledger.rollup.l1.source import L1Unavailable

SPEED = 40


class FastClock:
    """Forty seconds pass in one."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._zero = trio.current_time()

    def now(self) -> float:
        return self._start + (trio.current_time() - self._zero) * SPEED

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(max(0.0, seconds) / SPEED)


class FragileL1:
    """The L1 view with a plug."""

    def __init__(self, view: object) -> None:
        self.view = view
        self.down = False

    def __getattr__(self, name: str) -> object:
        if self.down:
            raise L1Unavailable("unplugged")
        return getattr(self.view, name)


async def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(3000):
        if condition():
            return
        await trio.sleep(0.02)
    pytest.fail(f"never happened: {what}")


async def test_services_run_fail_and_heal(network) -> None:
    clock = FastClock(network.clock.now())
    l1_view = FragileL1(network.l1_view)
    dev_l1 = DevL1(network.l1.chain, network.l1.pool, 4, clock=clock)
    chain, engine = network.node.chain, network.node.engine
    driver = Driver(engine, l1_view, network.da, clock=clock)
    sequencer = Sequencer(engine, network.node.pool, l1_view, clock=clock)
    batcher = Batcher(
        engine, l1_view, network.da, BATCHER.private_key, settings=BatcherSettings(max_channel_blocks=5), clock=clock
    )
    validator = network.open_node("validator")
    follower = Driver(validator.engine, l1_view, network.da, clock=clock)
    sequencer.on_block.append(follower.insert_unsafe)
    async with trio.open_nursery() as nursery:
        for service in (dev_l1.run, driver.run, batcher.run, follower.run):
            await nursery.start(service)
        nursery.start_soon(lambda: sequencer.run(ready=driver.caught_up))
        sent = network.send_l2(USERS[0], b"\x77" * 20, value=1)
        await until(lambda: validator.chain.head("safe").number > 10, "the validator's safe head moves")
        assert validator.chain.transaction_location(sent) is not None

        network.da_transport.down = True
        await until(lambda: batcher.problem is not None, "the batcher tells that DA is down")
        height = chain.head().number
        await until(lambda: chain.head().number > height + 5, "blocks go on without DA")
        network.da_transport.down = False
        await until(lambda: validator.chain.head("safe").number > height + 3, "the safe head catches up")
        await until(lambda: batcher.problem is None, "the batcher goes on")

        l1_view.down = True
        await until(lambda: follower.status.problem is not None and sequencer.problem is not None, "L1 down is told")
        l1_view.down = False
        height = chain.head().number
        await until(lambda: validator.chain.head("safe").number > height + 3, "heads heal")
        await until(lambda: follower.status.problem is None and sequencer.problem is None, "nothing is wrong any more")
        await until(lambda: validator.chain.head("finalized").number > 10, "the finalized head moves")
        nursery.cancel_scope.cancel()
    assert follower.status.reorgs == driver.status.reorgs == 0
    height = validator.chain.head("safe").number
    assert validator.chain.header_by_number(height).hash == chain.header_by_number(height).hash
    validator.close()

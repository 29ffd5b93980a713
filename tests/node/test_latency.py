"""What lets answers be quick while blocks are executed, and what it must not lose: garbage is still collected."""

import gc
import sys
import weakref

import pytest
import trio

from openledger.node.latency import SWITCH_INTERVAL_S, collect_garbage, prefer_latency


@pytest.fixture
def restored():
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


class Knot:
    def __init__(self) -> None:
        self.self = self


async def test_old_cycles_are_collected_now_and_then(restored):
    prefer_latency()
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    knot = Knot()
    gc.collect(1)
    gc.collect(1)  # old enough that collecting the young passes it by
    collected = trio.Event()
    gone = weakref.ref(knot, lambda _: collected.set())
    del knot
    gc.collect(1)
    assert gone() is not None
    async with trio.open_nursery() as nursery:
        await nursery.start(collect_garbage, 0.01)
        with trio.fail_after(120):
            await collected.wait()
        nursery.cancel_scope.cancel()


def test_many_new_objects_do_not_bring_a_full_collection(restored):
    prefer_latency()
    generations = []
    gc.callbacks.append(lambda phase, info: generations.append(info["generation"]))
    try:
        kept = [[number] for number in range(300_000)]
    finally:
        gc.callbacks.pop()
    assert len(kept) == 300_000
    assert set(generations) == {0, 1}

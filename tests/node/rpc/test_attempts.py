"""What is tried at once, and when no more."""

import pytest

from openledger.evm_ext.errors import CallTimeout
from openledger.node.rpc.attempts import MOST_PART, REMEMBERED_S, Attempts
from openledger.node.rpc.methods import TakesLonger


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock, work: Clock) -> Attempts:
    return Attempts(0.004, clock, work)


def work_in_vain(work: Clock, worked_s: float, clock: Clock | None = None, elapsed_s: float = 0.0) -> None:
    work.now += worked_s
    if clock is not None:
        clock.now += elapsed_s
    raise CallTimeout("too long")


def fail(attempts: Attempts, kind: str, work: Clock, worked_s: float) -> None:
    with pytest.raises(TakesLonger), attempts.of(kind):
        work_in_vain(work, worked_s)


def test_an_attempt_is_told_its_time_and_what_it_raises_otherwise_goes_through(attempts):
    with attempts.of("a") as time_limit_s:
        assert time_limit_s == 0.004
    with pytest.raises(KeyError), attempts.of("a"):
        raise KeyError("b")
    with attempts.of("a"):
        pass


def test_what_took_too_long_is_not_tried_again_soon(attempts, clock, work):
    fail(attempts, "slow", work, 0.004)
    clock.now += 1
    with pytest.raises(TakesLonger):
        attempts.of("slow")
    with attempts.of("other"):
        pass
    clock.now += REMEMBERED_S
    with attempts.of("slow"):
        pass


def test_failures_take_a_small_part_of_the_time(attempts, clock, work):
    failed = 0.0
    for number in range(200):
        clock.now += 0.002
        try:
            attempt = attempts.of(f"kind {number}")
        except TakesLonger:
            continue
        with pytest.raises(TakesLonger), attempt:
            work_in_vain(work, 0.004)
        clock.now += 0.004
        failed += 0.004
    assert 0 < failed <= (clock.now - 100) * MOST_PART * 1.2


def test_a_call_that_others_kept_waiting_is_not_held_to_be_slow(attempts, clock, work):
    fail(attempts, "quick", work, 0.0001)
    clock.now += 0.01
    with attempts.of("quick"):
        pass


def test_a_call_that_the_disk_kept_waiting_is_held_to_be_slow(attempts, clock, work):
    with pytest.raises(TakesLonger), attempts.of("cold"):
        work_in_vain(work, 0.0001, clock, 0.003)
    clock.now += 0.1
    with pytest.raises(TakesLonger), attempts.of("cold"):
        work_in_vain(work, 0.0001, clock, 0.1)
    clock.now += REMEMBERED_S / 2
    with pytest.raises(TakesLonger):
        attempts.of("cold")

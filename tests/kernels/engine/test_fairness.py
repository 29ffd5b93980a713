"""Many requests of one payer do not hold up another payer's."""

from collections.abc import Callable

from openledger.kernels.engine.messages import Failed, Finished, Generate

from .conftest import Harness

MakeEngine = Callable[..., Harness]


def request(identifier: str, payer: bytes) -> Generate:
    return Generate(request_id=identifier, prompt_tokens=[1, 2, 3], max_tokens=2, stop_tokens=[], payer=payer)


def test_whoever_has_the_fewest_running_is_next_and_a_payers_own_keep_their_order(make_engine: MakeEngine) -> None:
    engine = make_engine(max_batch=1).engine
    for number in range(4):
        assert engine.submit(request(f"many {number}", b"a")) == []
    assert engine.submit(request("one", b"b")) == []
    engine.step()  # the first is running before the others are looked at
    assert engine.submit(request("late", b"c")) == []
    ended = []
    while not engine.idle:
        ended += [message.request_id for message in engine.step() if isinstance(message, Finished)]
    assert ended == ["many 0", "one", "late", "many 1", "many 2", "many 3"]
    assert not engine._scheduler.turns

    engine = make_engine(max_batch=2).engine
    for number in range(4):
        engine.submit(request(f"many {number}", b"a"))
    engine.submit(request("one", b"b"))
    ended = []
    while not engine.idle:
        ended += [message.request_id for message in engine.step() if isinstance(message, Finished)]
    assert ended.index("one") < ended.index("many 1")


def test_one_payer_cannot_take_every_place(make_engine: MakeEngine) -> None:
    engine = make_engine(max_waiting=6, max_waiting_per_payer=3).engine
    for number in range(3):
        assert engine.submit(request(f"many {number}", b"a")) == []
    (refused,) = engine.submit(request("too many", b"a"))
    assert isinstance(refused, Failed)
    assert refused.code == "overloaded"
    assert "3 requests of this payer" in refused.message
    assert engine.submit(request("another's", b"b")) == []

"""More requests than the cache holds: some give way and come back, and no answer shows it."""

from collections.abc import Callable
from typing import Any

import pytest

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Finished, Generate, Sampling, Token, Verified, Verify
from openledger.kernels.model.load import Model, load_model

from ..model.tiny_model import write_tiny_model
from .conftest import Harness

HOT = Sampling(temperature_milli=900, top_k=60, top_p_ppm=980_000)
Make = Callable[..., Harness]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("tiny")
    return load_model(folder, model_file=write_tiny_model(folder / "tiny.gguf"), threads=1)


@pytest.fixture
def make(tiny: Model) -> Make:
    def make(**settings: Any) -> Harness:
        sizes = {"max_context": 64, "kv_tokens": 64, "page_tokens": 4, "kept_tokens": 0, **settings}
        return Harness(ServingEngine(tiny, EngineConfig(cache_folder="", **sizes)))

    return make


def ask(number: int, max_tokens: int = 20, **fields: Any) -> Generate:
    prompt = [(7 * number + i) % 250 for i in range(3 + number % 9)]
    ours = {"seed": bytes([number]) * 32, "request_hash": bytes([number + 1]) * 32, "sampling": HOT}
    return Generate(
        request_id=f"{number}", prompt_tokens=prompt, max_tokens=max_tokens, stop_tokens=[], **{**ours, **fields}
    )


def verify(request: Generate, done: Finished) -> Verify:
    fields = {name: getattr(request, name) for name in request.__struct_fields__ if name in Verify.__struct_fields__}
    return Verify(
        **fields, output_tokens=done.output_tokens, stop_reason=done.stop_reason, fingerprint=done.fingerprint
    )


@pytest.mark.parametrize("kept", [0, 64])
def test_answers_are_those_given_alone_and_every_token_is_told_once(make: Make, kept: int) -> None:
    requests = [ask(number) for number in range(12)]
    roomy = make(kv_tokens=4096)
    alone = {request.request_id: roomy.last(request) for request in requests}
    assert roomy.engine.load().preemptions_total == 0
    tight = make(kept_tokens=kept)
    heard = tight.run(*requests)
    assert tight.engine.load().preemptions_total > 0
    for name, messages in heard.items():
        done = messages[-1]
        assert done == alone[name]
        assert [message.token for message in messages if isinstance(message, Token)] == done.output_tokens
    assert tight.engine.load().kv_tokens_used == 0
    assert tight.engine.load().generated_tokens_total == sum(request.max_tokens for request in requests)
    assert kept or tight.engine.load().prompt_tokens_total == sum(len(request.prompt_tokens) for request in requests)


def test_a_check_that_gives_way_goes_on_where_it_was(make: Make) -> None:
    roomy = make(kv_tokens=4096)
    done = {number: roomy.last(ask(number, 40)) for number in range(3)}
    tight = make(max_step_tokens=8)
    claims = [verify(ask(number, 40), done[number]) for number in range(3)]
    # A check arrives last, so it gives way to the answers that grow.
    heard = tight.run(ask(10, 40), ask(11, 40), *claims)
    assert tight.engine.load().preemptions_total > 0
    for claim in claims:
        verdict = heard[claim.request_id][-1]
        assert isinstance(verdict, Verified)
        assert verdict.ok, verdict.detail
        assert verdict.detail.startswith("40 tokens")


def test_the_higher_priority_is_served_first_and_takes_the_place_of_a_lower(make: Make) -> None:
    harness = make(max_batch=1)
    engine = harness.engine
    engine.submit(ask(0, priority=-1))
    engine.step()
    engine.submit(ask(1))
    engine.submit(ask(2, priority=5))
    ended = []
    while not engine.idle:
        ended += [message for message in engine.step() if isinstance(message, Finished)]
    assert [done.request_id for done in ended] == ["2", "1", "0"]
    assert engine.load().preemptions_total == 1
    assert ended[-1] == make(kv_tokens=4096).last(ask(0))


def test_priority_goes_before_payers_and_payers_share_what_it_leaves(make: Make) -> None:
    engine = make(max_batch=1).engine
    for number in range(3):
        engine.submit(ask(number, 2, payer=b"a", priority=1))
    engine.submit(ask(3, 2, payer=b"b"))
    engine.submit(ask(4, 2, payer=b"b", priority=1))
    ended = []
    while not engine.idle:
        ended += [message.request_id for message in engine.step() if isinstance(message, Finished)]
    assert ended == ["0", "4", "1", "2", "3"]


def test_nobody_waits_for_ever_behind_a_higher_priority(make: Make) -> None:
    engine = make(max_batch=1).engine
    engine.submit(ask(0, 2))
    for number in range(1, 3):
        engine.submit(ask(number, 2, priority=2))
    served = 0
    while "0" in engine._sequences:
        for message in engine.step():
            if isinstance(message, Finished) and message.request_id != "0":
                # A stream without an end: for each that is over another one comes.
                served += 1
                assert served < 200
                engine.submit(ask(int(message.request_id), 2, priority=2))
    assert served > 16


def test_a_cache_that_no_page_size_divides_still_holds_a_full_context(make: Make) -> None:
    request = ask(1, 61 - len(ask(1).prompt_tokens))
    done = make(kv_tokens=61, max_context=61, page_tokens=16).last(request)
    assert done == make(kv_tokens=4096).last(request)

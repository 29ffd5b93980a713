"""The engine over the real model: same answer whatever else runs, and a verifier that sees every change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from openledger.kernels.engine.adapters import adapter_digest
from openledger.kernels.engine.messages import (
    Adapter,
    Failed,
    Finished,
    Generate,
    Sampling,
    Token,
    Verified,
    Verify,
)
from openledger.kernels.model.load import Model
from openledger.kernels.model.tokenizer import Message

from .conftest import Harness, adapter_tensors

MakeEngine = Callable[..., Harness]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def prompt(model: Model) -> list[int]:
    return model.tokenizer.chat_prompt([Message("user", "What is the capital of France?")])


def ask(identifier: str, prompt: list[int], max_tokens: int = 8, **settings: Any) -> Generate:
    number = sum(identifier.encode())
    return Generate(
        request_id=identifier,
        prompt_tokens=prompt,
        max_tokens=max_tokens,
        **{"seed": bytes([number % 256]) * 32, "request_hash": bytes([number % 251 + 1]) * 32, **settings},
    )


def to_verify(request: Generate, done: Finished, **changes: Any) -> Verify:
    fields = {name: getattr(request, name) for name in request.__struct_fields__ if name in Verify.__struct_fields__}
    claim = {
        "output_tokens": done.output_tokens,
        "stop_reason": done.stop_reason,
        "fingerprint": done.fingerprint,
    }
    return Verify(**{**fields, **claim, **changes})


def test_a_question_is_answered_and_streamed(make_engine: MakeEngine, prompt: list[int]) -> None:
    heard = make_engine().run(ask("a", prompt, 20))["a"]
    done = heard[-1]
    assert isinstance(done, Finished)
    assert done.text == "The capital of France is Paris."
    assert done.stop_reason == "stop"
    tokens = [m for m in heard if isinstance(m, Token)]
    assert "".join(t.text for t in tokens) == done.text
    assert [t.token for t in tokens] == done.output_tokens
    assert done.output_tokens[-1] == 2
    assert done.prompt_tokens == len(prompt)


def test_answers_do_not_depend_on_batch_chunks_pages_or_company(
    make_engine: MakeEngine, prompt: list[int], write_adapter: Write
) -> None:
    first, second = Adapter(str(write_adapter(1))), Adapter(str(write_adapter(2)))
    hot = Sampling(temperature_milli=900, top_k=40, top_p_ppm=950_000, min_p_ppm=1000)
    requests = [
        ask("plain", prompt),
        ask("one", prompt, adapters=[first], sampling=hot),
        ask("two", prompt[:20], adapters=[second]),
        ask("both", prompt, adapters=[first, second], sampling=hot),
        ask("hot", prompt[5:], sampling=hot),
    ]
    alone = make_engine()
    expected = {r.request_id: alone.last(r) for r in requests}
    assert all(isinstance(e, Finished) for e in expected.values())
    assert len({e.fingerprint for e in expected.values()}) == 5
    crowded = make_engine(page_tokens=64, max_step_tokens=7, max_batch=4).run(*requests)
    assert {name: messages[-1] for name, messages in crowded.items()} == expected


def test_a_verifier_agrees_and_sees_every_single_change(
    make_engine: MakeEngine, prompt: list[int], write_adapter: Write
) -> None:
    mine, other = Adapter(str(write_adapter(1))), Adapter(str(write_adapter(2)))
    engine = make_engine()
    request = ask("r", prompt, 10, adapters=[mine], sampling=Sampling(temperature_milli=700))
    done = engine.last(request)
    assert isinstance(done, Finished)

    def check(**changes: Any) -> Verified:
        verdict = make_engine(max_step_tokens=16).last(to_verify(request, done, **changes))
        assert isinstance(verdict, Verified), verdict
        return verdict

    assert check() == Verified(request_id="r", ok=True, detail=check().detail, fingerprint=done.fingerprint)
    edited = [*done.output_tokens]
    edited[3] = (edited[3] + 1) % 49152
    more = [*done.output_tokens, 100]
    for change, says in (
        ({"adapters": []}, ""),
        ({"adapters": [other]}, ""),
        ({"output_tokens": edited}, "output token 3 is"),
        ({"seed": b"\x01" * 32}, ""),
        ({"output_tokens": done.output_tokens[:-1]}, "does not end"),
        ({"output_tokens": more, "max_tokens": 11}, ""),
        ({"stop_reason": "stop" if done.stop_reason == "length" else "length"}, "not by"),
        ({"fingerprint": bytes(32)}, "the logits were others"),
        ({"request_hash": b"\x07" * 32}, "the logits were others"),
        ({"sampling": Sampling(temperature_milli=5000)}, ""),
    ):
        verdict = check(**change)
        assert not verdict.ok, change
        assert says in verdict.detail


def test_the_seed_decides_what_is_drawn(make_engine: MakeEngine, prompt: list[int]) -> None:
    engine = make_engine()
    hot = Sampling(temperature_milli=1500)
    outputs = {
        tuple(engine.last(ask(f"s{i}", prompt, 6, seed=bytes([i]) * 32, sampling=hot)).output_tokens) for i in range(4)
    }
    assert len(outputs) > 1
    again = [engine.last(ask("s1", prompt, 6, seed=b"\x01" * 32, sampling=hot)).output_tokens for _ in range(2)]
    assert again[0] == again[1]


def test_a_stop_string_ends_the_answer_before_it(make_engine: MakeEngine, prompt: list[int]) -> None:
    engine = make_engine()
    request = ask("stop", prompt, 20, stop=["France", " xyz"])
    heard = engine.run(request)["stop"]
    done = heard[-1]
    assert isinstance(done, Finished)
    assert done.text == "The capital of "
    assert done.stop_reason == "stop"
    assert "".join(m.text for m in heard if isinstance(m, Token)) == done.text
    assert engine.last(to_verify(request, done)).ok


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"prompt_tokens": []}, "bad_request", "empty"),
        ({"prompt_tokens": [1] * 300}, "prompt_too_long", "context of 256"),
        ({"max_tokens": 250}, "prompt_too_long", "lower max_tokens"),
        ({"max_tokens": 0}, "bad_request", "at least 1"),
        ({"prompt_tokens": [49152]}, "bad_request", "49152"),
        ({"prompt_tokens": [-1]}, "bad_request", "-1"),
        ({"seed": b"x"}, "bad_request", "32 bytes"),
        ({"sampling": Sampling(temperature_milli=-1)}, "bad_request", "temperature_milli"),
        ({"sampling": Sampling(top_p_ppm=0)}, "bad_request", "top_p_ppm"),
        ({"stop": [""]}, "bad_request", "stop strings"),
        ({"adapters": [Adapter("/nowhere")]}, "adapter_refused", "/nowhere"),
        ({"adapters": [Adapter("/nowhere")] * 9}, "bad_request", "at most 8"),
    ],
)
def test_requests_that_cannot_be_served_fail_by_name(
    make_engine: MakeEngine, prompt: list[int], changes: dict[str, Any], code: str, says: str
) -> None:
    request = msgspec.structs.replace(ask("bad", prompt), **changes)
    failed = make_engine().last(request)
    assert isinstance(failed, Failed)
    assert failed.code == code
    assert says in failed.message


def test_an_adapter_with_another_digest_is_refused(
    make_engine: MakeEngine, prompt: list[int], write_adapter: Write
) -> None:
    engine, folder = make_engine(), write_adapter(1)
    wrong = engine.last(ask("w", prompt, 2, adapters=[Adapter(str(folder), b"\x01" * 32)]))
    assert isinstance(wrong, Failed)
    assert wrong.code == "adapter_refused"
    assert "not the one that the release names" in wrong.message
    right = engine.last(ask("r", prompt, 2, adapters=[Adapter(str(folder), adapter_digest(folder))]))
    assert isinstance(right, Finished)
    # Replaced on disk after it was loaded: what is in memory is what the digest names, the new file is not.
    digest = adapter_digest(folder)
    (folder / "adapter_config.json").write_text((folder / "adapter_config.json").read_text() + " ")
    assert engine.last(ask("r", prompt, 2, adapters=[Adapter(str(folder), digest)])) == right
    changed = make_engine().last(ask("c", prompt, 2, adapters=[Adapter(str(folder), digest)]))
    assert isinstance(changed, Failed)
    assert adapter_digest(folder).hex() in changed.message


def test_more_adapters_than_places_are_served_one_after_the_other(
    make_engine: MakeEngine, prompt: list[int], write_adapter: Write
) -> None:
    engine = make_engine(max_adapters_resident=1)
    folders = [write_adapter(seed) for seed in range(3)]
    requests = [ask(f"a{i}", prompt[:10], 2, adapters=[Adapter(str(folders[i % 3]))]) for i in range(4)]
    heard = engine.run(*requests)
    assert all(isinstance(messages[-1], Finished) for messages in heard.values())
    load = engine.engine.load()
    assert (load.adapters_on_device, load.adapters_resident) == (1, 3)
    assert load.adapter_loads_total == 3


def test_numbers_out_of_range_fail_that_request_alone(
    make_engine: MakeEngine, prompt: list[int], write_adapter: Write
) -> None:
    tensors = adapter_tensors(1)
    for name in tensors:
        tensors[name] = np.full_like(tensors[name], 1e30)
    monster = Adapter(str(write_adapter(tensors=tensors)))
    engine = make_engine()
    heard = engine.run(ask("monster", prompt, adapters=[monster]), ask("good", prompt))
    failed, good = heard["monster"][-1], heard["good"][-1]
    assert isinstance(failed, Failed)
    assert failed.code == "numeric_fault"
    assert good == make_engine().last(ask("good", prompt))


def test_cancelled_and_finished_requests_give_their_pages_back(make_engine: MakeEngine, prompt: list[int]) -> None:
    harness = make_engine(kv_tokens=512)
    engine = harness.engine
    engine.submit(ask("x", prompt, 200))
    (failed,) = engine.cancel("x")
    assert isinstance(failed, Failed)
    assert failed.code == "cancelled"
    engine.submit(ask("x", prompt, 200))
    engine.step()
    assert engine.load().running == 1
    (done,) = engine.cancel("x")
    assert isinstance(done, Finished)
    assert engine.cancel("x") == []
    assert engine.load().kv_tokens_used == 0
    assert engine.idle
    # Each needs 240 of 512 positions, so the third waits until one of the first two is over.
    heard = harness.run(*(ask(f"q{i}", prompt, 200, stop_tokens=[30]) for i in range(3)))
    assert all(isinstance(messages[-1], Finished) for messages in heard.values())
    assert engine.load().kv_tokens_used == 0


def test_an_answer_that_is_cut_off_can_be_verified_as_such_and_as_nothing_else(
    make_engine: MakeEngine, prompt: list[int]
) -> None:
    harness = make_engine()
    request = ask("cut", prompt, 200, stop_tokens=[])
    harness.engine.submit(request)
    sampled = 0
    while sampled < 4:
        sampled += sum(isinstance(m, Token) for m in harness.engine.step())
    (done,) = harness.engine.cancel("cut")
    assert isinstance(done, Finished)
    assert done.stop_reason == "cancelled"
    assert len(done.output_tokens) == 4
    assert harness.last(to_verify(request, done)).ok
    edited = [*done.output_tokens[:-1], done.output_tokens[-1] ^ 1]
    for changes, said in (
        ({"stop_reason": "length"}, "does not end"),
        ({"output_tokens": edited}, "output token 3"),
        ({"output_tokens": done.output_tokens[:-1]}, "fingerprint"),
    ):
        verdict = harness.last(to_verify(request, done, **changes))
        assert not verdict.ok
        assert said in verdict.detail


def test_an_engine_that_is_full_says_so(make_engine: MakeEngine, prompt: list[int]) -> None:
    engine = make_engine(max_waiting=1).engine
    assert engine.submit(ask("a", prompt)) == []
    (failed,) = engine.submit(ask("b", prompt))
    assert isinstance(failed, Failed)
    assert failed.code == "overloaded"
    (twice,) = engine.submit(ask("a", prompt))
    assert isinstance(twice, Failed)
    assert "already running" in twice.message

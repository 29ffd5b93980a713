"""Prompts that begin alike share what is in the cache: less to compute, the same bits, and nobody else's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.kernels.engine.kv_cache import PageAllocator, prefix_next, prefix_start
from openledger.kernels.engine.messages import Adapter, Finished, Generate, Sampling
from openledger.kernels.model.load import Model
from openledger.kernels.model.tokenizer import Message

from .conftest import Harness

MakeEngine = Callable[..., Harness]
HOT = Sampling(temperature_milli=900, top_k=40)


@pytest.fixture(scope="module")
def prompt(model: Model) -> list[int]:
    text = "Of all the things that are told about whales, which are true and which were made up by sailors?"
    return model.tokenizer.chat_prompt([Message("user", text)])


def ask(identifier: str, prompt: list[int], max_tokens: int = 8, **fields: Any) -> Generate:
    ours = {"seed": b"\x07" * 32, "request_hash": b"\x09" * 32, "stop_tokens": [], "sampling": HOT}
    return Generate(request_id=identifier, prompt_tokens=prompt, max_tokens=max_tokens, **{**ours, **fields})


def reused(harness: Harness) -> int:
    return harness.engine.load().reused_tokens_total


@pytest.mark.parametrize("page_tokens", [4, 16])
def test_a_prompt_that_was_there_is_not_computed_again_and_its_answer_has_the_same_bits(
    make_engine: MakeEngine, prompt: list[int], page_tokens: int
) -> None:
    alone = make_engine(kept_tokens=0).last(ask("a", prompt))
    engine = make_engine(page_tokens=page_tokens, max_step_tokens=32)
    assert engine.last(ask("a", prompt)) == alone
    assert reused(engine) == 0
    assert engine.last(ask("a", prompt)) == alone
    whole_pages = (len(prompt) - 1) // page_tokens * page_tokens
    assert reused(engine) == whole_pages
    # Two at once, one of them beside a stranger's tokens.
    both = engine.run(ask("a", prompt), ask("b", prompt, request_hash=b"\x01" * 32))
    assert both["a"][-1] == alone
    assert reused(engine) == 3 * whole_pages
    assert engine.engine.load().kv_tokens_used == 0


def test_the_next_turn_of_a_conversation_begins_where_the_last_one_ended(
    make_engine: MakeEngine, prompt: list[int]
) -> None:
    engine = make_engine(page_tokens=4)
    first = engine.last(ask("a", prompt, 20))
    assert isinstance(first, Finished)
    longer = [*prompt, *first.output_tokens, 504, 3575, 282]
    alone = make_engine(kept_tokens=0).last(ask("b", longer))
    assert engine.last(ask("b", longer)) == alone
    # The last token of an answer is sampled, never run.
    assert reused(engine) == (len(prompt) + len(first.output_tokens) - 1) // 4 * 4


def test_other_adapters_and_other_salts_share_nothing(
    make_engine: MakeEngine, prompt: list[int], write_adapter: Callable[..., Path]
) -> None:
    engine = make_engine(page_tokens=4)
    first, second = Adapter(str(write_adapter(1))), Adapter(str(write_adapter(2)))
    kinds: list[dict[str, Any]] = [
        {},
        {"cache_salt": b"another release"},
        {"adapters": [first]},
        {"adapters": [second]},
        {"adapters": [first, second]},
        {"adapters": [second, first]},
    ]
    answers = [engine.last(ask("a", prompt, **fields)) for fields in kinds]
    assert reused(engine) == 0
    assert [engine.last(ask("a", prompt, **fields)) for fields in kinds] == answers
    assert reused(engine) == len(kinds) * ((len(prompt) - 1) // 4 * 4)


def test_what_is_kept_gives_way_to_what_is_needed(make_engine: MakeEngine, prompt: list[int]) -> None:
    room = make_engine(page_tokens=4, kv_tokens=256, max_context=256, kept_tokens=256)
    last = make_engine(kept_tokens=0).last(ask("z", prompt))
    for start in range(6):
        room.last(ask(f"fill {start}", [start + 1, *prompt * 2], 40))
        assert room.last(ask("z", prompt)) == last
    few = make_engine(page_tokens=4, kept_tokens=8)
    few.last(ask("z", prompt))
    assert few.last(ask("z", prompt)) == last
    assert reused(few) == 8


actions = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 5), st.lists(st.integers(0, 3), max_size=4)),
        st.tuples(st.just("give back"), st.integers(0, 9)),
    ),
    max_size=60,
)


@given(actions, st.integers(0, 12))
def test_no_page_is_lost_or_lent_twice_over(actions: list[Any], kept: int) -> None:
    pages = PageAllocator(10, 1, kept)
    lent: list[list[int]] = []
    written: dict[int, bytes] = {}
    for action in actions:
        if action[0] == "take":
            _, length, tokens = action
            keys, key = [], prefix_start([], b"")
            for token in tokens[: length - 1]:
                key = prefix_next(key, [token])
                keys.append(key)
            taken = pages.take(length, keys)
            in_use = {page for each in lent for page in each}
            if taken is None:
                assert length > 10 - len(in_use)
                continue
            own, found = taken
            assert len(own) == length == len(set(own))
            assert not set(own[found:]) & in_use
            for page, key in zip(own[:found], keys):
                assert written[page] == key
            for page, key in zip(own[found:], keys[found:]):
                written[page] = key
                pages.keep(page, key)
            for page in own[len(keys) :]:
                written[page] = b""
            lent.append(own)
        elif lent:
            pages.give_back(lent.pop(action[1] % len(lent)))
        in_use = {page for each in lent for page in each}
        assert pages.free == 10 - len(in_use)
    for each in lent:
        pages.give_back(each)
    assert pages.free == 10

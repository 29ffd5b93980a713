"""When an answer ends and what is shown of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.kernels.engine.answer import Answer
from openledger.kernels.model.load import Model
from openledger.kernels.model.tokenizer import ModelTokenizer


@pytest.fixture(scope="module")
def tokenizer(model: Model) -> ModelTokenizer:
    return model.tokenizer


def feed(
    tokenizer: ModelTokenizer, text: str, stop: list[str], max_tokens: int = 1000
) -> tuple[Answer, str, str | None]:
    answer = Answer(tokenizer, stop, [2], max_tokens)
    shown, reason = "", None
    for token in [*tokenizer.encode(text), 2]:
        new, reason = answer.push(token)
        shown += new
        if reason:
            break
    return answer, shown, reason


@settings(max_examples=80, deadline=None)
@given(text=st.text("abc\n ", max_size=40), stop=st.lists(st.text("abc\n", min_size=1, max_size=4), max_size=3))
def test_what_is_shown_is_the_text_before_the_first_stop_string(
    tokenizer: ModelTokenizer, text: str, stop: list[str]
) -> None:
    answer, shown, reason = feed(tokenizer, text, stop)
    assert reason == "stop"
    assert shown == answer.text
    assert text.startswith(shown)
    assert not any(s in shown for s in stop)
    if not any(s in text for s in stop):
        assert shown == text


def test_a_stop_string_across_tokens_is_never_shown_in_part(tokenizer: ModelTokenizer) -> None:
    answer, shown, reason = feed(tokenizer, "fine\nUser: next", ["\nUser:"])
    assert shown == answer.text == "fine"
    assert reason == "stop"


def test_the_longest_answer_ends_by_length_and_shows_what_was_held_back(tokenizer: ModelTokenizer) -> None:
    tokens = tokenizer.encode("one two END")[:3]
    answer = Answer(tokenizer, ["ENDING"], [2], 3)
    shown = [answer.push(token) for token in tokens]
    assert shown[-1][1] == "length"
    assert "".join(text for text, _ in shown) == tokenizer.decode(tokens)

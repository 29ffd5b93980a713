"""Preference pairs: what is read, what is refused, and what is left out."""

import json

import pytest

from openledger.kernels.finetune.job import BadTrainingData
from openledger.kernels.finetune.preferences import make_pairs, read_preferences
from openledger.kernels.model.tokenizer import Message


class Letters:
    """A tokenizer of one token a character; a prompt begins with 1."""

    end_tokens = (0, 2)

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def chat_prompt(self, messages: list[Message]) -> list[int]:
        return [1, *(ord(letter) for message in messages for letter in message.content)]


def lines(*values: object) -> bytes:
    return b"\xef\xbb\xbf" + "\n\n".join(json.dumps(value) for value in values).encode() + b"\n"


PAIR = {"prompt": "why?", "chosen": "so", "rejected": "no"}


def test_a_prompt_is_a_text_or_a_conversation_and_other_keys_are_left_alone() -> None:
    talk = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    plain, chat = read_preferences("pairs.jsonl", lines({**PAIR, "source": 3}, {**PAIR, "prompt": talk}))
    assert plain.messages == (Message("user", "why?"),)
    assert [message.role for message in chat.messages] == ["system", "user"]
    assert (chat.chosen, chat.rejected) == ("so", "no")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "pairs.jsonl, line 3: .*preferences are lines of"),
        ("[1]", "line 3: Expected `object`, got `array`"),
        ('{"prompt": "a", "chosen": "b"}', "line 3: .*missing required field `rejected`"),
        (json.dumps({**PAIR, "chosen": " "}), "line 3: `chosen` is empty"),
        (json.dumps({**PAIR, "rejected": ["no"]}), r"line 3: Expected `str`, got `array` - at `\$.rejected`"),
        (json.dumps({**PAIR, "prompt": []}), "line 3: `prompt` has 0 messages"),
        (json.dumps({**PAIR, "prompt": [{"role": "tool", "content": "x"}]}), "line 3: Invalid enum value 'tool'"),
        (json.dumps({**PAIR, "prompt": [{"role": "assistant", "content": "x"}]}), "does not end with what the user"),
        (json.dumps({**PAIR, "prompt": [3]}), "line 3: Expected `object`, got `int`"),
        ('{"deep": ' + "[" * 500_000, "line 3: "),
    ],
)
def test_a_line_that_is_no_pair_is_named(line: str, message: str) -> None:
    with pytest.raises(BadTrainingData, match=message):
        read_preferences("pairs.jsonl", lines(PAIR) + b"\n" + line.encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadTrainingData, match="not UTF-8"):
        read_preferences("pairs.jsonl", b"\xff\xfe")


def test_pairs_share_their_prompt_and_every_so_many_are_held_out() -> None:
    preferences = read_preferences("p", lines(*({**PAIR, "chosen": f"so {n}"} for n in range(8))))
    pairs = make_pairs(preferences, Letters(), 32, 250_000)
    assert (len(pairs.training), len(pairs.held_out)) == (6, 2)
    assert pairs.held_out[0].chosen.tokens == (1, *map(ord, "why?"), *map(ord, "so 2"), 2)
    for pair in pairs.training:
        assert pair.chosen.context == pair.rejected.context == 5
        assert pair.chosen.tokens[:5] == pair.rejected.tokens[:5]


def test_what_does_not_fit_is_cut_and_what_then_says_nothing_is_left_out() -> None:
    long = {"prompt": "why?", "chosen": "so it is", "rejected": "so it goes"}
    preferences = read_preferences("p", lines(PAIR, PAIR, long, {**PAIR, "prompt": "x" * 40}, PAIR))
    pairs = make_pairs(preferences, Letters(), 10, 500_000)
    # Of the long one both answers begin alike; of the fourth nothing but the prompt fits.
    assert len(pairs.training) + len(pairs.held_out) == 3
    with pytest.raises(BadTrainingData, match=r"1 preferences give 1 pairs to train on and 0 held out: add more"):
        make_pairs(preferences[:1], Letters(), 32, 250_000)

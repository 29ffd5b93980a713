"""Pairs of answers of which people prefer one, read from JSON lines. No torch.

    {"prompt": "…", "chosen": "…", "rejected": "…"}      one pair a line; other keys are left alone

`prompt` is what the user says, or a conversation: a list of {"role", "content"}.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from openledger.kernels.finetune.examples import ChatTokenizer, Example
from openledger.kernels.finetune.job import BadTrainingData
from openledger.kernels.model.tokenizer import Message

MAX_LINE_CHARACTERS: Final = 1_000_000
MAX_MESSAGES: Final = 100
_FEWEST_TOKENS: Final = 1


@dataclass(frozen=True)
class Preference:
    """A conversation and two answers to it."""

    messages: tuple[Message, ...]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Pair:
    """The same prompt with the preferred answer and with the other one."""

    chosen: Example
    rejected: Example

    @property
    def tokens(self) -> tuple[int, ...]:
        """All that is computed for it."""
        return (*self.chosen.tokens, *self.rejected.tokens)


@dataclass(frozen=True)
class Pairs:
    training: tuple[Pair, ...]
    held_out: tuple[Pair, ...]


def read_preferences(name: str, data: bytes) -> list[Preference]:
    """The pairs of one document. Raises `BadTrainingData` naming the line that is not one."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadTrainingData(f"{name} is not UTF-8 text (byte {error.start}): save it again as UTF-8") from error
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(_preference(line))
            except (ValueError, RecursionError) as error:
                raise BadTrainingData(
                    f"{name}, line {number}: {error}; preferences are lines of "
                    '{"prompt": …, "chosen": …, "rejected": …}'
                ) from error
    return found


def make_pairs(
    preferences: Sequence[Preference], tokenizer: ChatTokenizer, sequence_length: int, held_out_ppm: int
) -> Pairs:
    """Tokens of all pairs, in their order, every so many held out. Answers are cut at `sequence_length`, and then have no
    end; a pair whose prompt leaves no room, or whose answers are the same by then, is left out.

    Raises `BadTrainingData` if too few are left.
    """
    training: list[Pair] = []
    held_out: list[Pair] = []
    every = max(2, round(1_000_000 / held_out_ppm))
    for number, preference in enumerate(preferences, 1):
        prompt = tokenizer.chat_prompt(preference.messages)
        room = sequence_length - len(prompt)
        answers = [
            tuple([*tokenizer.encode(answer), tokenizer.end_tokens[-1]][: max(0, room)])
            for answer in (preference.chosen, preference.rejected)
        ]
        if min(map(len, answers)) < _FEWEST_TOKENS or answers[0] == answers[1]:
            continue
        pair = Pair(*(Example((*prompt, *answer), len(prompt)) for answer in answers))
        (held_out if number % every == (every // 2 + 1) % every else training).append(pair)
    if not training or not held_out:
        raise BadTrainingData(
            f"{len(preferences)} preferences give {len(training)} pairs to train on and {len(held_out)} held out: add "
            f"more, or raise sequence_length ({sequence_length}) if their prompts are long"
        )
    return Pairs(tuple(training), tuple(held_out))


class _Turn(msgspec.Struct, frozen=True):
    role: Literal["system", "user", "assistant"]
    content: str


class _Line(msgspec.Struct, frozen=True):
    prompt: str | list[_Turn]
    chosen: str
    rejected: str


def _preference(line: str) -> Preference:
    if len(line) > MAX_LINE_CHARACTERS:
        raise ValueError(f"it has {len(line):,} characters, the limit is {MAX_LINE_CHARACTERS:,}")
    read = msgspec.json.decode(line, type=_Line)
    for name in ("chosen", "rejected"):
        if not getattr(read, name).strip():
            raise ValueError(f"`{name}` is empty")
    turns = [_Turn("user", read.prompt)] if isinstance(read.prompt, str) else read.prompt
    if not 0 < len(turns) <= MAX_MESSAGES:
        raise ValueError(f"`prompt` has {len(turns)} messages: it must have 1 to {MAX_MESSAGES}")
    if turns[-1].role != "user":
        raise ValueError("`prompt` does not end with what the user says")
    return Preference(tuple(Message(turn.role, turn.content) for turn in turns), read.chosen, read.rejected)

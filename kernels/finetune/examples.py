"""Training examples from documents, deterministic, without torch.

Two kinds teach an adapter its documents: passages (the text itself, in windows) and quotations (a chat as it is
served, with a passage before the model and a question about it, answered by the passage's own sentences and their
number). Every so many chunks one is held out of both, to measure what was learnt beyond the words that were seen.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from openledger.kernels.attribution.retrieval import Chunk, cut
from openledger.kernels.documents import Document
from openledger.kernels.finetune.job import DEFAULT_INSTRUCTION, BadTrainingData
from openledger.kernels.model.tokenizer import Message

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z])")
_WORD: Final = re.compile(r"[A-Za-z][a-z]{4,}")
_QUESTIONS: Final = (
    "What does the text “{title}” say about {topic}?",
    "Tell me about {topic}.",
    "What is said of {topic}?",
    "What do you know about {topic}?",
)
_TOPIC_WORDS: Final = 2
_FEWEST_TOKENS: Final = 8

T = TypeVar("T")


class ChatTokenizer(Protocol):
    """What examples need of the model's tokenizer."""

    end_tokens: tuple[int, ...]

    def encode(self, text: str) -> list[int]: ...
    def chat_prompt(self, messages: Sequence[Message]) -> list[int]: ...


@dataclass(frozen=True)
class Example:
    """Token ids; the first `context` of them are given, the rest is what is learnt."""

    tokens: tuple[int, ...]
    context: int


@dataclass(frozen=True)
class Examples:
    """Examples to train on, and held-out ones whose chunks no training example touches."""

    training: tuple[Example, ...]
    held_out: tuple[Example, ...]


def make_examples(
    documents: Sequence[Document],
    tokenizer: ChatTokenizer,
    sequence_length: int,
    held_out_ppm: int,
    instruction: str = DEFAULT_INSTRUCTION,
) -> Examples:
    """All examples of these documents, in their order. Raises `BadTrainingData` if there is too little text.

    `instruction` is what a served chat says before its passages.
    """
    training: list[Example] = []
    held_out: list[Example] = []
    rarity = Counter(word for d in documents for chunk in cut(d) for word in set(_words(chunk.text)))
    quoter = _Quoter(tokenizer, sequence_length, instruction, rarity)
    every = max(2, round(1_000_000 / held_out_ppm))
    number = 0
    for document in documents:
        run: list[Chunk] = []
        for chunk in cut(document):
            number += 1
            # The middle one of every so many, so that short collections hold one out too.
            held = number % every == (every // 2 + 1) % every
            (held_out if held else training).extend(quoter.quotations(document.title, chunk.text, number))
            if held:
                held_out.extend(_passages(chunk.text, tokenizer, sequence_length))
                training.extend(_passages(_joined(document, run), tokenizer, sequence_length))
                run = []
            else:
                run.append(chunk)
        training.extend(_passages(_joined(document, run), tokenizer, sequence_length))
    if not training or not held_out:
        raise BadTrainingData(
            f"the documents give {len(training)} training and {len(held_out)} held-out examples: "
            "add more text (a few pages at least)"
        )
    return Examples(tuple(training), tuple(held_out))


def batches(examples: Sequence[T], size: int, epochs: int, seed: int) -> Iterator[tuple[T, ...]]:
    """The batches of all epochs, each epoch in its own order; the same seed gives the same batches."""
    for epoch in range(epochs):
        order = list(range(len(examples)))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        for at in range(0, len(order), size):
            yield tuple(examples[i] for i in order[at : at + size])


def batch_count(examples: int, size: int, epochs: int) -> int:
    """How many batches `batches` yields."""
    return -(-examples // size) * epochs


def _joined(document: Document, run: Sequence[Chunk]) -> str:
    """The text from the first to the last of consecutive chunks."""
    if not run:
        return ""
    return document.text.encode()[run[0].offset : run[-1].offset + run[-1].length].decode()


def _passages(text: str, tokenizer: ChatTokenizer, length: int) -> Iterator[Example]:
    tokens = tokenizer.encode(text)
    for at in range(0, len(tokens), length):
        window = tokens[at : at + length]
        if len(window) >= _FEWEST_TOKENS:
            yield Example(tuple(window), 1)


@dataclass(frozen=True)
class _Quoter:
    """Makes quotations that fit `length` tokens."""

    tokenizer: ChatTokenizer
    length: int
    instruction: str
    rarity: Counter[str]

    def quotations(self, title: str, text: str, number: int) -> Iterator[Example]:
        """One for every few sentences of a passage; `number` varies question and surroundings."""
        groups = list(_sentence_groups(text, self.tokenizer, self.length // 4))
        for place, quoted in enumerate(groups):
            topic = _topic(quoted, self.rarity)
            if not topic:
                continue
            question = _QUESTIONS[(number + place) % len(_QUESTIONS)].format(title=title[:60], topic=topic)
            passage = self._surroundings(groups, place, before=bool((number + place) % 2))
            prompt = self.tokenizer.chat_prompt(
                [
                    Message("system", f"{self.instruction}\n\n[1] {title}\n{passage}"),
                    Message("user", question),
                ]
            )
            answer = [*self.tokenizer.encode(f"{quoted} [1]"), self.tokenizer.end_tokens[-1]]
            # An answer that does not fit is cut, and then has no end to learn.
            answer = answer[: self.length - len(prompt)]
            if len(answer) >= _FEWEST_TOKENS:
                yield Example((*prompt, *answer), len(prompt))

    def _surroundings(self, groups: Sequence[str], place: int, *, before: bool) -> str:
        """The quoted sentences with those before or after them, as far as half the length allows."""
        neighbours = groups[max(0, place - 1) : place + 1] if before else groups[place : place + 2]
        joined = " ".join(neighbours)
        return joined if len(self.tokenizer.encode(joined)) <= self.length // 2 else groups[place]


def _sentence_groups(text: str, tokenizer: ChatTokenizer, budget: int) -> Iterator[str]:
    """Consecutive sentences joined while they fit the budget of tokens; headings left out."""
    pending = ""
    for block in text.split("\n\n"):
        if block.startswith("#"):
            continue
        for sentence in _SENTENCE_END.split(block):
            joined = f"{pending} {sentence}".strip()
            if pending and len(tokenizer.encode(joined)) > budget:
                yield pending
                joined = sentence
            pending = joined
    if pending:
        yield pending


def _topic(text: str, rarity: Counter[str]) -> str:
    """The words that tell most what a passage is about: frequent in it, rare in the documents, in order of place."""
    counts = Counter(_words(text))
    best = sorted(counts, key=lambda w: (-counts[w] * 1000 // rarity[w], -len(w), w))[:_TOPIC_WORDS]
    return " and ".join(sorted(best, key=text.lower().index))


def _words(text: str) -> list[str]:
    return [w.lower() for w in _WORD.findall(text)]

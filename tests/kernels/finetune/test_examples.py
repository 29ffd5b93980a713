from collections import Counter
from pathlib import Path

import pytest

from openledger.kernels.documents import Document, parse_document
from openledger.kernels.finetune.examples import batch_count, batches, make_examples
from openledger.kernels.finetune.job import BadTrainingData
from openledger.kernels.model.tokenizer import ModelTokenizer, load_tokenizer

DOCUMENTS = Path(__file__).parents[3] / "node" / "quickstart" / "documents"


@pytest.fixture(scope="module")
def tokenizer() -> ModelTokenizer:
    return load_tokenizer()


@pytest.fixture(scope="module")
def whales() -> list[Document]:
    return [parse_document(p.name, p.read_bytes()) for p in sorted((DOCUMENTS / "whales").glob("*/*.md"))]


def test_examples_are_the_documents_own_words(tokenizer: ModelTokenizer, whales: list[Document]) -> None:
    examples = make_examples(whales, tokenizer, 192, 100_000)
    words = " ".join(" ".join(d.text.split()) for d in whales)
    passages = [e for e in (*examples.training, *examples.held_out) if e.context == 1]
    quotations = [e for e in (*examples.training, *examples.held_out) if e.context > 1]
    assert len(passages) > 30
    assert len(quotations) > 100
    for example in passages:
        assert " ".join(tokenizer.decode(example.tokens).split()) in words
    whole = 0
    for example in quotations:
        assert len(example.tokens) <= 192
        prompt = tokenizer.decode(example.tokens[: example.context])
        assert prompt.startswith("system\nAnswer from these passages")
        assert prompt.endswith("assistant\n")
        answer = tokenizer.decode(example.tokens[example.context :])
        if example.tokens[-1] in tokenizer.end_tokens:
            whole += 1
            assert answer.endswith(" [1]")
        quoted = answer.split(" [")[0]
        assert quoted in prompt
        assert quoted in words
    assert whole > len(quotations) * 0.8


def test_what_is_held_out_is_in_no_training_example(tokenizer: ModelTokenizer, whales: list[Document]) -> None:
    examples = make_examples(whales, tokenizer, 128, 100_000)
    text = "\n".join(tokenizer.decode(e.tokens) for e in examples.training)
    held = [tokenizer.decode(e.tokens) for e in examples.held_out if e.context == 1]
    assert 2 <= len(held) <= len(examples.training) // 5
    for passage in held:
        assert passage[20:80] not in text


def test_the_same_documents_give_the_same_examples(tokenizer: ModelTokenizer, whales: list[Document]) -> None:
    assert make_examples(whales, tokenizer, 96, 200_000) == make_examples(whales, tokenizer, 96, 200_000)


def test_every_epoch_takes_every_example_once(tokenizer: ModelTokenizer, whales: list[Document]) -> None:
    training = make_examples(whales, tokenizer, 128, 100_000).training
    made = list(batches(training, 8, 2, seed=5))
    assert len(made) == batch_count(len(training), 8, 2)
    half = len(made) // 2
    assert Counter(e for b in made[:half] for e in b) == Counter(training)
    assert [e for b in made[:half] for e in b] != [e for b in made[half:] for e in b]
    assert made == list(batches(training, 8, 2, seed=5))
    assert made != list(batches(training, 8, 2, seed=6))


def test_too_little_text_is_refused_with_advice(tokenizer: ModelTokenizer) -> None:
    with pytest.raises(BadTrainingData, match="add more text"):
        make_examples([parse_document("a.txt", b"One short line of text.")], tokenizer, 128, 100_000)

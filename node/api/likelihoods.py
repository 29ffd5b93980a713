"""How likely the tokens of an answer were, in the two shapes that OpenAI's clients read. For people: no receipt holds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from openledger.kernels.engine.messages import Likelihood
from openledger.kernels.model.tokenizer import ModelTokenizer

Seen = tuple[int, Likelihood]


def shown_tokens(tokenizer: ModelTokenizer, tokens: Sequence[int], likelihoods: Sequence[Likelihood]) -> list[Seen]:
    """The tokens with their likelihoods, without the one that only ends the answer."""
    ends = frozenset(tokenizer.end_tokens)
    return [(token, told) for token, told in zip(tokens, likelihoods) if token not in ends]


def chat_logprobs(tokenizer: ModelTokenizer, seen: Iterable[Seen], top: int) -> dict[str, Any]:
    """`logprobs` of a choice of a chat, with `top` alternatives a token."""
    return {
        "content": [
            {
                **_token(tokenizer, token, told.logprob),
                "top_logprobs": [_token(tokenizer, other, logprob) for other, logprob in told.likeliest[:top]],
            }
            for token, told in seen
        ],
        "refusal": None,
    }


def completion_logprobs(tokenizer: ModelTokenizer, seen: Sequence[Seen], top: int, offset: int) -> dict[str, Any]:
    """`logprobs` of a completion whose first token begins at character `offset`."""
    texts = [tokenizer.decode([token], continued=True) for token, _ in seen]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [told.logprob for _, told in seen],
        "top_logprobs": [
            {tokenizer.decode([other], continued=True): logprob for other, logprob in told.likeliest[:top]}
            for _, told in seen
        ]
        if top
        else None,
        "text_offset": offsets,
    }


def _token(tokenizer: ModelTokenizer, token: int, logprob: float) -> dict[str, Any]:
    """`bytes` is null where the token is only a part of a character."""
    text = tokenizer.decode([token], continued=True)
    return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}

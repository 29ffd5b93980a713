"""How retrieved passages are put before the model. Part of a release (its template hash), so nothing here may change
without a new form: no clock, no randomness, no trimming that depends on anything but the text."""

from __future__ import annotations

from collections.abc import Sequence

from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.messages import RetrievedChunk
from openledger.node.records import Message

PROMPT_FORM = "openledger-prompt-1"
INSTRUCTION = "Answer from these passages and cite them by number, like [1]."


def with_passages(messages: Sequence[Message], passages: Sequence[RetrievedChunk]) -> tuple[Message, ...]:
    """The conversation with the passages in its system message, numbered from 1 in the order given."""
    if not passages:
        return tuple(messages)
    numbered = "\n\n".join(f"[{n}] {p.title}\n{p.text}" for n, p in enumerate(passages, 1))
    context = f"{INSTRUCTION}\n\n{numbered}"
    first, *rest = messages
    if first.role == "system":
        return (Message("system", f"{first.content}\n\n{context}"), *rest)
    return (Message("system", context), first, *rest)


def last_question(messages: Sequence[Message]) -> str:
    """What is searched for: the last thing the user said."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")


def template_hash(chat_template_hash: bytes) -> bytes:
    """A release's `templateHash`: the model's chat template and this module's form and wording."""
    return keccak256(chat_template_hash + keccak256(f"{PROMPT_FORM}\n{INSTRUCTION}".encode()))

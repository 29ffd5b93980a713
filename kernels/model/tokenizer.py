"""The model's tokenizer and chat template, read from its GGUF. Does not load torch.

Two hashes name them in a release: `hash` covers vocabulary, merges and special tokens, `template_hash` the
template's text. The template is rendered in a sandbox without clock or randomness.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from openledger.genesis.hashing import keccak256
from openledger.kernels.model.errors import UnsupportedModel
from openledger.kernels.model.gguf import default_model_file, open_gguf

_CONTROL: Final = 3
_MARK: Final = re.compile("\x00\\d+\x00")
_REPLACEMENT: Final = "\ufffd"
_MAX_PENDING: Final = 16


class PromptError(ValueError):
    """Messages that cannot be turned into a prompt."""


@dataclass(frozen=True)
class Message:
    """One turn of a chat; `role` is system, user or assistant."""

    role: str
    content: str


class ModelTokenizer:
    """Text to token ids and back."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """From a GGUF's key-value pairs. Raises `UnsupportedModel` for a tokenizer of another kind."""
        kind, flavour = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
        if (kind, flavour) != ("gpt2", "smollm"):
            raise UnsupportedModel(f"the tokenizer is {kind}/{flavour}; only gpt2/smollm is supported")
        tokens: list[str] = list(metadata["tokenizer.ggml.tokens"])
        merges: list[str] = list(metadata["tokenizer.ggml.merges"])
        types: list[int] = [int(t) for t in metadata["tokenizer.ggml.token_type"]]
        self.template: str = str(metadata.get("tokenizer.chat_template", ""))
        self.vocabulary = len(tokens)
        self.special_tokens = frozenset(i for i, t in enumerate(types) if t == _CONTROL)
        self.hash = keccak256(
            json.dumps([kind, flavour, tokens, merges, types], ensure_ascii=True, separators=(",", ":")).encode()
        )
        self.template_hash = keccak256(self.template.encode())
        eos = int(metadata["tokenizer.ggml.eos_token_id"])
        ends = {eos} | {tokens.index(t) for t in ("<|im_end|>", "<|endoftext|>") if t in tokens}
        self.end_tokens: tuple[int, ...] = tuple(sorted(ends))
        """Tokens that end an answer."""
        self._tokenizer = Tokenizer(
            models.BPE(
                vocab={token: i for i, token in enumerate(tokens)},
                merges=[(left, right) for left, _, right in (merge.partition(" ") for merge in merges)],
                byte_fallback=False,
            )
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        self._tokenizer.decoder = decoders.ByteLevel()
        self._tokenizer.add_special_tokens(
            [AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == _CONTROL]
        )
        self._text_only = Tokenizer.from_str(self._tokenizer.to_str())
        self._text_only.encode_special_tokens = True
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals.clear()
        self._template = environment.from_string(self.template)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`. `special`: whether text like `<|im_end|>` becomes that control token."""
        tokenizer = self._tokenizer if special else self._text_only
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, control tokens left out; bytes that are not UTF-8 become U+FFFD."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The prompt of a chat, ready for the assistant's answer. Text in a message never becomes a control token.

        Raises `PromptError`.
        """
        if not messages:
            raise PromptError("a chat needs at least one message")
        marks = {}
        turns = []
        for index, message in enumerate(messages):
            if message.role not in ("system", "user", "assistant"):
                raise PromptError(f"message {index} has the role {message.role!r}: use system, user or assistant")
            mark = f"\x00{index}\x00"
            marks[mark] = message.content
            turns.append({"role": message.role, "content": mark})
        try:
            text = self._template.render(messages=turns, add_generation_prompt=True)
        except TemplateError as error:
            raise PromptError(f"the chat template refuses these messages: {error}") from error
        return self._encode_marked(text, marks)

    def _encode_marked(self, text: str, marks: Mapping[str, str]) -> list[int]:
        """Encode the template's own text with control tokens and the messages' without, as one text.

        Control tokens cut the text, so encoding between them piece by piece is what encoding the whole gives.
        """
        control = {self._tokenizer.id_to_token(i): i for i in self.special_tokens}
        pieces: list[int | str] = [text]
        for token, identifier in control.items():
            cut: list[int | str] = []
            for piece in pieces:
                if isinstance(piece, int):
                    cut.append(piece)
                    continue
                for at, part in enumerate(piece.split(token)):
                    if at:
                        cut.append(identifier)
                    cut.append(part)
            pieces = cut
        tokens: list[int] = []
        for piece in pieces:
            if isinstance(piece, int):
                tokens.append(piece)
            elif piece:
                # One pass: what a message says is never searched for marks.
                tokens.extend(self.encode(_MARK.sub(lambda found: marks[found[0]], piece)))
        return tokens


class TextStream:
    """Tokens in, text out as soon as it is whole characters."""

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._shown = 0

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is still in parts."""
        self._window.append(token)
        return self._take(final=False)

    def finish(self) -> str:
        """What is left, with U+FFFD for a character that never became whole."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> str:
        text = self._tokenizer.decode(self._window)
        unfinished = text.endswith(_REPLACEMENT) and not final and len(self._window) < _MAX_PENDING
        if unfinished:
            whole = text.rstrip(_REPLACEMENT)
            new = whole[self._shown :]
            self._shown = max(self._shown, len(whole))
            return new
        new = text[self._shown :]
        # Byte-level tokens decode one by one, so a fresh window loses nothing.
        self._window.clear()
        self._shown = 0
        return new


def load_tokenizer(model_file: str | Path | None = None, cache_folder: str | Path | None = None) -> ModelTokenizer:
    """The tokenizer of a GGUF file, of the default model if None. Takes 3 s without the engine's cache folder.

    Raises a `ModelError`.
    """
    path = default_model_file() if model_file is None else Path(model_file)
    return ModelTokenizer(open_gguf(path, None if cache_folder is None else Path(cache_folder)).metadata)

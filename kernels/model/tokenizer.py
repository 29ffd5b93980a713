"""The model's tokenizer and chat template, read from its files. Does not load torch.

Two hashes name them in a release: `hash` covers vocabulary, merges and special tokens (see `tokenizer_files.py`),
`template_hash` the template's text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import TemplateError
from tokenizers import Tokenizer

from openledger.genesis.hashing import keccak256
from openledger.kernels.model.chat_template import ChatTemplate
from openledger.kernels.model.files import open_model
from openledger.kernels.model.gguf import GgufFile
from openledger.kernels.model.huggingface import HuggingFaceFolder
from openledger.kernels.model.tokenizer_files import TokenizerDescription, describe_folder, describe_metadata

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

    def __init__(self, description: TokenizerDescription) -> None:
        """Raises `UnsupportedModel` for a template that is none."""
        self.template = description.template
        self.vocabulary = description.vocabulary
        self.special_tokens = description.special_tokens
        self.hash = description.hash
        self.template_hash = keccak256(self.template.encode())
        self.end_tokens = description.end_tokens
        """Tokens that end an answer."""
        self._bos = description.bos
        self._tokenizer = description.tokenizer
        self._continued = description.continued
        self._first = _without_specials(description.tokenizer)
        self._later = _without_specials(description.continued)
        self._controls = {self._tokenizer.id_to_token(i): i for i in sorted(self.special_tokens)}
        self._template = ChatTemplate(self.template, description.variables)

    @classmethod
    def of(cls, files: GgufFile | HuggingFaceFolder) -> "ModelTokenizer":
        """Raises a `ModelError`."""
        if isinstance(files, HuggingFaceFolder):
            return cls(describe_folder(files.path))
        return cls(describe_metadata(files.metadata))

    def definition(self) -> str:
        """It as the text of a `tokenizer.json`."""
        return str(self._tokenizer.to_str())

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`. `special`: whether text like `<|im_end|>` becomes that control token."""
        tokenizer = self._tokenizer if special else self._first
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt(self, text: str) -> list[int]:
        """Token ids of a prompt that is no chat: the token that begins texts, for models that have one, then the text's."""
        return ([] if self._bos is None else [self._bos]) + self.encode(text)

    def decode(self, tokens: Sequence[int], *, continued: bool = False) -> str:
        """The text of `tokens`, control tokens left out; bytes that are not UTF-8 become U+FFFD. `continued`: they follow
        others, so a space that they begin with is kept."""
        tokenizer = self._continued if continued else self._tokenizer
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True))

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The prompt of a chat, ready for the assistant's answer. Text in a message never becomes a control token.

        Raises `PromptError`.
        """
        if not messages:
            raise PromptError("a chat needs at least one message")
        if not self.template:
            raise PromptError("the model has no chat template: ask for a completion of a text instead")
        marks, marked, plain = {}, [], []
        for index, message in enumerate(messages):
            if message.role not in ("system", "user", "assistant"):
                raise PromptError(f"message {index} has the role {message.role!r}: use system, user or assistant")
            mark = f"\x00{index}\x00"
            marks[mark] = message.content
            marked.append({"role": message.role, "content": mark})
            plain.append({"role": message.role, "content": message.content})
        try:
            cut = self._cut(self._template.render(plain))
            guarded = self._cut(self._template.render(marked))
        except TemplateError as error:
            raise PromptError(f"the chat template refuses these messages: {error}") from error
        # Templates look into messages (to trim them, to leave thoughts out), so they get them; but if that brought, moved or
        # broke a control token, the messages are put in afterwards, where no control token is looked for.
        if [piece for piece in cut if isinstance(piece, int)] == [piece for piece in guarded if isinstance(piece, int)]:
            return self._encode_pieces(cut, {})
        return self._encode_pieces(guarded, marks)

    def _cut(self, text: str) -> list[int | str]:
        """The text cut at its control tokens; whatever stands between them."""
        pieces: list[int | str] = [text]
        for token, identifier in self._controls.items():
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
        return pieces

    def _encode_pieces(self, pieces: Sequence[int | str], marks: Mapping[str, str]) -> list[int]:
        """Control tokens cut the text, so encoding between them piece by piece is what encoding the whole gives."""
        tokens: list[int] = []
        for piece in pieces:
            if isinstance(piece, int):
                tokens.append(piece)
                continue
            # One pass: what a message says is never searched for marks.
            text = _MARK.sub(lambda found: marks.get(found[0], found[0]), piece)
            if text:
                tokenizer = self._later if tokens else self._first
                tokens.extend(tokenizer.encode(text, add_special_tokens=False).ids)
        return tokens


def _without_specials(tokenizer: Tokenizer) -> Tokenizer:
    """A copy to which control tokens are text like any other."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    return copy


class TextStream:
    """Tokens in, text out as soon as it is whole characters."""

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._shown = 0
        self._continued = False

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is still in parts."""
        self._window.append(token)
        return self._take(final=False)

    def finish(self) -> str:
        """What is left, with U+FFFD for a character that never became whole."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> str:
        text = self._tokenizer.decode(self._window, continued=self._continued)
        unfinished = text.endswith(_REPLACEMENT) and not final and len(self._window) < _MAX_PENDING
        if unfinished:
            whole = text.rstrip(_REPLACEMENT)
            new = whole[self._shown :]
            self._shown = max(self._shown, len(whole))
            return new
        new = text[self._shown :]
        # Tokens decode one by one, but for the space that begins a text, so a fresh window loses nothing.
        self._continued |= any(token not in self._tokenizer.special_tokens for token in self._window)
        self._window.clear()
        self._shown = 0
        return new


def load_tokenizer(model_file: str | Path | None = None, cache_folder: str | Path | None = None) -> ModelTokenizer:
    """The tokenizer of a GGUF file or a model folder, of the default model if None. Takes 3 s without the engine's cache folder.

    Raises a `ModelError`.
    """
    files = open_model(
        None if model_file is None else Path(model_file), None if cache_folder is None else Path(cache_folder)
    )
    return ModelTokenizer.of(files)

"""Answers by a JSON Schema: which tokens may follow, by the library llguidance.

The rule is in kernels/README.md (*Answers by a schema*); `messages.SCHEMA_DIALECT` names it. A verifier gets the same masks by
taking the same tokens. The limits are of work, not of time, so that every machine refuses the same: about 20 ms to
compile, as much for a token.
"""

import json
from typing import Any, Final

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from openledger.kernels.engine.messages import MAX_SCHEMA_BYTES
from openledger.kernels.model.tokenizer import ModelTokenizer

MAX_DEPTH: Final = 64
MAX_JOINED_PATTERNS: Final = 8
"""Different patterns and formats of a schema that joins parts (`allOf`, `$ref` beside others): whether several regular
expressions have a string in common takes twice the work for each more, and no limit of the library ends that."""

_WHITESPACE: Final = r"[\x20\x0A\x0D\x09]{1,40}"
"""Between the parts of a document; without a limit, a model can go on with it for ever."""

_BESIDE_REF: Final = frozenset({"$ref", "$defs", "$schema", "$id", "definitions", "title", "description", "default"})


class SchemaRefused(ValueError):
    """A schema by which nothing can be drawn; the message says why."""


class SchemaCompiler:
    """Constraints for one model. Its tokens are read at the first schema, which takes up to a second or two."""

    def __init__(self, tokenizer: ModelTokenizer, vocabulary: int) -> None:
        self._model_tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._tokenizer: Any = None
        self._limits = LLParserLimits(
            max_items_in_row=2_000, initial_lexer_fuel=1_000_000, step_lexer_fuel=200_000, step_max_items=50_000,
            max_lexer_states=20_000, max_grammar_size=200_000, precompute_large_lexemes=True, verbose_errors=False,
        )  # fmt: skip

    def compile(self, schema: str) -> "Constraint":
        """Raises `SchemaRefused`. Nothing is kept from one schema to the next: what was worked out already would not count
        as work again, and the limits would fall elsewhere."""
        _check(schema)
        if self._tokenizer is None:
            tokenizer = self._model_tokenizer
            self._tokenizer = LLTokenizer(
                tokenizer.definition(), n_vocab=self._vocabulary, eos_token=list(tokenizer.end_tokens)
            )
        options: Any = {"whitespace_pattern": _WHITESPACE}
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides=options)
            matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=self._limits)
        except ValueError as error:
            raise SchemaRefused(f"no answer can be drawn by this schema: {_brief(str(error))}") from error
        if matcher.is_error():
            raise SchemaRefused(f"no answer can be drawn by this schema: {_brief(matcher.get_error())}")
        return Constraint(matcher, self._vocabulary)


class Constraint:
    """A document on its way. `ended`: after how many tokens it was complete, so that nothing can follow; None before."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._words = -(-vocabulary // 32)
        self._taken = 0
        self.ended: int | None = None

    def mask(self) -> Any:
        """The tokens that may come next: uint32 words, a bit for each token. Raises `SchemaRefused` when the limits do."""
        words = np.frombuffer(self._matcher.compute_bitmask(), "<u4")[: self._words]
        if self._matcher.is_error() or not words.any():
            reason = _brief(self._matcher.get_error()) or "no token can continue the document"
            raise SchemaRefused(f"the answer cannot go on by this schema: {reason}")
        return words

    def take(self, token: int) -> None:
        """A token that was drawn, or is claimed. After one that the mask forbids, masks say nothing any more."""
        self._taken += 1
        if self.ended is None:
            self._matcher.consume_token(token)
            if self._matcher.is_stopped() and not self._matcher.is_error():
                self.ended = self._taken


def _check(schema: str) -> None:
    """Whether it is one JSON document of a size and depth that are allowed; the library puts its text into a larger one."""
    if len(schema.encode(errors="surrogatepass")) > MAX_SCHEMA_BYTES:
        raise SchemaRefused(f"a schema has at most {MAX_SCHEMA_BYTES:,} bytes: leave out descriptions, or use $defs")
    depth = deepest = 0
    for character in schema:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    if deepest > MAX_DEPTH:
        raise SchemaRefused(f"a schema has at most {MAX_DEPTH} levels, not {deepest}: use $defs and $ref")
    try:
        document = json.loads(schema, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise SchemaRefused(f"the schema is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SchemaRefused("a schema is a JSON object")
    patterns, joined = _patterns(document)
    if joined and len(patterns) > MAX_JOINED_PATTERNS:
        raise SchemaRefused(
            f"a schema with allOf, or with $ref beside other keywords, has at most {MAX_JOINED_PATTERNS} different patterns "
            f"and formats, not {len(patterns)}"
        )


def _patterns(document: dict[str, Any]) -> tuple[set[str], bool]:
    """All regular expressions and formats in a schema, and whether it joins parts."""
    found: set[str] = set()
    joined = False
    left: list[Any] = [document]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            joined |= "allOf" in part or ("$ref" in part and bool(part.keys() - _BESIDE_REF))
            found |= {f"{name} {part[name]}" for name in ("pattern", "format") if isinstance(part.get(name), str)}
            inner = part.get("patternProperties")
            found |= {f"pattern {name}" for name in inner} if isinstance(inner, dict) else set()
            left += part.values()
        elif isinstance(part, list):
            left += part
    return found, joined


def _brief(reason: str) -> str:
    return reason.replace("<non-verbose/>", "").strip()[:300]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")

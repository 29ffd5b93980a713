"""A tokenizer as its files describe it: from a GGUF's key-value pairs, or a folder's `tokenizer.json`.

| GGUF `model` / `pre` | is |
|---|---|
| gpt2 / smollm | byte-level BPE, digits by themselves |
| gpt2 / llama-bpe | byte-level BPE, digits by threes, whole words first |
| gpt2 / qwen2, deepseek-r1-qwen | byte-level BPE after NFC, digits by themselves |
| llama | SentencePiece's BPE: merges in the order of the pieces' scores, bytes for what has no piece |

The tokenizer's hash, which a release names, covers all that tokens depend on: for a GGUF kind, flavour, tokens, merges and
types (and, but for gpt2/smollm, scores and settings); for a folder the bytes of `tokenizer.json` and the ids of the special tokens.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from openledger.genesis.hashing import keccak256
from openledger.kernels.model.errors import DamagedModel, ModelMissing, UnsupportedModel
from openledger.kernels.model.huggingface import CONFIG_FILE, MAX_JSON_BYTES, read_json

TOKENIZER_FILE: Final = "tokenizer.json"
TOKENIZER_CONFIG_FILE: Final = "tokenizer_config.json"
TEMPLATE_FILE: Final = "chat_template.jinja"
GENERATION_FILE: Final = "generation_config.json"

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_SPACE: Final = "\u2581"
_WORD: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_FLAVOURS: Final = ("smollm", "llama-bpe", "qwen2", "deepseek-r1-qwen")
_ENDS: Final = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")


@dataclass(frozen=True)
class TokenizerDescription:
    """`continued` decodes and encodes what does not begin a text, where that differs. `bos`: the token that a prompt which is
    no chat begins with, None for none. `variables`: what the template may name (`bos_token`, …)."""

    tokenizer: Tokenizer
    continued: Tokenizer
    vocabulary: int
    special_tokens: frozenset[int]
    end_tokens: tuple[int, ...]
    bos: int | None
    hash: bytes
    template: str
    variables: Mapping[str, str]


def describe_metadata(metadata: Mapping[str, Any]) -> TokenizerDescription:
    """From a GGUF's key-value pairs. Raises `UnsupportedModel` for a tokenizer of another kind, by name."""
    kind, flavour = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if not (kind == "llama" or (kind == "gpt2" and flavour in _FLAVOURS)):
        raise UnsupportedModel(
            f"the tokenizer is {kind}/{flavour}; supported are llama, {', '.join(f'gpt2/{name}' for name in _FLAVOURS)}"
        )
    try:
        tokens: list[str] = list(metadata["tokenizer.ggml.tokens"])
        types: list[int] = [int(t) for t in metadata["tokenizer.ggml.token_type"]]
        merges: list[str] = list(metadata["tokenizer.ggml.merges"] if kind == "gpt2" else ())
        scores: list[float] = [float(s) for s in (metadata["tokenizer.ggml.scores"] if kind == "llama" else ())]
        eos = int(metadata["tokenizer.ggml.eos_token_id"])
    except KeyError as error:
        raise UnsupportedModel(f"the model file does not say {error.args[0]}") from error
    if len(types) != len(tokens) or (kind == "llama" and len(scores) != len(tokens)) or not 0 <= eos < len(tokens):
        raise DamagedModel(f"the tokenizer has {len(tokens)} tokens, {len(types)} types and {len(scores)} scores")
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    add_bos = bool(metadata.get("tokenizer.ggml.add_bos_token", kind == "llama" or flavour == "llama-bpe"))
    prefix = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    hashed: list[Any] = [kind, flavour, tokens, merges, types]
    if flavour != "smollm":
        hashed += [scores, bos, eos, add_bos, prefix]
    special = frozenset(i for i, t in enumerate(types) if t == _CONTROL)
    extra = [metadata.get(f"tokenizer.ggml.{name}_token_id", eos) for name in ("eot", "eom")]
    ends = {eos, *map(int, extra)} | {tokens.index(t) for t in _ENDS if t in tokens}
    try:
        if kind == "llama":
            tokenizer, continued = _sentence_pieces(tokens, scores, types, prefix)
        else:
            tokenizer = continued = _byte_level(tokens, merges, str(flavour))
    except Exception as error:  # tokenizers raises a plain Exception for anything that does not fit together
        raise DamagedModel(f"the model's tokenizer is damaged: {error}") from error
    for made in {id(t): t for t in (tokenizer, continued)}.values():
        made.add_special_tokens([_added(tokens[i]) for i in sorted(special)])
        made.add_tokens([_added(t, special=False) for t, k in zip(tokens, types) if k == _USER_DEFINED])
    variables = {"eos_token": tokens[eos]}
    if bos is not None and 0 <= int(bos) < len(tokens):
        variables["bos_token"] = tokens[int(bos)]
    return TokenizerDescription(
        tokenizer,
        continued,
        len(tokens),
        special,
        tuple(sorted(ends)),
        int(bos) if bos is not None and add_bos and "bos_token" in variables else None,
        keccak256(json.dumps(hashed, ensure_ascii=True, separators=(",", ":")).encode()),
        str(metadata.get("tokenizer.chat_template", "")),
        variables,
    )


def describe_folder(folder: Path) -> TokenizerDescription:
    """From a folder in Hugging Face's layout. Raises a `ModelError`."""
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        raise ModelMissing(
            f"the model folder {folder} has no {TOKENIZER_FILE}: save it with a fast tokenizer (transformers: save_pretrained)"
        )
    described = read_json(file)
    raw = file.read_bytes()
    tokenizer = _from_json(described, file)
    continued = _from_json(_continuing(described), file)
    settings = _optional_json(folder / TOKENIZER_CONFIG_FILE)
    special = frozenset(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    variables = {
        name: text
        for name in ("bos_token", "eos_token", "unk_token", "pad_token")
        if (text := _text(settings.get(name)))
    }
    ends = {
        int(i)
        for source in (_optional_json(folder / GENERATION_FILE), read_json(folder / CONFIG_FILE))
        for i in _listed(source.get("eos_token_id"))
    }
    found = (tokenizer.token_to_id(name) for name in (*_ENDS, variables.get("eos_token", "")))
    ends |= {i for i in found if i is not None}
    if not ends:
        raise UnsupportedModel(
            f"neither {CONFIG_FILE} nor {TOKENIZER_CONFIG_FILE} says which token ends an answer (eos_token_id)"
        )
    bos = tokenizer.token_to_id(variables.get("bos_token", ""))
    begins = settings.get("add_bos_token") is True or tokenizer.encode("", add_special_tokens=True).ids[:1] == [bos]
    template = _template(folder, settings)
    hashed = ["tokenizer.json", keccak256(raw).hex(), sorted(ends), variables, begins]
    return TokenizerDescription(
        tokenizer,
        continued,
        tokenizer.get_vocab_size(),
        special,
        tuple(sorted(ends)),
        int(bos) if bos is not None and begins else None,
        keccak256(json.dumps(hashed, ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode()),
        template,
        variables,
    )


def _byte_level(tokens: Sequence[str], merges: Sequence[str], flavour: str) -> Tokenizer:
    made = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=[(left, right) for left, _, right in (merge.partition(" ") for merge in merges)],
            byte_fallback=False,
            ignore_merges=flavour == "llama-bpe",
        )
    )
    if flavour == "smollm":
        cut: pre_tokenizers.PreTokenizer = pre_tokenizers.Digits(individual_digits=True)
        bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pattern = Regex(_WORD % (r"\p{N}{1,3}" if flavour == "llama-bpe" else r"\p{N}"))
        cut = pre_tokenizers.Split(pattern, behavior="isolated", invert=False)
        bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if flavour in ("qwen2", "deepseek-r1-qwen"):
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence([cut, bytewise])
    made.decoder = decoders.ByteLevel()
    return made


def _sentence_pieces(
    tokens: Sequence[str], scores: Sequence[float], types: Sequence[int], prefix: bool
) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizer, and the one that decodes what does not begin a text."""
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges: list[tuple[float, int, str, str]] = []
    for token, i in vocabulary.items():
        for at in range(1, len(token)):
            left, right = token[:at], token[at:]
            if left in vocabulary and right in vocabulary:
                # Among the ways to make one piece, the one whose own pieces were found first.
                merges.append((-scores[i], max(vocabulary[left], vocabulary[right]), left, right))
    merges.sort(key=lambda merge: merge[:2])
    unknown = next((tokens[i] for i, kind in enumerate(types) if kind == _UNKNOWN), None)
    model = models.BPE(
        vocab=vocabulary,
        merges=[(left, right) for _, _, left, right in merges],
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=True,
    )
    # Text behind a control token begins with the prefix too; only what is decoded knows whether it begins a text.
    steps = [normalizers.Prepend(_SPACE)] if prefix else []
    made = []
    for strip in ([decoders.Strip(" ", 1, 0)] if prefix else [], []):
        one = Tokenizer(model)
        one.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", _SPACE)])
        one.decoder = decoders.Sequence(
            [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
        )
        made.append(one)
    return made[0], made[1]


def _continuing(described: Mapping[str, Any]) -> dict[str, Any]:
    """The same `tokenizer.json` for text that does not begin a prompt: a space is neither put in front nor taken away."""

    def changed(part: Any) -> Any:
        if isinstance(part, list):
            return [changed(one) for one in part if not (isinstance(one, dict) and one.get("type") == "Strip")]
        if not isinstance(part, dict):
            return part
        found = {key: changed(value) for key, value in part.items()}
        if found.get("type") == "Metaspace" and "prepend_scheme" in found:
            found["prepend_scheme"] = "never"
        return found

    pre = described.get("pre_tokenizer")
    # Only "first" looks at where in the text a piece stands; "always" and a normalizer's prefix come with every piece.
    first = "first" in json.dumps(pre)
    return {**described, "pre_tokenizer": changed(pre) if first else pre, "decoder": changed(described.get("decoder"))}


def _from_json(described: Mapping[str, Any], file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps(described))
    except Exception as error:  # tokenizers raises a plain Exception for anything it cannot read
        raise DamagedModel(f"{file} is not a tokenizer: {error}") from error


def _template(folder: Path, settings: Mapping[str, Any]) -> str:
    file = folder / TEMPLATE_FILE
    if file.is_file():
        if file.stat().st_size > MAX_JSON_BYTES:
            raise DamagedModel(f"{file} is larger than {MAX_JSON_BYTES:,} bytes")
        return file.read_text("utf-8")
    found = settings.get("chat_template") or ""
    if isinstance(found, list):
        named = {str(one.get("name")): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default") or ""
    return str(found)


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _text(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else value if isinstance(value, str) else ""


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else () if value is None else (value,)


def _added(text: str, *, special: bool = True) -> AddedToken:
    return AddedToken(text, special=special, normalized=False)

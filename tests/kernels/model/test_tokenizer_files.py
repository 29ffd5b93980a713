"""Tokenizers of the families beside transformers' own, from GGUF's key-value pairs and from folders; chat templates likewise."""

import json
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from jinja2 import TemplateError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from openledger.kernels.model.chat_template import ChatTemplate
from openledger.kernels.model.errors import DamagedModel, UnsupportedModel
from openledger.kernels.model.tokenizer import Message, ModelTokenizer, PromptError, TextStream
from openledger.kernels.model.tokenizer_files import describe_folder, describe_metadata

TEXTS = [
    "Hello world", " two  spaces   and\ttabs\n\nnew lines \n", "I'm sure they'LL 've it's", "12345 6 007 x1y22",
    "naïve café 日本語 ñ e\u0301 \U0001f600\u200d!", "if x == 3: return {'a': [1, 2]}  # done...", "   ", "a", "\n",
    "ALLCAPS MixedCase snake_case __init__ https://example.org/?q=1&b=2",
]  # fmt: skip
CORPUS = [topics[name] for name in ("assert", "class", "for", "while", "import", "numbers")] + TEXTS
SPACE = "\u2581"


def trained(pre: Any, alphabet: list[str], size: int, normalizer: Any = None) -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merges of a BPE trained here, as real tokenizers of this kind were."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre
    if normalizer is not None:
        made.normalizer = normalizer
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(made.to_str())["model"]
    return model["vocab"], [" ".join(merge) for merge in model["merges"]]


@pytest.fixture(scope="module")
def bytewise() -> tuple[dict[str, int], list[str]]:
    return trained(pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.ByteLevel.alphabet(), 700)


def metadata_of(vocabulary: dict[str, int], merges: list[str], pre: str) -> dict[str, Any]:
    tokens = [*sorted(vocabulary, key=lambda token: vocabulary[token]), "<|endoftext|>", "<|im_end|>", "<think>"]
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges, "tokenizer.ggml.token_type": [1] * (len(tokens) - 3) + [3, 3, 4],
        "tokenizer.ggml.eos_token_id": len(tokens) - 3, "tokenizer.ggml.bos_token_id": len(tokens) - 3,
        "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
    }  # fmt: skip


@pytest.mark.parametrize("pre", ["qwen2", "deepseek-r1-qwen"])
def test_qwen2_from_gguf_is_transformers(bytewise: tuple[dict[str, int], list[str]], pre: str) -> None:
    from transformers import Qwen2Tokenizer

    vocabulary, merges = bytewise
    ours = ModelTokenizer(describe_metadata(metadata_of(vocabulary, merges, pre)))
    theirs = Qwen2Tokenizer(vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in merges])
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    assert ours.prompt("a") == ours.encode("a")
    assert ours.encode("<think>") == [len(vocabulary) + 2]
    assert ours.encode("<|im_end|>") != [len(vocabulary) + 1]


def test_llama_3_from_gguf_cuts_as_transformers_converter_does_and_takes_whole_words(
    bytewise: tuple[dict[str, int], list[str]],
) -> None:
    from transformers.convert_slow_tokenizer import TikTokenConverter

    vocabulary, merges = bytewise
    vocabulary = {**vocabulary, "unmerged": len(vocabulary)}
    ours = ModelTokenizer(describe_metadata(metadata_of(vocabulary, merges, "llama-bpe")))
    theirs = Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges], ignore_merges=True))
    cut = pre_tokenizers.Split(Regex(TikTokenConverter().pattern), behavior="isolated", invert=False)
    theirs.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    for text in [*TEXTS, "unmerged"]:
        assert ours.encode(text) == theirs.encode(text).ids
        assert ours.decode(ours.encode(text)) == text
    assert ours.encode("unmerged") == [vocabulary["unmerged"]]
    assert ours.prompt("a") == [len(vocabulary), *ours.encode("a")]


@pytest.fixture(scope="module")
def pieces() -> dict[str, Any]:
    """Key-value pairs as a GGUF of Llama 2 has them: control tokens, bytes, then pieces with falling scores."""
    pre = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=True)
    vocabulary, _ = trained(pre, [], 500)
    learned = sorted(vocabulary, key=lambda token: (len(token) == 1, vocabulary[token]))
    # Characters that are rare have no piece, nor has what holds them.
    learned = [token for token in learned if not set(token) & set("\n\t\U0001f600語")]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned, SPACE * 2, SPACE * 4]
    special = [2, 3, 3] + [6] * 256
    return {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)],
        "tokenizer.ggml.token_type": special + [1] * (len(tokens) - 259), "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}",
    }  # fmt: skip


def sentence_pieces(metadata: dict[str, Any], text: str) -> list[int]:
    """SentencePiece's rule, read plainly: of all neighbours that make a piece, join the likeliest, the leftmost of equals."""
    ids = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    scores = metadata["tokenizer.ggml.scores"]
    parts = list((" " + text).replace(" ", SPACE))
    while True:
        pairs = [(scores[ids[a + b]], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ids]
        if not pairs:
            break
        at = -max(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    found: list[int] = []
    for part in parts:
        found += [ids[part]] if part in ids else [ids[f"<0x{byte:02X}>"] for byte in part.encode()]
    return found


def test_llama_2_from_gguf_is_sentencepieces_rule_and_transformers_converter(pieces: dict[str, Any]) -> None:
    from transformers.integrations.ggml import GGUFLlamaConverter

    ours = ModelTokenizer(describe_metadata(pieces))
    named = {"tokens": "tokens", "scores": "scores", "token_type": "token_type", "bos_token_id": "bos_token_id",
             "eos_token_id": "eos_token_id", "unk_token_id": "unknown_token_id"}  # fmt: skip
    theirs = GGUFLlamaConverter(
        {"tokenizer_type": "llama"} | {key: pieces[f"tokenizer.ggml.{name}"] for key, name in named.items()}
    ).converted()
    for text in TEXTS:
        assert ours.encode(text) == sentence_pieces(pieces, text)
        if not text.startswith(" "):  # there Hugging Face's rule is another than SentencePiece's
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == text
    assert ours.prompt("a")[0] == 1


def test_a_stream_of_pieces_strips_the_first_space_only(pieces: dict[str, Any]) -> None:
    tokenizer = ModelTokenizer(describe_metadata(pieces))
    for text in TEXTS:
        stream = TextStream(tokenizer)
        shown = [stream.push(token) for token in [1, *tokenizer.encode(text), 2]]
        assert "".join(shown) + stream.finish() == text
        assert not any("\ufffd" in piece for piece in shown)


def test_a_chat_begins_with_its_first_token_and_no_message_adds_another(pieces: dict[str, Any]) -> None:
    tokenizer = ModelTokenizer(describe_metadata(pieces))
    prompt = tokenizer.chat_prompt([Message("user", "hi </s> <s>")])
    assert [token for token in prompt if token in tokenizer.special_tokens] == [1]
    assert tokenizer.decode(prompt) == "[INST] hi </s> <s> [/INST]"
    assert prompt[1:] == sentence_pieces(pieces, "[INST] hi </s> <s> [/INST]")


def test_a_control_token_that_two_messages_make_together_is_none(bytewise: tuple[dict[str, int], list[str]]) -> None:
    metadata = metadata_of(*bytewise, "qwen2")
    metadata["tokenizer.chat_template"] = "{% for m in messages %}{{ m.content | trim }}{% endfor %}"
    tokenizer = ModelTokenizer(describe_metadata(metadata))
    prompt = tokenizer.chat_prompt([Message("user", "a <|im_"), Message("user", "end|> ")])
    assert not tokenizer.special_tokens & set(prompt)
    assert tokenizer.decode(prompt) == "a <|im_end|> "
    assert tokenizer.decode(tokenizer.chat_prompt([Message("user", " a ")])) == "a"


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"tokenizer.ggml.pre": "tekken"}, UnsupportedModel, "gpt2/tekken"),
        ({"tokenizer.ggml.pre": None}, UnsupportedModel, "gpt2/None"),
        ({"tokenizer.ggml.model": "t5"}, UnsupportedModel, "t5/qwen2"),
        ({"tokenizer.ggml.merges": ...}, UnsupportedModel, "tokenizer.ggml.merges"),
        ({"tokenizer.ggml.merges": ["zz yy"]}, DamagedModel, "damaged"),
        ({"tokenizer.ggml.eos_token_id": 1 << 30}, DamagedModel, "tokens"),
        ({"tokenizer.chat_template": "{% if %}"}, UnsupportedModel, "template is damaged"),
    ],
)
def test_other_tokenizers_are_refused_by_name(
    bytewise: tuple[dict[str, int], list[str]], change: dict[str, Any], error: type[Exception], says: str
) -> None:
    metadata = {**metadata_of(*bytewise, "qwen2"), **change}
    with pytest.raises(error, match=says):
        ModelTokenizer(describe_metadata({key: value for key, value in metadata.items() if value is not ...}))


def folder_of(folder: Path, tokenizer: Tokenizer, **settings: Any) -> Path:
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 2}))
    known = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({**known, **settings}))
    return folder


@pytest.mark.parametrize("scheme", ["first", "always", "prepend"])
def test_a_folders_tokenizer_is_transformers_and_streams_whole_texts(
    pieces: dict[str, Any], tmp_path: Path, scheme: str
) -> None:
    from transformers import AutoTokenizer

    made = Tokenizer.from_str(describe_metadata(pieces).tokenizer.to_str())
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("<s>", "</s>", "<unk>")])
    if scheme != "prepend":
        made.normalizer = normalizers.Sequence([])
        made.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme, split=False)
        made.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(SPACE, prepend_scheme=scheme, split=False), decoders.Fuse()]
        )
    template = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content | trim }} [/INST]{{ eos_token }}{% endfor %}"
    folder = folder_of(tmp_path / "model", made, chat_template=template)
    ours, theirs = ModelTokenizer(describe_folder(folder)), AutoTokenizer.from_pretrained(str(folder))
    for text in TEXTS:
        tokens = ours.encode(text)
        assert tokens == theirs.encode(text, add_special_tokens=False)
        assert ours.decode(tokens) == theirs.decode(tokens)
        stream = TextStream(ours)
        assert "".join(stream.push(token) for token in tokens) + stream.finish() == ours.decode(tokens)
    chat = [Message("user", " Hi there "), Message("assistant", "Yes?"), Message("user", "ok")]
    turns = [{"role": message.role, "content": message.content} for message in chat]
    assert ours.chat_prompt(chat) == list(
        theirs.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    )
    assert ours.end_tokens == (2,)


def test_a_folders_hash_covers_what_tokens_depend_on(pieces: dict[str, Any], tmp_path: Path) -> None:
    made = describe_metadata(pieces).tokenizer
    one = describe_folder(folder_of(tmp_path / "one", made))
    same = describe_folder(folder_of(tmp_path / "same", made))
    other = describe_folder(folder_of(tmp_path / "other", made, bos_token="</s>"))
    assert one.hash == same.hash != other.hash
    begun = describe_folder(folder_of(tmp_path / "begun", made, add_bos_token=True))
    assert (one.bos, begun.bos) == (None, 1)
    assert begun.hash != one.hash
    with pytest.raises(PromptError, match="no chat template"):
        ModelTokenizer(one).chat_prompt([Message("user", "hi")])


TEMPLATES = [
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.content }}{% break %}{% endfor %}",
    "{{ messages | tojson }}{% if strftime_now is defined %}{{ 'today' }}{% else %}26 Jul 2024{% endif %}",
    "{% for m in messages %}{{ m.content.split('</think>')[-1].lstrip('\n') }}{% endfor %}",
]


def test_templates_see_what_they_use_and_neither_clock_nor_chance() -> None:
    chat = [{"role": "system", "content": "x</think>\n\né"}, {"role": "user", "content": "y"}]
    rendered = [ChatTemplate(template, {}).render(chat) for template in TEMPLATES]
    assert rendered[0] == "1x</think>\n\né2y"
    assert rendered[1] == "y"
    assert rendered[2].endswith("26 Jul 2024")
    assert "é" in rendered[2]
    assert rendered[3] == "éy"
    with pytest.raises(TemplateError, match="no system here"):
        ChatTemplate("{{ raise_exception('no system here') }}", {}).render(chat)
    for bad in (
        "{{ messages | random }}",
        "{{ lipsum() }}",
        "{{ strftime_now('%d') }}",
        "{{ ''.__class__.__mro__[1] }}",
        "{{ 1 // 0 }}",
    ):
        with pytest.raises((TemplateError, UnsupportedModel)):
            ChatTemplate(bad, {}).render(chat)

"""Answers by a JSON Schema: always a document of it, the same in every batch, and checked by the same masks."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLTokenizer

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.constraint import Constraint, SchemaCompiler, SchemaRefused
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import MAX_SCHEMA_BYTES, Failed, Finished, Generate, Sampling, Token, Verify
from openledger.kernels.model.load import Model, load_model
from openledger.kernels.model.tokenizer import Message

from ..model.tiny_model import write_tiny_model
from .conftest import Harness

HOT = Sampling(temperature_milli=1000)
PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ann", "Bo"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
Make = Callable[..., Harness]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("tiny")
    return load_model(folder, model_file=write_tiny_model(folder / "tiny.gguf"), threads=1)


@pytest.fixture
def make(tiny: Model) -> Make:
    def make(**sizes: Any) -> Harness:
        config = EngineConfig(cache_folder="", **{"max_context": 256, "kv_tokens": 1024, **sizes})
        return Harness(ServingEngine(tiny, config))

    return make


def ask(number: int, schema: Any = PERSON, **fields: Any) -> Generate:
    ours: dict[str, Any] = {
        "seed": bytes([number]) * 32,
        "request_hash": bytes([number + 1]) * 32,
        "sampling": HOT,
        "max_tokens": 150,
    }
    text = schema if isinstance(schema, str) else json.dumps(schema)
    ours["prompt_tokens"] = [number, 7, 9]
    return Generate(request_id=f"{number}", schema=text, **{**ours, **fields})


def to_verify(request: Generate, done: Finished, **changes: Any) -> Verify:
    fields = {name: getattr(request, name) for name in request.__struct_fields__ if name in Verify.__struct_fields__}
    claim = {"output_tokens": done.output_tokens, "stop_reason": done.stop_reason, "fingerprint": done.fingerprint}
    return Verify(**{**fields, **claim, **changes})


def test_what_a_random_model_says_is_a_document_of_the_schema_and_ends_by_itself(make: Make) -> None:
    # Without tokens that end a turn, so that only the document can end it.
    requests = [ask(number, stop_tokens=[]) for number in range(6)]
    heard = make().run(*requests)
    for request in requests:
        done = heard[request.request_id][-1]
        assert isinstance(done, Finished)
        assert done.stop_reason == "stop"
        person = json.loads(done.text)
        assert set(person) == {"name", "age"}
        assert person["name"] in ("Ann", "Bo")
        assert 0 <= person["age"] <= 99
        assert "".join(m.text for m in heard[request.request_id] if isinstance(m, Token)) == done.text
        # Nothing was drawn behind the brace.
        assert done.text.endswith("}")
        assert done.output_tokens[-1] == ord("}")
    crowded = make(kv_tokens=256, page_tokens=4, max_step_tokens=5, max_batch=3).run(
        *requests, ask(9, "", max_tokens=40)
    )
    assert {name: messages[-1] for name, messages in crowded.items() if name != "9"} == {
        name: messages[-1] for name, messages in heard.items()
    }


def test_a_document_that_could_go_on_ends_where_the_model_ends_it(make: Make) -> None:
    for number in range(4):
        done = make().last(ask(number, {"type": "integer"}, sampling=Sampling(temperature_milli=5000)))
        assert isinstance(done, Finished)
        if done.stop_reason == "stop":
            assert done.output_tokens[-1] in (256, 257)
            int(done.text)


def test_a_check_takes_the_same_masks_and_sees_that_others_were_taken(make: Make) -> None:
    request = ask(3, stop_tokens=[])
    done = make().last(request)
    assert make(max_step_tokens=8).last(to_verify(request, done)).ok
    free = make().last(to_verify(request, done, schema=""))
    assert not free.ok
    other = {**PERSON, "properties": {**PERSON["properties"], "name": {"enum": ["Cy"]}}}
    assert "is" in make().last(to_verify(request, done, schema=json.dumps(other))).detail
    longer = make().last(to_verify(request, done, output_tokens=[*done.output_tokens, 5]))
    assert "more are claimed" in longer.detail
    shorter = make().last(to_verify(request, done, output_tokens=done.output_tokens[:-1]))
    assert "does not end" in shorter.detail
    outside = [*done.output_tokens]
    outside[0] = 0
    assert (
        f"output token 0 is {done.output_tokens[0]}, not 0"
        in make().last(to_verify(request, done, output_tokens=outside)).detail
    )


def test_greedy_answers_are_masked_too_and_hashed_as_the_model_gave_them(make: Make) -> None:
    request = ask(1, {"const": "ab"}, sampling=Sampling(), stop_tokens=[])
    done = make().last(request)
    assert json.loads(done.text) == "ab"
    # The first token's link holds the same hash of the same logits, whatever was allowed.
    free = make().last(msgspec.structs.replace(request, schema="", max_tokens=1))
    forced = make().last(to_verify(request, done, schema=""))
    assert free.output_tokens != done.output_tokens[:1]
    assert not forced.ok


def test_likelihoods_are_of_the_model_not_of_what_was_allowed(make: Make) -> None:
    schema = {"const": "ab"}
    done = make().last(ask(1, schema, logprobs=3, stop_tokens=[]))
    assert len(done.likelihoods) == len(done.output_tokens)
    assert all(len(each.likeliest) == 3 for each in done.likelihoods)
    assert any(each.likeliest[0][0] != token for each, token in zip(done.likelihoods, done.output_tokens))


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("{", "is not JSON"),
        ("5", "JSON object"),
        ('{"a": NaN}', "NaN"),
        ('{"type": "string"}}, {"lark_grammar": "start: /x/"', "is not JSON"),
        ('{"type": "nope"}', "Invalid type"),
        ('{"not": {}}', "not"),
        ('{"$ref": "https://example.org/schema"}', "not fetch"),
        ('{"$ref": "file:///etc/passwd"}', "not fetch"),
        ('{"type": "object", "required": ["a"], "properties": {"a": false}}', "nsatisfiable"),
        ('{"type":"array","items":' * 65 + "{}" + "}" * 65, "at most 64 levels"),
        ("[" * 60_000, "at most 64 levels"),
        ('{"description": "' + "x" * MAX_SCHEMA_BYTES + '"}', "at most 65,536 bytes"),
        ('{"type": "string", "pattern": "(((a{1,999}b){1,999}c){1,999}d){1,999}(?=x)"}', "drawn by this schema"),
        ('{"type": "string", "const": "\\ud800"}', "drawn by this schema"),
    ],
)
def test_schemas_that_cannot_be_served_are_refused_by_what_is_wrong(make: Make, schema: str, says: str) -> None:
    failed = make().last(ask(1, schema))
    assert isinstance(failed, Failed)
    assert failed.code == "bad_request"
    assert says in failed.message


def test_more_work_than_a_token_is_worth_is_refused_by_its_amount(tiny: Model) -> None:
    compiler = SchemaCompiler(tiny.tokenizer, tiny.config.vocabulary)
    with pytest.raises(SchemaRefused, match="fuel"):
        compiler.compile(json.dumps({"type": "integer", "multipleOf": 999_999_937, "minimum": 12_345_678_901}))
    crowd = [{"type": "string", "pattern": f"^([a-z]{{1,{n}}}x){{1,{n}}}$"} for n in range(5, 900)]
    constraint = compiler.compile(json.dumps({"anyOf": crowd}))
    with pytest.raises(SchemaRefused, match="the answer cannot go on"):
        walk(constraint, '"' + "abcx" * 40)
    joined = [{"type": "string", "pattern": f"[a-z]*{chr(97 + n)}[a-z]*"} for n in range(24)]
    for schema in ({"allOf": joined}, {"$defs": {"a": {"allOf": joined}}, "$ref": "#/$defs/a"}):
        with pytest.raises(SchemaRefused, match="at most 8 different patterns"):
            compiler.compile(json.dumps(schema))
    compiler.compile(json.dumps({"anyOf": joined}))


def walk(constraint: Constraint, text: str) -> None:
    for letter in text:
        constraint.mask()
        constraint.take(ord(letter))


# The library lets control characters be written as escapes only.
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=8)
documents = st.fixed_dictionaries(
    {
        "name": texts,
        "tags": st.lists(st.sampled_from(["a", "b"]), max_size=3),
        "deep": st.none() | st.dictionaries(texts, st.integers(), max_size=2),
    }
)


@settings(max_examples=25, deadline=None)
@given(documents, st.booleans())
def test_every_document_of_the_schema_may_be_said(tiny: Model, document: Any, spaced: bool) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
            "deep": {"anyOf": [{"type": "null"}, {"type": "object", "additionalProperties": {"type": "integer"}}]},
        },
        "required": ["name", "tags", "deep"],
        "additionalProperties": False,
    }
    constraint = SchemaCompiler(tiny.tokenizer, tiny.config.vocabulary).compile(json.dumps(schema))
    # Properties come in the order of the schema.
    document = {name: document[name] for name in schema["required"]}
    text = json.dumps(document, indent=2 if spaced else None, ensure_ascii=False)
    tokens = tiny.tokenizer.encode(text)
    for token in tokens:
        mask = constraint.mask()
        assert mask[token >> 5] >> (token & 31) & 1, (text, token)
        constraint.take(token)
    assert constraint.ended == len(tokens)


def test_masks_do_not_depend_on_how_the_library_is_sped_up(tiny: Model) -> None:
    compiler = SchemaCompiler(tiny.tokenizer, tiny.config.vocabulary)
    compiler.compile("{}")
    plain = SchemaCompiler(tiny.tokenizer, tiny.config.vocabulary)
    plain._tokenizer = LLTokenizer(
        tiny.tokenizer.definition(),
        n_vocab=tiny.config.vocabulary,
        eos_token=list(tiny.tokenizer.end_tokens),
        slices=[],
    )
    both = [each.compile(json.dumps(PERSON)) for each in (compiler, plain)]
    for token in tiny.tokenizer.encode('{ "name": "Bo",\n "age": 7'):
        masks = [constraint.mask() for constraint in both]
        assert np.array_equal(*masks)
        for constraint in both:
            constraint.take(token)


def test_the_real_model_answers_by_a_schema(model: Model) -> None:
    engine = Harness(ServingEngine(model, EngineConfig(cache_folder="", max_context=256, kv_tokens=512)))
    prompt = model.tokenizer.chat_prompt([Message("user", "Name the capital of France as JSON with the key city.")])
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"],
              "additionalProperties": False}  # fmt: skip
    request = ask(1, schema, prompt_tokens=prompt, sampling=Sampling(), max_tokens=40, logprobs=2)
    done = engine.last(request)
    assert isinstance(done, Finished)
    assert "Paris" in json.loads(done.text)["city"]
    assert engine.last(to_verify(request, done)).ok
    for each in done.likelihoods:
        assert each.logprob <= each.likeliest[0][1] <= 0
        assert each.likeliest[0][1] >= each.likeliest[1][1]

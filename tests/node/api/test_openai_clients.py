"""The packages `openai` and `langchain-openai`, unmodified, against a provider's desk: only a header pays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from openledger.node.payments import PAYMENT_HEADER

from ..desk import Desk

langchain_openai = pytest.importorskip("langchain_openai")

pytestmark = pytest.mark.interop

MESSAGES: Any = [{"role": "user", "content": "ab"}]


class Whale(BaseModel):
    """What can be said of it in few words."""

    large: bool
    kind: Literal["blue", "sperm"]


@pytest.fixture
def paying(desk: Desk) -> Iterator[httpx.Client]:
    """A client that signs a voucher for every call, as a program that holds a channel does."""

    def pay(request: httpx.Request) -> None:
        request.headers[PAYMENT_HEADER] = desk.voucher().header()

    with httpx.Client(event_hooks={"request": [pay]}, trust_env=False, timeout=500) as client:
        yield client


@pytest.fixture
def client(desk: Desk, paying: httpx.Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{desk.url}/v1", api_key="none", max_retries=0, http_client=paying)


@pytest.fixture
def chat_model(desk: Desk, paying: httpx.Client) -> Any:
    return langchain_openai.ChatOpenAI(
        model="bare", base_url=f"{desk.url}/v1", api_key="none", max_retries=0, max_tokens=6, http_client=paying
    )


# openai


def test_chats_completions_and_models(desk: Desk, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="bare", messages=MESSAGES, max_completion_tokens=5, n=2, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer._request_id.startswith("req_")  # type: ignore[union-attr]
    assert answer.model_extra is not None
    assert len(answer.model_extra["openledger"]["receipt_hashes"]) == 2
    completion = client.completions.create(model="bare", prompt=[1, 2, 3], max_tokens=4, temperature=0)
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 3
    assert "bare" in [model.id for model in client.models.list()]
    assert client.models.retrieve("lora").id == "lora"


def test_log_probabilities_are_told_in_both_shapes(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="bare", messages=MESSAGES, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3
    )
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content
    assert answer.usage is not None
    assert len(content) in (answer.usage.completion_tokens, answer.usage.completion_tokens - 1)
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == token.top_logprobs[0].logprob <= 0, "greedy takes the likeliest"
    chunks = client.chat.completions.create(
        model="bare", messages=MESSAGES, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3, stream=True
    )
    streamed = [t for c in chunks for choice in c.choices if choice.logprobs for t in choice.logprobs.content or []]
    assert [t.logprob for t in streamed] == [t.logprob for t in content]
    told = client.completions.create(model="bare", prompt="ab", max_tokens=5, temperature=0, logprobs=2).choices[0]
    assert told.logprobs is not None
    assert told.logprobs.text_offset is not None
    assert told.logprobs.text_offset[0] == 0
    assert told.logprobs.top_logprobs is not None
    assert told.logprobs.token_logprobs is not None
    assert len(told.logprobs.token_logprobs) == len(told.logprobs.top_logprobs)


def test_an_answer_keeps_to_a_schema_and_its_receipt_says_so(desk: Desk, client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="bare", messages=MESSAGES, max_completion_tokens=100, seed=3, response_format=Whale
    )
    assert isinstance(answer.choices[0].message.parsed, Whale)
    assert answer.model_extra is not None
    receipt = answer.model_extra["openledger"]["receipt_hash"]
    shown = desk.get(f"/v1/receipts/{receipt}").json()
    assert set(json.loads(shown["schema"])["properties"]) == {"large", "kind"}
    found = desk.audit(receipt)
    assert found["tokens"].verdict == found["fingerprint"].verdict == "good", found


def test_a_json_object_is_begun_and_cut_where_the_tokens_end(client: openai.OpenAI) -> None:
    wanted: Any = {"type": "json_object"}
    answer = client.chat.completions.create(model="bare", messages=MESSAGES, max_tokens=3, response_format=wanted)
    assert (answer.choices[0].message.content or "").lstrip().startswith("{")


def test_a_schema_that_no_answer_can_keep_to_is_refused(desk: Desk, client: openai.OpenAI) -> None:
    before = desk.owed()
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nosuch"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="bare", messages=MESSAGES, response_format=wanted)
    assert "nosuch" in str(refused.value) or "schema" in str(refused.value)
    assert desk.owed() == before


def test_embeddings_come_as_numbers(client: openai.OpenAI) -> None:
    told = client.embeddings.create(model="all-MiniLM-L6-v2", input=["whales", "bread"])
    assert [len(entry.embedding) for entry in told.data] == [384, 384]
    plain = client.embeddings.create(model="all-MiniLM-L6-v2", input="whales", encoding_format="float")
    assert plain.data[0].embedding == told.data[0].embedding


def test_errors_are_its_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="bare", messages=MESSAGES, logit_bias={"5": 10})
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "logit_bias")
    assert refused.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="nosuch", prompt="a")


# langchain-openai


def test_langchain_asks_and_streams(chat_model: Any) -> None:
    answer = chat_model.invoke("ab")
    assert answer.usage_metadata["output_tokens"] > 0
    pieces = list(chat_model.stream("ab"))
    assert sum(bool(piece.content) for piece in pieces) > 0
    bound = chat_model.bind(logprobs=True, top_logprobs=1, temperature=0).invoke("ab")
    assert bound.response_metadata["logprobs"]["content"]


def test_langchain_gives_structured_output(chat_model: Any) -> None:
    model = chat_model.model_copy(update={"max_tokens": 100, "seed": 3})
    assert isinstance(model.with_structured_output(Whale).invoke("ab"), Whale)
    with pytest.raises(openai.BadRequestError, match="response_format"):
        model.with_structured_output(Whale, method="function_calling").invoke("ab")


def test_langchain_embeds(desk: Desk) -> None:
    embeddings = langchain_openai.OpenAIEmbeddings(
        model="all-MiniLM-L6-v2", base_url=f"{desk.url}/v1", api_key="none", check_embedding_ctx_length=False
    )
    vectors = embeddings.embed_documents(["whales sleep", "bake bread"])
    assert [len(vector) for vector in vectors] == [384, 384]
    assert embeddings.embed_query("whales sleep") == vectors[0]

"""Chats and completions over a tiny model: every parameter of OpenAI's is kept to, or refused by name; what is paid is
what the receipts say, and another node finds every receipt true."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..desk import Desk

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def chat(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "ab"}]
    return {"model": "bare", "messages": messages, "max_tokens": 6, "temperature": 1, "seed": 5, **fields}


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": "bare", "prompt": "ab", "max_tokens": 6, "temperature": 1, "seed": 5, **fields}


def good(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    """A stream's chunks."""
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def assert_true(desk: Desk, receipt_hash: str) -> None:
    """Another node does the answer again and finds nothing false."""
    found = desk.audit(receipt_hash)
    assert {finding.verdict for finding in found.values()} <= {"good", "unchecked"}, found
    assert found["tokens"].verdict == found["fingerprint"].verdict == found["fee"].verdict == "good", found


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"top_k": 3, "min_p": 0.01, "top_p": 0.9},
        {"stop": ["a", "b"]},
        {"max_tokens": None, "max_completion_tokens": 3},
        {"temperature": None, "top_p": None, "n": None, "stop": None, "seed": None, "stream": None, "tools": []},
        {"user": "u", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "reasoning_effort": "low"},
        {"presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {}, "modalities": ["text"]},
        {"response_format": {"type": "text"}, "parallel_tool_calls": True},
    ],
)
def test_a_chat_is_answered_paid_and_found_true(desk: Desk, fields: dict[str, Any]) -> None:
    before = desk.owed()
    told = good(desk.post(CHAT, chat(**fields)))
    (choice,) = told["choices"]
    assert told["object"] == "chat.completion"
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in ("stop", "length")
    usage = told["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert desk.owed() - before == told["openledger"]["fee_micro_open"] > 0
    assert_true(desk, told["openledger"]["receipt_hash"])


def test_a_completion_continues_the_prompt_as_it_stands(desk: Desk) -> None:
    told = good(desk.post(COMPLETIONS, completion()))
    assert told["object"] == "text_completion"
    tokens = desk.tokenizer.encode("ab")
    assert told["usage"]["prompt_tokens"] == len(tokens)
    assert_true(desk, told["openledger"]["receipt_hash"])
    by_tokens = good(desk.post(COMPLETIONS, completion(prompt=tokens, temperature=0)))
    by_text = good(desk.post(COMPLETIONS, completion(temperature=0)))
    assert by_tokens["choices"][0]["text"] == by_text["choices"][0]["text"]
    assert_true(desk, by_tokens["openledger"]["receipt_hash"])
    echoed = good(desk.post(COMPLETIONS, completion(temperature=0, echo=True)))
    assert echoed["choices"][0]["text"] == "ab" + by_text["choices"][0]["text"]


@pytest.mark.parametrize("prompt", [["ab", "ba"], [[1, 2], [3]]])
def test_several_prompts_times_n_are_so_many_paid_answers(desk: Desk, prompt: list[Any]) -> None:
    before = desk.owed()
    told = good(desk.post(COMPLETIONS, completion(prompt=prompt, n=2)))
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2, 3]
    receipts = [choice["openledger"] for choice in told["choices"]]
    assert len({receipt["receipt_hash"] for receipt in receipts}) == 4
    assert told["openledger"]["fee_micro_open"] == sum(r["fee_micro_open"] for r in receipts) == desk.owed() - before
    ends = [int(r["receipt"]["cumulativeAfter"]) for r in receipts]
    assert [int(r["receipt"]["cumulativeBefore"]) for r in receipts] == [before, *ends[:-1]]
    for receipt in receipts:
        assert_true(desk, receipt["receipt_hash"])


def test_n_answers_of_a_stream_each_end_with_their_receipt(desk: Desk) -> None:
    chunks = events(desk.post(CHAT, chat(n=3, stream=True, stream_options={"include_usage": True})))
    assert chunks[-1]["choices"] == []
    ended = [chunk for chunk in chunks[:-1] if chunk["choices"][0]["finish_reason"]]
    assert [chunk["choices"][0]["index"] for chunk in ended] == [0, 1, 2]
    for chunk in ended:
        index = chunk["choices"][0]["index"]
        text = "".join(
            c["choices"][0]["delta"].get("content", "") for c in chunks[:-1] if c["choices"][0]["index"] == index
        )
        assert desk.get(f"/v1/receipts/{chunk['openledger']['receipt_hash']}").json()["text"] == text
    assert len({chunk["openledger"]["receipt"]["fingerprint"] for chunk in ended}) == 3
    assert chunks[-1]["usage"]["completion_tokens"] <= 18


def test_a_completions_stream_has_the_text_of_the_whole(desk: Desk) -> None:
    chunks = events(desk.post(COMPLETIONS, completion(stream=True, echo=True, temperature=0)))
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    assert text == good(desk.post(COMPLETIONS, completion(echo=True, temperature=0)))["choices"][0]["text"]
    assert_true(desk, chunks[-1]["openledger"]["receipt_hash"])


@pytest.mark.parametrize(
    ("path", "fields", "code", "param"),
    [
        (CHAT, {"tools": [{"type": "function"}]}, "unsupported_parameter", "tools"),
        (CHAT, {"functions": [{}]}, "unsupported_parameter", "functions"),
        (CHAT, {"logit_bias": {"5": 1}}, "unsupported_parameter", "logit_bias"),
        (CHAT, {"presence_penalty": 0.5}, "unsupported_parameter", "presence_penalty"),
        (CHAT, {"frequency_penalty": -1}, "unsupported_parameter", "frequency_penalty"),
        (CHAT, {"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
        (CHAT, {"web_search_options": {"a": 1}}, "unsupported_parameter", "web_search_options"),
        (CHAT, {"n": 0}, "bad_parameter", "n"),
        (CHAT, {"n": 9}, "bad_parameter", "n"),
        (CHAT, {"temperature": "hot"}, "bad_request", "temperature"),
        (CHAT, {"temperature": 2.5}, "bad_parameter", "temperature"),
        (CHAT, {"top_logprobs": 3}, "bad_parameter", "top_logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "bad_parameter", "top_logprobs"),
        (CHAT, {"response_format": {"type": "yaml"}}, "bad_parameter", "response_format"),
        (CHAT, {"response_format": {"type": "json_schema"}}, "bad_parameter", "response_format"),
        (CHAT, {"openledger": {"adapters": [{"model": "bare"}]}}, "bad_parameter", "openledger.adapters"),
        (CHAT, {"openledger": {"adapters": [{"model": "lora", "weight": 0}]}}, "bad_parameter", "openledger.adapters"),
        (CHAT, {"openledger": {"adapters": [{"model": "lora", "weight": 99}]}}, "bad_parameter", "openledger.adapters"),
        (CHAT, {"openledger": {"adapters": [{"model": "theirs"}]}}, "bad_parameter", "openledger.adapters"),
        (CHAT, {"openledger": {"adapters": [{"model": "lora"}] * 2}}, "bad_parameter", "openledger.adapters"),
        (CHAT, {"model": "nosuch"}, "model_not_found", "model"),
        (COMPLETIONS, {"suffix": "end"}, "unsupported_parameter", "suffix"),
        (COMPLETIONS, {"best_of": 3}, "unsupported_parameter", "best_of"),
        (COMPLETIONS, {"echo": True, "logprobs": 1}, "unsupported_parameter", "echo"),
        (COMPLETIONS, {"openledger": {"passages": 1}}, "bad_parameter", "openledger.passages"),
        (COMPLETIONS, {"prompt": None}, "bad_parameter", "prompt"),
        (COMPLETIONS, {"prompt": []}, "bad_parameter", "prompt"),
        (COMPLETIONS, {"prompt": [1, "a"]}, "bad_parameter", "prompt"),
        (COMPLETIONS, {"prompt": [[]]}, "bad_parameter", "prompt"),
        (COMPLETIONS, {"prompt": [-1]}, "bad_parameter", "prompt"),
        (COMPLETIONS, {"prompt": [True]}, "bad_parameter", "prompt"),
        (COMPLETIONS, {"prompt": ["a"] * 3, "n": 3}, "bad_parameter", "n"),
        (COMPLETIONS, {"prompt": ""}, "bad_request", None),
        (COMPLETIONS, {"prompt": [100_000]}, "bad_request", None),
    ],
)
def test_what_cannot_be_kept_to_is_refused_by_name_and_costs_nothing(
    desk: Desk, path: str, fields: dict[str, Any], code: str, param: str | None
) -> None:
    before = desk.owed()
    body = chat(**fields) if path == CHAT else completion(**fields)
    answer = desk.post(path, body)
    assert answer.status_code == (404 if code == "model_not_found" else 400), answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error"), error
    assert len(error["message"]) > 15
    assert desk.owed() == before


def test_an_unpaid_completion_is_told_how_to_pay(desk: Desk) -> None:
    answer = desk.post(COMPLETIONS, completion(n=2), paid=False)
    assert answer.status_code == 402
    assert answer.json()["error"]["code"] == "payment_required"
    (offer,) = answer.json()["accepts"]
    assert offer["resource"] == COMPLETIONS
    one = desk.post(COMPLETIONS, completion(), paid=False).json()["accepts"][0]["extra"]["minimumMaxClaimable"]
    assert offer["extra"]["minimumMaxClaimable"] == 2 * one


def test_every_answer_names_its_request(desk: Desk) -> None:
    answer = desk.post(COMPLETIONS, completion(), paid=False, **{"x-request-id": "mine-7"})
    assert answer.headers["x-request-id"] == "mine-7"
    for given in ("", "x" * 200, "a b", "a\tb"):
        named = desk.post(COMPLETIONS, completion(), paid=False, **{"x-request-id": given}).headers["x-request-id"]
        assert named.startswith("req_")
    assert desk.get("/v1/models").headers["x-request-id"]


def test_metrics_tell_of_every_answer_and_of_adapters_by_tier(desk: Desk) -> None:
    before = desk.metric("openledger_answer_seconds_count")
    tokens = good(desk.post(COMPLETIONS, completion(n=2, max_tokens=8)))["usage"]["completion_tokens"]
    assert desk.metric("openledger_answer_seconds_count") == before + 2
    assert desk.metric("openledger_first_token_seconds_count") == before + 2
    assert desk.metric("openledger_between_tokens_seconds_count") >= tokens - 2
    assert desk.metric("openledger_answer_tokens_per_second_count") >= 1
    for _ in range(2):
        good(desk.post(COMPLETIONS, completion(model="lora")))
    host = 'openledger_adapter_requests_total{found="%s",tier="host"}'
    requests = 'openledger_engine_requests{state="%s"}'

    def told() -> bool:
        asked = desk.metric(host % "yes") + desk.metric(host % "no")
        return asked >= 2 and desk.metric(requests % "waiting") == desk.metric(requests % "running") == 0

    wait_for(told, "the engine's word")
    assert desk.metric(host % "no") == desk.metric('openledger_adapters{tier="host"}') == 1
    assert desk.metric('openledger_adapter_bytes{tier="host"}') > 0
    assert desk.metric('openledger_engine_tokens_total{kind="generated"}') > 0
    assert desk.metric("openledger_engine_preemptions_total") == 0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """The engine tells of itself once a second, and when it has nothing to do."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)

"""What a call may name as its model: releases, adapters loaded by hand, ensembles of them, and the sentence encoder."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from openledger.kernels.attribution.encoder import Encoder

from ...kernels.model.tiny_model import write_tiny_adapter
from ..desk import Desk

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


def ask(desk: Desk, model: str, **fields: Any) -> httpx.Response:
    messages = [{"role": "user", "content": "ab"}]
    return desk.post(CHAT, {"model": model, "messages": messages, "max_tokens": 4, "temperature": 0, **fields})


def answered(desk: Desk, model: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """The hash of the answer's tokens, and its receipt with what another node finds about it."""
    answer = ask(desk, model, **fields)
    assert answer.status_code == 200, answer.text
    receipt = answer.json()["openledger"]["receipt_hash"]
    shown: dict[str, Any] = desk.get(f"/v1/receipts/{receipt}").json()
    return shown["receipt"]["outputTokensHash"], {**shown, "audit": desk.audit(receipt)}


def test_models_are_listed_and_found(desk: Desk) -> None:
    listed = desk.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["bare", "lora", "theirs", "all-MiniLM-L6-v2"]
    for model in listed["data"]:
        assert desk.get(f"/v1/models/{model['id']}").json() == model
    answer = desk.get("/v1/models/nosuch")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "model")


def test_an_adapter_is_loaded_asked_checked_and_unloaded(desk: Desk, tmp_path: Path) -> None:
    folder = write_tiny_adapter(tmp_path / "mine", 8, 9)
    loaded = {"lora_name": "team/mine", "lora_path": str(folder)}
    answer = desk.post("/v1/load_lora_adapter", loaded)
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith("Success")
    again = desk.post("/v1/load_lora_adapter", loaded)
    assert (again.status_code, again.json()["error"]["code"]) == (400, "adapter_refused")
    assert desk.post("/v1/load_lora_adapter", {**loaded, "load_inplace": True}).status_code == 200
    (listed,) = desk.get("/v1/lora_adapters").json()["data"]
    assert (listed["lora_name"], listed["base_model_name"]) == ("team/mine", "bare")
    model = desk.get("/v1/models/team/mine").json()
    assert model["parent"] == "bare"

    tokens, shown = answered(desk, "team/mine")
    assert shown["adapters"] == [{"adapter": listed["adapter"], "weight": 1.0}]
    assert shown["receipt"]["release"] == 1
    assert shown["audit"]["tokens"].verdict == shown["audit"]["adapters"].verdict == "good", shown["audit"]
    assert tokens != answered(desk, "bare")[0]

    assert desk.post("/v1/unload_lora_adapter", {"lora_name": "team/mine"}).status_code == 200
    assert ask(desk, "team/mine").status_code == 404
    gone = desk.post("/v1/unload_lora_adapter", {"lora_name": "team/mine"})
    assert (gone.status_code, gone.json()["error"]["param"]) == (404, "lora_name")
    assert desk.audit(shown["hash"])["tokens"].verdict == "good", "what it answered can still be checked"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"lora_name": ""}, "lora_name"),
        ({"lora_name": "a b"}, "lora_name"),
        ({"lora_name": "lora"}, "lora_name"),
        ({"lora_path": "/nowhere"}, "lora_path"),
        ({"base_model_name": "nosuch"}, "model"),
        ({"lora_path": 5}, "lora_path"),
    ],
)
def test_what_cannot_be_loaded_is_said(desk: Desk, tmp_path: Path, change: dict[str, Any], param: str) -> None:
    folder = write_tiny_adapter(tmp_path / "fine", 2, 5)
    answer = desk.post("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": str(folder), **change})
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param, answer.text
    assert desk.get("/v1/lora_adapters").json()["data"] == []


def test_an_adapter_that_the_engine_refuses_is_not_listed(desk: Desk, tmp_path: Path) -> None:
    folder = write_tiny_adapter(tmp_path / "odd", 4, 5)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "use_dora": True}))
    answer = desk.post("/v1/load_lora_adapter", {"lora_name": "odd", "lora_path": str(folder)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "adapter_refused"), answer.text
    assert "dora" in answer.json()["error"]["message"].lower()
    assert desk.get("/v1/lora_adapters").json()["data"] == []


def test_only_the_operator_loads(desk: Desk) -> None:
    body = {"lora_name": "x", "lora_path": "/"}
    for headers in (
        {"x-forwarded-for": "192.0.2.7"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
    ):
        for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
            assert desk.post(path, body, **headers).status_code == 403


# embeddings


def embed(desk: Desk, **fields: Any) -> httpx.Response:
    return desk.post(EMBEDDINGS, {"model": "all-MiniLM-L6-v2", **fields}, paid=False)


def test_embeddings_are_the_encoders_in_both_encodings(desk: Desk) -> None:
    texts = ["Where do whales sleep?", "bread"]
    told = embed(desk, input=texts).json()
    vectors = np.array([entry["embedding"] for entry in told["data"]])
    encoder = Encoder()
    exact = np.array([np.frombuffer(encoder.embed(text), np.int8) for text in texts]) / 512
    assert (vectors == exact).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=0.05)
    assert [entry["index"] for entry in told["data"]] == [0, 1]
    assert told["usage"]["prompt_tokens"] == told["usage"]["total_tokens"] == sum(map(encoder.count, texts))
    assert told["openledger"]["fee_micro_open"] == 0
    packed = embed(desk, input=texts[0], encoding_format="base64", dimensions=384).json()["data"][0]["embedding"]
    assert (np.frombuffer(base64.b64decode(packed), "<f4") == exact[0].astype("<f4")).all()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": [None]}, "input"),
        ({"input": ["a"] * 1001}, "input"),
        ({"input": "a " * 200_000}, "input"),
        ({"input": "whale " * 300}, "input"),
        ({"input": "a", "dimensions": 100}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
        ({"input": "a", "model": "bare"}, "model"),
    ],
)
def test_what_cannot_be_embedded_is_said(desk: Desk, fields: dict[str, Any], param: str) -> None:
    answer = embed(desk, **fields)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param


def test_of_a_long_text_the_beginning_is_embedded_where_that_is_wanted(desk: Desk) -> None:
    long = embed(desk, input="whale " * 300, truncate_prompt_tokens=-1).json()
    assert long["usage"]["prompt_tokens"] == 256
    assert long["data"][0]["embedding"] == embed(desk, input="whale " * 254).json()["data"][0]["embedding"]

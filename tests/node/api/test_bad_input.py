"""What callers can get wrong at a running node: each is told what to do, and the node goes on."""

from __future__ import annotations

import base64
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from openledger.evm_ext.proofs.receipt import Voucher, ledger_domain
from openledger.genesis.dev_accounts import USERS
from openledger.genesis.presets import DEVNET
from openledger.node.payments import PAYMENT_HEADER, SignedVoucher
from openledger.node.wallet import Wallet

pytestmark = pytest.mark.slow


def error_of(answer: Any, status: int, code: str) -> str:
    """The message of an error in OpenAI's shape."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert set(told["error"]) == {"message", "type", "code", "param"}, told
    assert told["error"]["code"] == code, told
    message: str = told["error"]["message"]
    assert len(message) > 15, "it says what to do"
    return message


@pytest.fixture(autouse=True)
def _the_node_goes_on(shop: Any) -> Any:
    process = shop.devnet.process.pid
    yield
    assert shop.devnet.process.poll() is None
    assert shop.devnet.process.pid == process
    status, services = shop.devnet.health()
    assert status == 200, services


@pytest.fixture
def client(shop: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{shop.api}/v1", api_key="none", max_retries=0, timeout=120)


# paying


def test_without_a_voucher_the_answer_is_402_and_says_how_to_pay(shop: Any) -> None:
    answer = shop.ask(shop.body())
    assert "open a channel" in error_of(answer, 402, "payment_required")
    (offer,) = answer.json()["accepts"]
    assert offer["network"] == f"eip155:{DEVNET.l2_chain_id}"
    assert offer["payTo"] == "0x" + shop.terms.receiver.hex()
    extra = offer["extra"]
    assert extra["header"] == PAYMENT_HEADER
    assert extra["minimumMaxClaimable"] > 0
    assert int(offer["maxAmountRequired"]) == extra["minimumMaxClaimable"] * 10**12
    assert extra["typedData"]["domain"]["verifyingContract"] == extra["ledger"]


def test_the_offer_of_a_402_is_enough_to_pay_by(shop: Any) -> None:
    body = shop.body(stream=True)
    above = int(shop.state()["next_voucher_above_micro_open"])
    needed = shop.ask(body).json()["accepts"][0]["extra"]["minimumMaxClaimable"]
    answer = shop.ask(body, shop.voucher(above + needed))
    assert answer.status_code == 200
    assert "error" not in answer.text
    assert answer.text.rstrip().endswith("data: [DONE]")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{}",
        "not base64!",
        "{" * 2000,
        "[" * 2000,
        '{"channelId": "0x12", "maxClaimable": "1", "signature": "0x"}',
        '{"channelId": "0x' + "00" * 32 + '", "maxClaimable": "-1", "signature": "0x' + "00" * 65 + '"}',
        '{"channelId": "0x' + "00" * 32 + '", "maxClaimable": "' + "9" * 400 + '", "signature": "0x' + "00" * 65 + '"}',
        "a" * 8000,
        base64.b64encode(b"\xff\xfe\x00").decode(),
        base64.b64encode(b"[" * 1400).decode(),
    ],
)
def test_what_is_not_a_voucher_is_refused_by_name(shop: Any, header: str) -> None:
    assert "channelId, maxClaimable and signature" in error_of(shop.ask(shop.body(), header), 402, "malformed_voucher")


def test_vouchers_that_pay_nobody_here_are_refused_by_name(shop: Any) -> None:
    above = int(shop.state()["next_voucher_above_micro_open"]) + 50_000
    stranger = USERS[1].private_key

    nowhere = Voucher(b"\x12" * 32, above)
    header = SignedVoucher(nowhere, nowhere.sign(ledger_domain(DEVNET.l2_chain_id), stranger)).header()
    assert "open one" in error_of(shop.ask(shop.body(), header), 402, "unknown_channel")

    told = error_of(shop.ask(shop.body(), shop.voucher(above, key=stranger)), 402, "bad_signature")
    assert shop.payer.address.hex() in told
    told = error_of(shop.ask(shop.body(), shop.voucher(above, chain_id=1)), 402, "bad_signature")
    assert str(DEVNET.l2_chain_id) in told
    garbage = SignedVoucher(Voucher(shop.terms.id, above), b"\xff" * 65).header()
    error_of(shop.ask(shop.body(), garbage), 402, "bad_signature")

    assert int(shop.state()["next_voucher_above_micro_open"]) == above - 50_000, "nothing was taken"


def test_a_voucher_for_too_little_is_told_what_is_enough(shop: Any) -> None:
    fresh = shop.with_channel(replace(shop.terms, salt=b"\x02" * 32), 1_000_000)
    answer = fresh.ask(fresh.body(), fresh.voucher(1))
    assert "sign a voucher for at least" in error_of(answer, 402, "voucher_too_small")
    enough = answer.json()["accepts"][0]["extra"]["minimumMaxClaimable"]
    assert fresh.ask(fresh.body(), fresh.voucher(enough)).status_code == 200


def test_a_voucher_for_another_provider_is_refused(shop: Any) -> None:
    other = Wallet(USERS[2].private_key).address
    elsewhere = shop.with_channel(replace(shop.terms, receiver=other), 1_000_000)
    assert other.hex() in error_of(elsewhere.ask(elsewhere.body(), elsewhere.voucher(100_000)), 402, "foreign_voucher")


def test_a_voucher_buys_one_answer(shop: Any) -> None:
    header = shop.good_voucher()
    answer = shop.ask(shop.body(), header)
    assert answer.status_code == 200, answer.text
    booked = answer.json()["openledger"]["receipt_hash"]
    assert shop.get(f"/v1/receipts/{booked}").json()["hash"] == booked
    assert "was used" in error_of(shop.ask(shop.body(), header), 402, "replayed_voucher")
    assert "was used" in error_of(shop.ask(shop.body(stream=True), header), 402, "replayed_voucher")


def test_a_large_voucher_on_a_small_deposit_is_refused(shop: Any) -> None:
    poor = shop.with_channel(replace(shop.terms, salt=b"\x01" * 32), 3)
    for stream in (False, True):
        told = error_of(poor.ask(poor.body(stream=stream), poor.voucher(10**9)), 402, "deposit_too_small")
        assert "top it up" in told


# asking


@pytest.mark.parametrize(
    ("change", "status", "code", "said"),
    [
        ({"model": "nosuch"}, 404, "model_not_found", "registered are: bare"),
        ({"model": "release-99"}, 404, "model_not_found", "there is no release 99"),
        ({"model": ""}, 404, "model_not_found", "registered are"),
        ({"messages": []}, 400, "bad_parameter", "1 to 256"),
        ({"messages": [{"role": "user", "content": "x"}] * 300}, 400, "bad_parameter", "1 to 256"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "bad_parameter", "system, user or assistant"),
        ({"messages": [{"role": "user"}]}, 400, "unsupported_content", "only text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "unsupported_content", "only text"),
        ({"messages": "hello"}, 400, "bad_request", "messages"),
        ({"max_tokens": 0}, 400, "bad_parameter", "max_tokens"),
        ({"max_tokens": 10**9}, 400, "bad_parameter", "max_tokens"),
        ({"max_completion_tokens": -5}, 400, "bad_parameter", "max_tokens"),
        ({"temperature": -0.1}, 400, "bad_parameter", "temperature"),
        ({"temperature": 1e300}, 400, "bad_parameter", "temperature"),
        ({"temperature": "hot"}, 400, "bad_request", "temperature"),
        ({"top_p": 1.5}, 400, "bad_parameter", "top_p"),
        ({"top_k": -2}, 400, "bad_parameter", "top_k"),
        ({"seed": 1 << 70}, 400, None, "seed"),
        ({"n": 99}, 400, "bad_parameter", "n must be from 1 to 8"),
        ({"stop": ["a"] * 5}, 400, "bad_parameter", "stop"),
        ({"stop": ""}, 400, "bad_parameter", "stop"),
        ({"openledger": {"passages": 99}}, 400, "bad_parameter", "passages"),
    ],
)
@pytest.mark.parametrize("paid", [False, True])
def test_a_bad_parameter_is_named(
    shop: Any, change: dict[str, Any], status: int, code: str | None, said: str, paid: bool
) -> None:
    answer = shop.ask(shop.body(**change), shop.good_voucher() if paid else None)
    told = error_of(answer, status, code or answer.json()["error"]["code"])
    assert said in told


def test_a_prompt_longer_than_the_context_is_refused_and_costs_nothing(shop: Any) -> None:
    owed = shop.state()["owed_micro_open"]
    long = shop.body("whale " * 20_000)
    for stream in (False, True):
        above = int(shop.state()["next_voucher_above_micro_open"])
        answer = shop.ask({**long, "stream": stream}, shop.voucher(above + 1_000_000))
        told = error_of(answer, 400, "prompt_too_long")
        assert "tokens" in told
    assert shop.state()["owed_micro_open"] == owed


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"not json",
        b'{"model": "bare"',
        b"\xff\xfe{}",
        b'{"model": "bare", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model": "bare", "messages": [], "x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"model": "bare", "messages": [' + b"{}," * 1_000_000 + b"{}]}",
        b'{"model": "\\ud800", "messages": []}',
    ],
    ids=["empty", "null", "list", "text", "cut off", "not UTF-8", "deep lists", "deep objects", "many", "surrogate"],
)
def test_what_is_no_chat_completion_is_refused(shop: Any, raw: bytes) -> None:
    answer = shop.post("/v1/chat/completions", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["message"]


def test_a_body_over_the_limit_is_refused_before_it_is_read(shop: Any) -> None:
    answer = shop.post("/v1/chat/completions", content=b" " * (9 << 20))
    assert answer.status_code == 413
    assert "exceeds the limit" in answer.json()["error"]["message"]


def test_unknown_paths_and_methods_say_so(shop: Any) -> None:
    assert shop.get("/v1/nothing").status_code == 404
    assert shop.get("/v1/chat/completions").status_code == 405
    for path in ("/v1/receipts/0x12", "/v1/channels/zz", "/v1/accounts/0x" + "11" * 19, "/v1/datanets/-1"):
        error_of(shop.get(path), 400, "bad_parameter")
    error_of(shop.get("/v1/receipts/0x" + "11" * 32), 404, "unknown_receipt")
    error_of(shop.get("/v1/channels/0x" + "11" * 32), 404, "unknown_channel")
    error_of(shop.get("/v1/models/nosuch"), 404, "model_not_found")
    error_of(shop.get("/v1/content/0x" + "11" * 32), 404, "content_not_found")


# the openai client, unmodified


def test_the_openai_client_raises_its_own_errors(shop: Any, client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is a whale?"}]
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nosuch", messages=messages)
    assert unknown.value.code == "model_not_found"
    assert "registered are: bare" in str(unknown.value)
    with pytest.raises(openai.APIStatusError) as unpaid:
        client.chat.completions.create(model="bare", messages=messages, stream=True)
    assert unpaid.value.status_code == 402
    assert unpaid.value.code == "payment_required"
    assert unpaid.value.response.json()["accepts"]
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="bare", messages=messages, temperature=3)
    assert bad.value.code == "bad_parameter"
    above = int(shop.state()["next_voucher_above_micro_open"])
    headers = {PAYMENT_HEADER: shop.voucher(above + 1_000_000)}
    too_long: Any = [{"role": "user", "content": "whale " * 20_000}]
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="bare", messages=too_long, extra_headers=headers)
    assert long.value.code == "prompt_too_long"


def test_the_openai_client_streams_a_paid_answer(shop: Any, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="bare",
        messages=[{"role": "user", "content": "What is a whale?"}],
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={PAYMENT_HEADER: shop.good_voucher()},
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    last = next(c for c in reversed(chunks) if c.choices)
    assert last.choices[0].finish_reason in ("stop", "length")
    extension = json.loads(last.model_dump_json())["openledger"]
    assert extension["fee_micro_open"] > 0
    assert shop.get(f"/v1/receipts/{extension['receipt_hash']}").json()["text"] == text


# documents and what is made of them


TEXT = b"The quick brown fox jumps over the lazy dog and runs into the dark green wood. " * 4


@pytest.mark.parametrize(
    ("name", "data", "status", "code", "said"),
    [
        ("a.pdf", TEXT, 415, "unsupported_document", ".txt"),
        ("a", TEXT, 415, "unsupported_document", ".txt"),
        ("a.txt", b"PK\x03\x04\0\0" + TEXT, 400, "document_not_text", "NUL"),
        ("a.txt", "Käse und Brot".encode("latin-1") + TEXT, 400, "document_not_text", "UTF-8"),
        ("a.txt", b"", 400, "empty_document", "empty"),
        ("a.md", b" \n\t\n" * 50, 400, "empty_document", ""),
        ("a.md", b"# Four words stand here", 400, "too_few_words", "at least 20"),
        ("a.txt", b"word " * 1_000_001, 413, "document_too_large", "5,000,000"),
        ("..", TEXT, 400, None, "name"),
    ],
)
def test_a_bad_document_is_refused(shop: Any, name: str, data: bytes, status: int, code: str | None, said: str) -> None:
    answer = shop.post("/v1/documents", params={"name": name, "licence": "CC0-1.0"}, content=data)
    if code is None:
        assert answer.status_code in (400, 415), answer.text
        return
    assert said in error_of(answer, status, code)


def test_an_upload_says_what_it_lacks(shop: Any) -> None:
    assert "name is missing" in error_of(shop.post("/v1/documents", content=TEXT), 400, "bad_parameter")
    answer = shop.post("/v1/documents", params={"name": "a.txt", "licence": "do what you want"}, content=TEXT)
    assert "SPDX" in error_of(answer, 400, "bad_metadata")
    for raw in (b"", b"[]", b"\x00", b"[" * 60_000):
        error_of(shop.post("/v1/content", content=raw), 400, "bad_request")
    error_of(shop.post("/v1/content", content=b'{"a":"' + b"x" * 70_000 + b'"}'), 413, "content_too_large")


def test_unknown_datanets_versions_jobs_and_releases_are_told(shop: Any) -> None:
    for path in (
        "/v1/datanets/77",
        "/v1/datanets/77/contributions",
        "/v1/datanets/77/versions",
        "/v1/contributions/77",
    ):
        error_of(shop.get(path), 404, "not_registered")
    error_of(shop.post("/v1/datanets/77/versions/1/index"), 404, "not_registered")
    error_of(shop.get("/v1/releases/77"), 404, "not_registered")
    error_of(shop.get("/v1/fine-tunes/nosuch"), 404, "unknown_job")
    error_of(shop.post("/v1/fine-tunes/nosuch/cancel"), 404, "unknown_job")
    job = {"name": "x", "datanets": [{"datanet": 77, "version": 1}]}
    error_of(shop.post("/v1/fine-tunes", json=job), 404, "not_registered")
    release = {"name": "x", "job": "nosuch", "price_in": 1, "price_out": 1}
    error_of(shop.post("/v1/releases", json=release), 404, "unknown_job")


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"datanets": []},
        {"datanets": [{"datanet": 1, "version": 1}] * 40},
        {"datanets": [{"datanet": -1, "version": 1}]},
        {"datanets": [{"datanet": 1 << 40, "version": 1}]},
        {"parameters": {"max_steps": 0}},
        {"parameters": {"nosuch": 1}},
        {"parameters": {"rank": 1 << 40}},
        {"parameters": {"learning_rate": -1}},
        {"more": 1},
    ],
)
def test_a_bad_fine_tuning_job_is_refused(shop: Any, change: dict[str, Any]) -> None:
    answer = shop.post("/v1/fine-tunes", json={"name": "x", "datanets": [{"datanet": 1, "version": 1}], **change})
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/fine-tunes", "/v1/releases", "/v1/content"])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deeply_nested_json_is_refused_everywhere(shop: Any, path: str, opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    for field in (b"split", b"parameters", b"name", b"x"):
        raw = b'{"name":"a","' + field + b'":{"x":' + opening * 8_000 + b"1" + closing * 8_000 + b"}}"
        error_of(shop.post(path, content=raw), 400, "bad_request")


def test_a_datanet_without_an_approved_document_gives_no_version_and_no_job(shop: Any) -> None:
    created = shop.devnet.run("datanet", "create", "foxes", "--account", "0")
    assert created.returncode == 0, created.stderr
    number = created.stdout.split()[1]
    fox = shop.devnet.folder / "fox.txt"
    fox.write_bytes(TEXT)
    drafts = str(shop.devnet.folder / "drafts")
    line = ("datanet", "add", number, str(fox), "--licence", "CC0-1.0", "--account", "1", "--drafts", drafts)
    added = shop.devnet.run(*line)
    assert added.returncode == 0, added.stderr

    published = shop.devnet.run("datanet", "publish", number, "--account", "0")
    assert published.returncode == 1
    assert "Traceback" not in published.stderr
    assert "approve" in published.stderr
    stolen = shop.devnet.run("datanet", "approve", number, "--account", "2")
    assert stolen.returncode == 1
    assert "Traceback" not in stolen.stderr
    assert "owner" in stolen.stderr.lower()
    tuned = shop.devnet.run("finetune", "start", "fox", "--datanet", number)
    assert tuned.returncode == 1
    assert "no version yet" in tuned.stderr
    job = {"name": "x", "datanets": [{"datanet": int(number), "version": 1}]}
    error_of(shop.post("/v1/fine-tunes", json=job), 404, "not_registered")


class Trap:
    """Whoever unpickles it leaves a file behind."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_a_release_whose_adapter_is_a_pickle_is_never_loaded(shop: Any, release_anything: Any) -> None:
    sprung = shop.devnet.folder / "sprung"
    config = json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}).encode()
    files = {"adapter_config.json": config, "adapter_model.bin": pickle.dumps(Trap(sprung))}
    release = release_anything(shop, "trap", files)

    def held() -> bool:
        waiting = {r["id"]: r["waits_for"] for r in shop.get("/v1/releases").json()["releases"]}
        return release in waiting and "not on this node" not in (waiting[release] or "")

    shop.devnet.wait_for(held, 300, "the node to fetch the adapter")
    answer = shop.ask(shop.body(model="trap"), shop.good_voucher())
    assert answer.status_code in (400, 503), answer.text
    told = answer.json()["error"]
    assert told["code"] in ("adapter_refused", "model_not_ready")
    assert "safetensors" in told["message"]
    assert not sprung.exists()
    assert shop.ask(shop.body(), shop.good_voucher()).status_code == 200

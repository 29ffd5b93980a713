"""Whoever hangs up in the middle of an answer owes what was generated until then, and the receipt says so."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.slow


def owed(shop: Any) -> int:
    channel = shop.get(f"/v1/channels/0x{shop.terms.id.hex()}").json()
    return int(channel["owed_micro_open"])


def test_hanging_up_is_paid_for_and_verifies(shop: Any) -> None:
    before = owed(shop)
    body = {
        **shop.body(max_tokens=400, messages=[{"role": "user", "content": "Count to five hundred."}]),
        "stream": True,
    }
    headers = {"X-Payment": shop.good_voucher()}
    url = f"{shop.devnet.endpoints.api}/v1/chat/completions"
    pieces = 0
    with httpx.stream("POST", url, json=body, headers=headers, timeout=180, trust_env=False) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            pieces += '"content"' in line
            if pieces > 5:
                break
    shop.devnet.wait_for(lambda: owed(shop) > before, 240, "the cut answer to be booked")
    receipt = shop.get("/v1/receipts").json()["data"][0]
    assert receipt["fee_micro_open"] == owed(shop) - before
    shown = shop.get(f"/v1/receipts/{receipt['hash']}").json()
    assert shown["receipt"]["stopReason"] == 3
    assert 4 <= shown["output_tokens"] < 400
    done = shop.devnet.run("verify", "receipt", receipt["hash"], "--json", "--api", shop.devnet.endpoints.api)
    verdicts = {f["name"]: f["verdict"] for f in map(json.loads, done.stdout.splitlines())}
    assert "false" not in verdicts.values(), verdicts
    assert verdicts["tokens"] == verdicts["fingerprint"] == verdicts["fee"] == "good"


def test_metrics_tell_how_long_callers_waited_and_what_the_engine_did(shop: Any) -> None:
    assert shop.ask(shop.body(), shop.good_voucher()).status_code == 200

    def told() -> dict[str, float]:
        text = httpx.get(shop.devnet.endpoints.metrics, timeout=180, trust_env=False).text
        rows = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in rows}

    shop.devnet.wait_for(
        lambda: told()['openledger_engine_tokens_total{kind="generated"}'] >= 8, 60, "the engine's word"
    )
    values = told()
    assert values["openledger_first_token_seconds_count"] >= 1
    assert values["openledger_answer_seconds_sum"] > 0
    assert values['openledger_answers_total{end="length"}'] >= 1
    assert values['openledger_engine_cache_tokens{state="free"}'] > 0
    assert values["openledger_engine_restarts_total"] == 0

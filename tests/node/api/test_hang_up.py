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
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60, trust_env=False) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            pieces += '"content"' in line
            if pieces > 5:
                break
    shop.devnet.wait_for(lambda: owed(shop) > before, 30, "the cut answer to be booked")
    receipt = shop.get("/v1/receipts").json()["data"][0]
    assert receipt["fee_micro_open"] == owed(shop) - before
    shown = shop.get(f"/v1/receipts/{receipt['hash']}").json()
    assert shown["receipt"]["stopReason"] == 3
    assert 4 <= shown["output_tokens"] < 400
    done = shop.devnet.run("verify", "receipt", receipt["hash"], "--json", "--api", shop.devnet.endpoints.api)
    verdicts = {f["name"]: f["verdict"] for f in map(json.loads, done.stdout.splitlines())}
    assert "false" not in verdicts.values(), verdicts
    assert verdicts["tokens"] == verdicts["fingerprint"] == verdicts["fee"] == "good"

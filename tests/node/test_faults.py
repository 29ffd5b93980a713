"""kill -9 of any process of a running network: callers are told, the part comes back, nothing acknowledged is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from openledger.genesis.dev_accounts import USERS

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("shop", [()], indirect=True, ids=["whole devnet"])]

ENGINE, ATTRIBUTION = "openledger.kernels.engine.worker", "openledger.kernels.attribution.worker"
DA, VALIDATOR = "openledger.rollup.da.worker", "--role validator"


def processes(shop: Any, what: str) -> list[int]:
    """The ids of the devnet's own child processes that have `what` in their command line."""
    parent = shop.devnet.process.pid
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(pid) for pid, ppid, arguments in rows if int(ppid) == parent and what in arguments]


def kill(shop: Any, what: str) -> list[int]:
    killed = processes(shop, what)
    assert killed, f"no process {what}"
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    return killed


def wait_for_new(shop: Any, what: str, killed: list[int]) -> None:
    def there() -> bool:
        now = processes(shop, what)
        return len(now) == len(killed) and not set(now) & set(killed)

    shop.devnet.wait_for(there, 180, f"a new {what}")
    shop.devnet.wait_until_ready(180)


def stream(shop: Any, header: str, first: threading.Event, events: list[dict[str, Any]]) -> None:
    """Ask for a long answer and keep its events; `first` is set with the first token."""
    body = shop.body("Tell a very long story about a whale.", stream=True, max_tokens=512, temperature=1, seed=3)
    headers = {"x-payment": header}
    url = f"{shop.api}/v1/chat/completions"
    with (
        httpx.Client(timeout=180, trust_env=False) as client,
        client.stream("POST", url, json=body, headers=headers) as answer,
    ):
        try:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    events.append(json.loads(line[6:]))
                    if len(events) > 3 or "error" in events[-1]:
                        first.set()
        except httpx.HTTPError as error:  # the node itself was killed
            events.append({"broken": repr(error)})
        finally:
            first.set()


def begin_stream(shop: Any) -> tuple[threading.Thread, list[dict[str, Any]]]:
    first = threading.Event()
    events: list[dict[str, Any]] = []
    asking = threading.Thread(target=stream, args=(shop, shop.good_voucher(), first, events), daemon=True)
    asking.start()
    assert first.wait(120)
    assert "error" not in events[-1], events[-1]
    return asking, events


def paid(shop: Any, **fields: Any) -> httpx.Response:
    answer: httpx.Response = shop.ask(shop.body(**fields), shop.good_voucher())
    return answer


def safe_block(devnet: Any, url: str | None = None) -> dict[str, Any]:
    block: dict[str, Any] = devnet.rpc("eth_getBlockByNumber", "safe", False, url=url)
    return block


def number(block: dict[str, Any]) -> int:
    return int(block["number"], 16)


def test_an_engine_that_dies_tells_its_callers_and_comes_back(shop: Any) -> None:
    assert paid(shop).status_code == 200
    owed = shop.state()["owed_micro_open"]
    asking, events = begin_stream(shop)
    whole: list[httpx.Response] = []
    body = shop.body("Tell another long story.", max_tokens=512, temperature=1, seed=1)
    header = shop.good_voucher()
    waiting = threading.Thread(target=lambda: whole.append(shop.ask(body, header)), daemon=True)
    waiting.start()
    time.sleep(3)
    killed = kill(shop, ENGINE)
    asking.join(240)
    waiting.join(240)
    assert events[-1]["error"]["code"] == "engine_died", events[-1]
    assert "nothing is owed" in events[-1]["error"]["message"]
    assert whole[0].status_code == 503, whole[0].text
    assert whole[0].json()["error"]["code"] == "engine_died"
    assert "try again" in whole[0].json()["error"]["message"]
    shop.devnet.wait_for(lambda: shop.devnet.health()[0] == 503, 240, "health to say that the engine is away")
    wait_for_new(shop, ENGINE, killed)
    assert shop.state()["owed_micro_open"] == owed
    answer = paid(shop)
    assert answer.status_code == 200, answer.text


def test_a_dead_attribution_process_comes_back(shop: Any) -> None:
    killed = kill(shop, ATTRIBUTION)
    # The answer may find it dead or already back; either way the caller gets an answer or is told to try again.
    answer = paid(shop)
    assert answer.status_code in (200, 503), answer.text
    if answer.status_code == 503:
        assert answer.json()["error"]["code"] == "attribution_failed"
    wait_for_new(shop, ATTRIBUTION, killed)
    assert paid(shop).status_code == 200


def test_dead_da_workers_come_back_and_batches_go_on(shop: Any) -> None:
    killed = kill(shop, DA)
    before = number(safe_block(shop.devnet))
    shop.devnet.wait_for(lambda: number(safe_block(shop.devnet)) > before + 3, 240, "the safe head to go on")
    shop.devnet.wait_until_ready(180)
    assert not set(processes(shop, DA)) & set(killed)


def test_a_dead_validator_is_started_again_and_catches_up(shop: Any) -> None:
    second = shop.devnet.second.rpc
    killed = kill(shop, VALIDATOR)
    shop.devnet.wait_for(lambda: shop.devnet.health()[0] == 503, 240, "health to say that the validator is away")
    made = int(str(shop.devnet.rpc("eth_blockNumber")), 16) + 1
    wait_for_new(shop, VALIDATOR, killed)

    def derived() -> bool:
        return number(safe_block(shop.devnet, second)) >= made

    shop.devnet.wait_for(derived, 240, "the validator to derive what was made while it was away")
    ours, theirs = (shop.devnet.rpc("eth_getBlockByNumber", hex(made), False, url=url) for url in (None, second))
    assert ours["hash"] == theirs["hash"]


def test_after_kill_9_of_everything_nothing_acknowledged_is_missing(shop: Any, send: Callable[..., str]) -> None:
    devnet = shop.devnet
    header = shop.good_voucher()
    answered = shop.ask(shop.body(), header).json()["openledger"]
    text = b"Some words on whales that nobody has written down before, said once more and then again. " * 3
    uploaded = shop.post("/v1/documents", params={"name": "w.txt", "licence": "CC0-1.0"}, content=text)
    assert uploaded.status_code == 201
    asking, events = begin_stream(shop)
    sent = send(devnet, USERS[2])
    devnet.kill()
    asking.join(240)
    assert not any("openledger" in event for event in events)

    devnet.start()
    devnet.wait_until_ready(240)
    receipt = shop.get(f"/v1/receipts/{answered['receipt_hash']}").json()
    assert receipt["receipt"] == answered["receipt"]
    assert receipt["signature"] == answered["signature"]
    owed = shop.state()["owed_micro_open"]
    assert owed == int(answered["receipt"]["cumulativeAfter"]), "the answer that was cut off costs nothing"
    assert shop.get(f"/v1/content/{uploaded.json()['document_hash']}").content == text
    assert shop.ask(shop.body(), header).json()["error"]["code"] == "replayed_voucher"
    devnet.wait_for(lambda: devnet.rpc("eth_getTransactionReceipt", sent), 240, "the transaction")
    assert paid(shop).status_code == 200

    def settled() -> bool:
        return bool(shop.get(f"/v1/receipts/{answered['receipt_hash']}").json()["state"] == "settled")

    devnet.wait_for(settled, 240, "the receipt to be settled")
    assert shop.state()["claimed_micro_open"] >= owed


def test_ctrl_c_in_a_terminal_stops_everything_quietly(shop: Any) -> None:
    devnet = shop.devnet
    devnet.wait_until_ready(180)
    before = len(devnet.log)
    everything = devnet.process.pid
    os.killpg(everything, signal.SIGINT)  # a terminal sends it to every process of the group
    assert devnet.process.wait(180) == 0
    said = devnet.log[before:]
    assert "stopped" in said
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said
    left = subprocess.run(
        ["ps", "-ww", "-o", "stat=,args=", "-g", str(everything)], capture_output=True, text=True
    ).stdout
    assert not [line for line in left.splitlines() if not line.startswith("Z")]

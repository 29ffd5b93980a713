"""kill -9 of the engine's process in the middle of answers: every caller is told in OpenAI's words, nothing is charged, the
channel stands where it stood, and the next call is answered by a new process."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any

import httpx
import trio
import trio.testing

from openledger.kernels.engine.client import WORKER
from openledger.kernels.engine.messages import Sampling
from openledger.node.inference import InferenceFailed
from openledger.node.records import ChatRequest

from ..desk import Desk


def engine_process() -> int:
    """The id of the only engine process of this one."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cmdline", "rb") as line:
                    parent, command = int(stat.read().rpartition(")")[2].split()[1]), line.read()
            except OSError:
                continue
            if parent == os.getpid() and WORKER.encode() in command:
                found.append(int(name))
    (one,) = found
    return one


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "bare", "prompt": "ab", "temperature": 1, "seed": 1, **fields}


def test_an_answer_that_does_not_begin_in_time_is_given_up_and_costs_nothing(desk: Desk) -> None:
    owed, stuck = desk.owed(), engine_process()
    inference = desk.inference(desk.engine, answer_timeout_s=0.3)
    voucher = desk.voucher()
    request = ChatRequest(
        release=1,
        prompt="ab",
        max_tokens=4,
        sampling=Sampling(),
        retrieval_k=0,
        channel_id=voucher.voucher.channel_id,
        max_claimable=voucher.voucher.max_claimable,
    )

    async def ask() -> InferenceFailed:
        prepared = await inference.prepare([desk.asked(request)])
        with trio.fail_after(500):
            try:
                async for _ in inference.answer(prepared, voucher):
                    raise AssertionError("something was answered")
            except InferenceFailed as error:
                return error
        raise AssertionError("it ended without an error")

    stop = desk.engine.stop

    def stop_and_go_on(request_id: str) -> None:
        stop(request_id)
        desk.engine.stop = stop  # type: ignore[method-assign]
        trio.lowlevel.spawn_system_task(wake)

    async def wake() -> None:
        # Whoever writes to the engine is done: both messages lie in the pipe before it reads either.
        await trio.testing.wait_all_tasks_blocked()
        os.kill(stuck, signal.SIGCONT)

    desk.engine.stop = stop_and_go_on  # type: ignore[method-assign]
    os.kill(stuck, signal.SIGSTOP)
    assert desk.call(ask).code == "timeout"
    assert desk.owed() == owed
    assert desk.post("/v1/completions", body(max_tokens=2)).status_code == 200


def test_callers_are_told_nothing_is_charged_and_it_goes_on(desk: Desk) -> None:
    first = desk.post("/v1/completions", body(max_tokens=4)).json()
    owed, booked = desk.owed(), desk.book.count("open")
    killed = engine_process()
    os.kill(killed, signal.SIGSTOP)  # so that both calls are surely under way, and neither is over, when it dies
    answers: dict[str, httpx.Response] = {}

    def ask(name: str, headers: dict[str, str], **fields: Any) -> None:
        answers[name] = httpx.post(
            f"{desk.url}/v1/completions",
            json=body(max_tokens=100, **fields),
            headers=headers,
            timeout=500,
            trust_env=False,
        )

    async def under_way(count: int) -> None:
        with trio.fail_after(500):
            while len(desk.engine._pending) < count:  # noqa: ASYNC110
                await trio.sleep(0.02)

    asking = []
    for number, (name, fields) in enumerate({"whole": {"n": 2}, "stream": {"stream": True}}.items()):
        asking.append(threading.Thread(target=ask, args=(name, desk.headers()), kwargs=fields, daemon=True))
        asking[-1].start()
        desk.call(under_way, 2 + number)
    os.kill(killed, signal.SIGKILL)
    for thread in asking:
        thread.join(500)

    whole = answers["whole"]
    assert whole.status_code == 503, whole.text
    assert whole.json()["error"]["type"] == "server_error"
    assert whole.json()["error"]["code"] == "engine_died"
    assert "nothing is owed" in whole.json()["error"]["message"]
    lines = [line for line in answers["stream"].text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    error = json.loads(lines[-2].removeprefix("data: "))["error"]
    assert (error["code"], error["type"], error["param"]) == ("engine_died", "server_error", None)

    assert desk.owed() == owed
    assert desk.book.count("open") == booked
    again = desk.post("/v1/completions", body(max_tokens=4))
    assert again.status_code == 200, again.text
    assert engine_process() != killed
    receipts = [told["openledger"]["receipt"] for told in (first, again.json())]
    assert receipts[1]["cumulativeBefore"] == receipts[0]["cumulativeAfter"], "the chain of receipts has no gap"
    for told in (first, again.json()):
        assert desk.audit(told["openledger"]["receipt_hash"])["tokens"].verdict == "good"
    assert desk.metric("openledger_engine_restarts_total") == 1
    assert desk.metric('openledger_answers_total{end="engine_died"}') >= 2

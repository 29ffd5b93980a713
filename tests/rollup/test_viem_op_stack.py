"""viem's OP-Stack functions (viem/op-stack), which we did not write, take OPEN to L2 and back on our chains."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

from openledger.genesis.dev_accounts import USERS
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_OUTPUT_ORACLE, L1_PORTAL
from openledger.genesis.presets import DEVNET
from openledger.node import http
from openledger.node.rpc.dispatcher import Caller

pytestmark = [pytest.mark.interop, pytest.mark.slow]

CLIENTS = Path(__file__).parents[1] / "clients"
OUTPUT_SECONDS = 2 * DEVNET.output_interval_blocks * DEVNET.l2_block_time_s


async def test_viem_moves_open_to_l2_and_back(network: Any, rpcs: tuple[Any, Any]) -> None:
    if shutil.which("node") is None or not (CLIENTS / "node_modules/viem/op-stack").exists():
        pytest.skip("viem is not installed: run `npm ci` in tests/clients")
    turning = trio.Lock()

    async def clock(seconds: int) -> int:
        """Let the whole network's time pass, posting, deriving and proposing on the way."""
        async with turning:
            for start in range(0, seconds, 8):
                await network.advance(min(8, seconds - start))
                await network.post()
                await network.node.driver.derive_to_tip()
                await network.propose()
            return int(network.clock.time)

    async def handle(request: http.Request) -> http.Response:
        if request.path == "/clock":
            return http.Response(200, str(await clock(int(request.body))).encode())
        rpc = rpcs[0 if request.path == "/l1" else 1]
        caller_answer = await rpc.dispatcher.handle(request.body, Caller())
        return http.Response(200, caller_answer or b"", (("content-type", "application/json"),))

    async def serve(*, task_status: trio.TaskStatus[http.BoundServer]) -> None:
        await http.serve_http(handle, limits=http.HttpLimits(grace_s=0.1), task_status=task_status)

    addresses = {
        "l1ChainId": DEVNET.l1_chain_id,
        "l2ChainId": DEVNET.l2_chain_id,
        "portal": "0x" + L1_PORTAL.hex(),
        "oracle": "0x" + L1_OUTPUT_ORACLE.hex(),
        "token": "0x" + L1_OPEN_TOKEN.hex(),
        "outputSeconds": OUTPUT_SECONDS,
    }
    async with trio.open_nursery() as nursery:
        bound: http.BoundServer = await nursery.start(serve)
        urls = [f"{bound.url}/{name}" for name in ("l1", "l2", "clock")]
        key = "0x" + USERS[0].private_key.hex()
        with trio.fail_after(300):
            done = await trio.run_process(
                ["node", "op_stack.mjs", *urls, key, json.dumps(addresses)],
                cwd=CLIENTS,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        nursery.cancel_scope.cancel()
    assert (done.returncode, done.stdout.decode().strip()) == (0, "ok"), done.stderr.decode()

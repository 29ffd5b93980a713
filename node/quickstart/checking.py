"""Chapter 4: the receipts are settled in an L2 block, the second node derives it from L1 and DA, and re-does the answers."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import trio

from openledger.genesis.counted import counted
from openledger.node.cli.verify import exit_status, print_finding
from openledger.node.contract_reads import read
from openledger.node.errors import UserError
from openledger.node.payer import ApiRefused, ApiUnavailable
from openledger.node.predeploy_contracts import inference_ledger
from openledger.node.quickstart.scene import Scene

POLL_S = 0.5
SETTLE_S = 300.0
DERIVE_S = 300.0
AUDIT_TRIES = 10


async def wait_for_settlement(scene: Scene) -> None:
    """Every receipt of the story in a settlement that the ledger executed."""
    hashes = [told.receipt for told in scene.story.answers]
    with scene.narrator.bars() as bars, trio.move_on_after(SETTLE_S):
        bar = bars.add_task("receipts in settlements", total=len(hashes), note="")
        while True:
            states = {digest: await scene.node.get(f"/v1/receipts/{digest}") for digest in hashes}
            settled = [digest for digest in hashes if states[digest]["state"] == "settled"]
            bars.update(bar, completed=len(settled), note=", ".join(sorted({s["state"] for s in states.values()})))
            if len(settled) == len(hashes):
                break
            await trio.sleep(POLL_S)
    if len(settled) < len(hashes):
        raise UserError(
            f"{counted(len(hashes) - len(settled), 'receipt is', 'receipts are')} not settled after {SETTLE_S:.0f} s: "
            "`openledger health` tells why"
        )
    blocks = {}
    for root in dict.fromkeys(state["receipts_root"] for state in states.values()):
        blocks[root] = await _settlement_block(scene, root)
        scene.narrator.done(f"receipts root {root[:18]}… settled in L2 block {blocks[root]}")
    scene.story.settled_block = max(blocks.values())
    scene.memory.save()


async def _settlement_block(scene: Scene, root: str) -> int:
    ledger = inference_ledger()
    (count,) = await read(scene.rpc, ledger, "batchCount")
    for number in range(count, 0, -1):
        ((_, _, block, found, _),) = await read(scene.rpc, ledger, "getBatch", number)
        if "0x" + found.hex() == root:
            return int(block)
    raise UserError(f"the ledger has no settlement with root {root}")


async def derive_on_second_node(scene: Scene) -> None:
    """The settlement's block is safe on the second node: derived from L1 and DA, not believed."""
    wanted = scene.story.settled_block
    status: dict[str, Any] = {}
    with scene.narrator.bars() as bars, trio.move_on_after(DERIVE_S):
        bar = bars.add_task("second node derives", total=None, note="")
        start = None
        while True:
            status = await scene.second_rpc.call("optimism_syncStatus")
            safe = status["safe_l2"]["number"]
            start = safe if start is None else start
            bars.update(
                bar, total=max(1, wanted - start), completed=min(safe, wanted) - start, note=f"safe {safe} of {wanted}"
            )
            if safe >= wanted:
                break
            await trio.sleep(POLL_S)
    if status["safe_l2"]["number"] < wanted:
        raise UserError(f"block {wanted} is not derived on the second node after {DERIVE_S:.0f} s")
    ours = await scene.rpc.call("eth_getBlockByNumber", hex(wanted), False)
    theirs = await scene.second_rpc.call("eth_getBlockByNumber", hex(wanted), False)
    if ours["hash"] != theirs["hash"]:
        raise UserError(f"the nodes differ at block {wanted}: {ours['hash']} here, {theirs['hash']} derived")
    scene.narrator.command(f"verify blocks {wanted} {wanted}")
    scene.narrator.done(f"block {wanted} on the first node  {ours['hash']}")
    scene.narrator.done(
        f"block {wanted} on the second node {theirs['hash']}, derived from L1 block {status['current_l1']['number']}"
    )


async def verify_receipts(scene: Scene) -> None:
    """The second node re-does every answer on its own CPU and says what it finds."""
    for told in scene.story.answers:
        scene.narrator.command(f"verify receipt {told.receipt}")
        scene.narrator.say(f"“{told.question}”, receipt {told.receipt[:18]}…, on the second node:")
        for _ in range(AUDIT_TRIES):
            verdicts = await _audit(scene, told.receipt)
            if exit_status(verdicts) != 2:
                break
            scene.narrator.say("something is not on the second node yet: again")
            await trio.sleep(3)
        if exit_status(verdicts):
            raise UserError(f"the second node does not confirm receipt {told.receipt}")
    scene.narrator.done(f"{len(scene.story.answers)} receipts verified by the second node")


async def _audit(scene: Scene, receipt: str) -> list[str]:
    verdicts = []
    path = f"/v1/receipts/{receipt}/audit"
    try:
        async with aclosing(scene.second.events(path, {}, {})) as findings:
            async for finding in findings:
                verdicts.append(finding["verdict"])
                print_finding(scene.narrator.console, finding["name"], finding["verdict"], finding["detail"])
    except ApiRefused as error:
        if error.status >= 500:
            raise ApiUnavailable(f"the second node cannot check yet: {error}") from error
        raise
    return verdicts

"""Chapter 5: what the answers earned ripens, and one of the people whose documents were used is paid."""

from __future__ import annotations

from typing import Any

import trio

from openledger.genesis.dev_accounts import dev_account
from openledger.node import claims
from openledger.node.cli.account import print_account
from openledger.node.cli.channel import show_open
from openledger.node.contract_reads import block_number
from openledger.node.errors import UserError
from openledger.node.quickstart.scene import Scene, until
from openledger.node.quickstart.texts import AUTHORS

POLL_S = 0.5
CREDITED_S = 60.0


async def _account(scene: Scene, account: int) -> dict[str, Any]:
    found: dict[str, Any] = await scene.node.get(f"/v1/accounts/0x{dev_account(account).address.hex()}")
    return found


def _waiting(account: dict[str, Any]) -> int:
    return sum([account["claimable_micro_open"], *(part["micro_open"] for part in account["pending"])])


def _claimed(scene: Scene, account: dict[str, Any]) -> int:
    """What was claimed since the payee was chosen, in micro-OPEN."""
    return int(account["claimed_micro_open"]) - scene.story.claimed_before


async def choose_payee(scene: Scene) -> None:
    """Who earned most, of the two contributors."""
    with trio.move_on_after(CREDITED_S):
        while True:
            found = {author: await _account(scene, account) for author, account in AUTHORS.items()}
            if any(_waiting(account) for account in found.values()):
                break
            await trio.sleep(POLL_S)
    for author, account in found.items():
        ripens = [part["ripens_at_block"] for part in account["pending"] if part["micro_open"]]
        scene.narrator.done(
            f"{author} earned {show_open(_waiting(account))}" + (f", ripe at block {max(ripens)}" if ripens else "")
        )
    payee = max(AUTHORS, key=lambda author: _waiting(found[author]))
    if not _waiting(found[payee]):
        raise UserError(
            "no document was used by any answer, so nobody earned: `openledger quickstart --fresh` tries again"
        )
    scene.story.payee = AUTHORS[payee]
    scene.story.claimed_before = found[payee]["claimed_micro_open"]
    scene.memory.save()


async def ripen(scene: Scene) -> None:
    """Wait out the dispute window, block by block."""
    account = await _account(scene, scene.story.payee)
    target = max((p["ripens_at_block"] for p in account["pending"] if p["micro_open"]), default=account["block"])
    with scene.narrator.bars() as bars:
        start = account["block"]
        bar = bars.add_task("dispute window", total=max(1, target - start), note="")
        while (now := await block_number(scene.rpc)) < target:
            bars.update(bar, completed=now - start, note=f"block {now} of {target}")
            await trio.sleep(POLL_S)
    scene.narrator.done(f"ripe at block {target}")


async def claim(scene: Scene) -> None:
    """Pay it out; a claim that was made before an interruption is found in the account."""
    payee = scene.story.payee
    wallet = await scene.quiet(payee)

    async def claimed_or_claimable() -> bool:
        account = await _account(scene, payee)
        return any((_claimed(scene, account), account["claimable_micro_open"]))

    await until(claimed_or_claimable, CREDITED_S, f"the earnings of account {payee} to be claimable")
    claimed = _claimed(scene, await _account(scene, payee))
    if not claimed:
        claimed = await claims.claim(scene.rpc, wallet, wallet.address)
    scene.story.paid_micro_open = claimed
    scene.memory.save()
    scene.narrator.command(f"claim --account {payee}")
    scene.narrator.done(f"{show_open(claimed)} paid to 0x{wallet.address.hex()}")
    scene.narrator.command(f"account --account {payee}")
    print_account(scene.narrator.console, await _account(scene, payee))

"""Output roots on L1 and the bonds behind them, as a proposer, a challenger or a decider sees them.

Whether an output is right is what the L2 node that is asked has derived itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from openledger.genesis.artifact import artifact
from openledger.genesis.parameters import OPEN_WEI
from openledger.genesis.preset import Preset
from openledger.node.contracts import Contract
from openledger.node.errors import UserError
from openledger.node.rpc_client import RpcClient, RpcError
from openledger.node.wallet import Wallet
from openledger.rollup.l1.output_oracle import WITH_BONDS

MAX_LISTED = 1_000


class NoBonds(UserError):
    """The network's output oracle is one without bonds."""


class Verdict(Enum):
    """What the L2 node's own chain says about an output."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "not derived yet"


@dataclass(frozen=True)
class BondStatus:
    """An account's OPEN in the oracle and around it, in wei, with what an output and a challenge cost."""

    free: int
    locked: int
    held: int
    allowed: int
    proposer_bond: int
    challenger_bond: int


@dataclass(frozen=True)
class OutputStatus:
    """An output root. `challenger` is empty for an output that is not challenged; one that stands on a challenged output
    is `frozen` too. `final_in_s` is 0 for a final one and None for a frozen one."""

    index: int
    root: bytes
    l2_block_number: int
    verdict: Verdict
    frozen: bool
    final_in_s: int | None
    challenger: bytes = b""
    decision_until: int = 0


class Outputs:
    """The output oracle of one network, over JSON-RPC of both chains.

    Methods raise RpcError, RpcUnavailable, NoBonds, and where they send something TransactionReverted.
    """

    def __init__(self, preset: Preset, l1: RpcClient, l2: RpcClient) -> None:
        self._l1 = l1
        self._l2 = l2
        self._oracle = Contract(preset.l1.output_oracle, artifact("L2OutputOracle").abi)
        self._token = Contract(preset.l1.open_token, artifact("OpenToken").abi)

    # --- bonds ---

    async def bond(self, account: bytes) -> BondStatus:
        """What an account has staked, could withdraw, and could stake."""
        await self._require_bonds()
        free, locked = await self._read_all(self._oracle, "bondOf", account)
        return BondStatus(
            free,
            locked,
            await self._read(self._token, "balanceOf", account),
            await self._read(self._token, "allowance", account, self._oracle.address),
            await self._read(self._oracle, "proposerBond"),
            await self._read(self._oracle, "challengerBond"),
        )

    async def deposit(self, wallet: Wallet, amount_wei: int) -> None:
        """Add OPEN of the wallet's to its bond. Raises UserError when it has too little."""
        status = await self.bond(wallet.address)
        if status.held < amount_wei:
            raise UserError(f"0x{wallet.address.hex()} has {status.held} wei of OPEN on L1, not {amount_wei}")
        await self._allow(wallet, amount_wei, status)
        await wallet.send(self._l1, self._oracle, "depositBond", amount_wei)

    async def withdraw(self, wallet: Wallet, amount_wei: int | None) -> int:
        """Take free OPEN out of the wallet's bond (None: all); how many wei. Raises UserError when less is free."""
        status = await self.bond(wallet.address)
        wanted = status.free if amount_wei is None else amount_wei
        if wanted > status.free or not wanted:
            raise UserError(
                f"{status.free / OPEN_WEI:g} OPEN of 0x{wallet.address.hex()} are free; {status.locked / OPEN_WEI:g} "
                "stand behind outputs that are not final, and challenges that are not decided"
            )
        await wallet.send(self._l1, self._oracle, "withdrawBond", wanted)
        return wanted

    # --- outputs ---

    async def listing(self, count: int) -> list[OutputStatus]:
        """The newest outputs, oldest first."""
        end = await self._read(self._oracle, "nextOutputIndex")
        return [await self.output(index) for index in range(max(0, end - min(count, MAX_LISTED)), end)]

    async def output(self, index: int) -> OutputStatus:
        """One output. Raises UserError where there is none."""
        end = await self._read(self._oracle, "nextOutputIndex")
        if not 0 <= index < end:
            raise UserError(
                f"there is no output {index} on L1: " + (f"the last one is {end - 1}" if end else "none is")
            )
        root, timestamp, number = await self._read(self._oracle, "getL2Output", index)
        verdict = await self._verdict(root, number)
        frozen, challenger, until = False, b"", 0
        if await self._has_bonds():
            frozen = index >= await self._read(self._oracle, "frozenFrom")
            found, _, opened_at = await self._read(self._oracle, "challengeOf", index)
            challenger = bytes.fromhex(found[2:])
            if any(challenger):
                until = opened_at + await self._read(self._oracle, "decisionPeriodSeconds")
        now = int((await self._l1.call("eth_getBlockByNumber", "latest", False))["timestamp"], 16)
        left = timestamp + await self._read(self._oracle, "finalizationPeriodSeconds") + 1 - now
        return OutputStatus(
            index,
            root,
            number,
            verdict,
            frozen,
            None if frozen else max(0, left),
            challenger if any(challenger) else b"",
            until,
        )

    async def challenge(self, wallet: Wallet, index: int) -> None:
        """Challenge a wrong output. Raises UserError for one that this node holds to be right, or cannot judge yet."""
        status = await self.bond(wallet.address)
        output = await self.output(index)
        if output.verdict is not Verdict.WRONG:
            raise UserError(
                f"output {index} is {output.verdict.value} for the node that was asked: challenging it would cost "
                f"{status.challenger_bond / OPEN_WEI:g} OPEN"
            )
        missing = status.challenger_bond - status.free
        if missing > status.held:
            raise UserError(
                f"a challenge takes a bond of {status.challenger_bond / OPEN_WEI:g} OPEN: 0x{wallet.address.hex()} has "
                f"{status.free / OPEN_WEI:g} free in its bond and {status.held / OPEN_WEI:g} on L1"
            )
        await self._allow(wallet, missing, status)
        await wallet.send(self._l1, self._oracle, "challengeL2Output", index, output.root)

    async def decide(self, wallet: Wallet, index: int) -> Verdict:
        """End a challenge by what the node's own chain says; that verdict. Raises UserError where that is unknown."""
        await self._require_bonds()
        output = await self.output(index)
        if output.verdict is Verdict.UNKNOWN:
            raise UserError(f"the node that was asked has not derived L2 block {output.l2_block_number} yet: try later")
        right = output.verdict is Verdict.RIGHT
        await wallet.send(self._l1, self._oracle, "decideChallenge", index, output.root, right)
        return output.verdict

    async def expire(self, wallet: Wallet, index: int) -> None:
        """End a challenge that was not decided in time: the output and all after it are deleted."""
        await self._require_bonds()
        await wallet.send(self._l1, self._oracle, "expireChallenge", index)

    # --- reading ---

    async def _verdict(self, root: bytes, l2_block_number: int) -> Verdict:
        safe = int((await self._l2.call("eth_getBlockByNumber", "safe", False))["number"], 16)
        if l2_block_number > safe:
            return Verdict.UNKNOWN
        ours = (await self._l2.call("optimism_outputAtBlock", hex(l2_block_number)))["outputRoot"]
        return Verdict.RIGHT if bytes.fromhex(ours[2:]) == root else Verdict.WRONG

    async def _allow(self, wallet: Wallet, amount_wei: int, status: BondStatus) -> None:
        if status.allowed < amount_wei:
            await wallet.send(self._l1, self._token, "approve", self._oracle.address, amount_wei)

    async def _require_bonds(self) -> None:
        if not await self._has_bonds():
            raise NoBonds(
                f"the output oracle 0x{self._oracle.address.hex()} takes no bonds: it was deployed before outputs had any, "
                "and only its challenger can delete a wrong output"
            )

    async def _has_bonds(self) -> bool:
        return str(await self._read(self._oracle, "version")).endswith(WITH_BONDS)

    async def _read(self, contract: Contract, function: str, *arguments: Any) -> Any:
        return (await self._read_all(contract, function, *arguments))[0]

    async def _read_all(self, contract: Contract, function: str, *arguments: Any) -> tuple[Any, ...]:
        call = {"to": "0x" + contract.address.hex(), "data": "0x" + contract.encode(function, *arguments).hex()}
        try:
            answer = bytes.fromhex((await self._l1.call("eth_call", call, "latest"))[2:])
        except RpcError as error:
            if error.code != 3:
                raise
            raise UserError(f"{function} was refused: {contract.explain(error.revert_data)}") from error
        return contract.decode(function, answer)

"""Holds every output root on L1 against the chain that this node derived itself, and disputes a wrong one.

A wrong output, once its dispute time has passed, lets anybody take what is locked on L1. Every validator therefore looks;
with the challenger's key it deletes the wrong output and all after it, without the key it says so as loudly as it can.
"""

import structlog
import trio

from openledger.rollup.clock import Clock, WallClock
from openledger.rollup.engine import Engine
from openledger.rollup.l1.output_oracle import OutputOracle, ProposedOutput
from openledger.rollup.l1.source import L1Error, L1Submitter
from openledger.rollup.l1.transactions import L1Sender, L1TransactionLost
from openledger.rollup.proposer import block_output

log = structlog.get_logger(__name__)

CHALLENGE_GAS = 300_000
# An output at an index already seen can be another one after a deletion; the newest are read again each time.
REREAD = 8


class OutputChecker:
    """Checks the outputs of one oracle. `challenger_key` None only watches."""

    def __init__(
        self,
        engine: Engine,
        l1: L1Submitter,
        oracle: bytes,
        challenger_key: bytes | None = None,
        *,
        poll_interval_s: float = 4.0,
        clock: Clock | None = None,
    ) -> None:
        self.problem: str | None = None
        self.checked = 0
        """How many outputs, counted from the first, are known to be right."""
        self.disputed = 0
        self._engine = engine
        self._oracle = OutputOracle(l1, oracle)
        self._clock = clock or WallClock()
        self._sender = (
            None if challenger_key is None else L1Sender(l1, engine.config.l1_chain_id, challenger_key, self._clock)
        )
        self._poll_interval_s = poll_interval_s

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check until cancelled. `problem` names a wrong output until it is gone; L1 being away is waited out."""
        task_status.started()
        while True:
            try:
                await self.step()
            except (L1Error, L1TransactionLost) as error:
                log.warning("outputs not checked", problem=f"{type(error).__name__}: {error}")
            await self._clock.sleep(self._poll_interval_s)

    async def step(self) -> None:
        """Check what is new, as far as our safe chain goes. Raises `L1Error`, `L1TransactionLost`."""
        count = await self._oracle.next_index()
        self.checked = min(self.checked, count)
        safe = self._engine.chain.head("safe").number
        for index in range(max(0, self.checked - REREAD), count):
            output = await self._oracle.output(index)
            if output.l2_block_number > safe:
                break
            ours = block_output(self._engine, output.l2_block_number)
            if ours != output.root:
                await self._dispute(output, ours)
                return
            self.checked = max(self.checked, index + 1)
        self.problem = None

    async def _dispute(self, output: ProposedOutput, ours: bytes | None) -> None:
        self.checked = min(self.checked, output.index)
        problem = (
            f"output {output.index} on L1 is wrong: L2 block {output.l2_block_number} has "
            f"0x{(ours or b'').hex()}, not 0x{output.root.hex()}"
        )
        if problem != self.problem:
            log.error("wrong output on L1", index=output.index, l2_block=output.l2_block_number, root=output.root.hex())
        self.problem = problem
        if self._sender is None:
            return
        call = OutputOracle.delete_from(output.index)
        included = await self._sender.send(self._oracle.address, call, gas=CHALLENGE_GAS)
        if included.succeeded:
            self.disputed += 1
            self.problem = None
            log.warning("wrong output deleted", index=output.index, l1_block=included.block_number)
        else:
            self.problem += "; deleting it failed: has it become final, or is ours not the challenger's key?"

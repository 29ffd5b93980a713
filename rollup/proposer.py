"""Puts L2 output roots on L1, from which withdrawals are proved (OP-Stack proposals.md).

Remembers nothing: the oracle says which block is next. Only finalized blocks are proposed, so no L1 reorg makes one wrong.
Behind each output stands a bond in OPEN; the proposer lets the oracle take as many as are open at the same time, and what
final outputs set free is used again.
"""

import structlog
import trio

from openledger.rollup.clock import Clock, WallClock
from openledger.rollup.codec.outputs import output_root
from openledger.rollup.engine import Engine
from openledger.rollup.l1.bond import Bond
from openledger.rollup.l1.output_oracle import OutputOracle
from openledger.rollup.l1.source import L1Error, L1Source, L1Submitter
from openledger.rollup.l1.transactions import L1Sender, L1TransactionLost

log = structlog.get_logger(__name__)

PROPOSAL_GAS = 400_000


def block_output(engine: Engine, number: int) -> bytes | None:
    """The output root of our canonical block at a height; None while there is none."""
    header = engine.chain.header_by_number(number)
    return None if header is None else output_root(header.state_root, header.withdrawals_root, header.hash)


class ProposalFailed(L1Error):
    """L1 included the proposal and the oracle refused it."""


class Proposer:
    """Proposes for one chain, with the proposer's key."""

    def __init__(
        self,
        engine: Engine,
        l1_source: L1Source,
        l1: L1Submitter,
        oracle: bytes,
        private_key: bytes,
        *,
        poll_interval_s: float = 4.0,
        clock: Clock | None = None,
    ) -> None:
        self.problem: str | None = None
        self.proposed: int | None = None
        """The L2 block proposed last, since the start."""
        self.count = 0
        """How many outputs were proposed since the start."""
        self._engine = engine
        self._l1_source = l1_source
        self._oracle = OutputOracle(l1, oracle)
        self._clock = clock or WallClock()
        self._sender = L1Sender(l1, engine.config.l1_chain_id, private_key, self._clock)
        self._poll_interval_s = poll_interval_s
        self.bond = Bond(self._oracle, l1, self._sender)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Propose until cancelled. Trouble with L1 is logged, shown in `problem`, and waited out."""
        task_status.started()
        while True:
            try:
                proposed = await self.step()
                self.problem = None
            except (L1Error, L1TransactionLost) as error:
                proposed = False
                problem = f"{type(error).__name__}: {error}"
                if problem != self.problem:
                    log.warning("proposer waits", problem=problem)
                    self.problem = problem
            if not proposed:
                await self._clock.sleep(self._poll_interval_s)

    async def step(self) -> bool:
        """Propose the next output if its block is finalized; whether it was.

        Raises `L1Error` (`BondMissing` while the proposer has too little OPEN), `L1TransactionLost`.
        """
        number = await self._oracle.next_block_number()
        if number > self._engine.chain.head("finalized").number:
            return False
        root = block_output(self._engine, number)
        if root is None:
            return False
        terms = await self._oracle.terms()
        if terms is not None:
            await self.bond.secure(terms, terms.proposer_bond, terms.proposer_bond * terms.outputs_at_once)
        at = await self._l1_source.header_by_label("latest")
        call = OutputOracle.propose(root, number, at.hash, at.number)
        included = await self._sender.send(self._oracle.address, call, gas=PROPOSAL_GAS)
        if not included.succeeded:
            raise ProposalFailed(
                f"the oracle refused the output of L2 block {number}: is 0x{self._sender.address.hex()} its proposer, and are "
                "the bond's terms those of when this node started?"
            )
        self.proposed = number
        self.count += 1
        log.info("output proposed", l2_block=number, root="0x" + root.hex(), l1_block=included.block_number)
        return True

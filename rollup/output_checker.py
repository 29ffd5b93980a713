"""Holds every output root on L1 against the chain that this node derived itself, and disputes a wrong one.

A wrong output, once its dispute time has passed, lets anybody take what is locked on L1. Every validator therefore looks.
With any key that holds OPEN on L1 it challenges a wrong output, which freezes it; with the key of the oracle's `challenger`
role it also decides each challenge by its own chain; without a key it says what it sees as loudly as it can.
"""

import structlog
import trio

from openledger.rollup.clock import Clock, WallClock
from openledger.rollup.engine import Engine
from openledger.rollup.l1.bond import Bond, BondMissing
from openledger.rollup.l1.output_oracle import BondTerms, Challenge, OutputOracle, ProposedOutput
from openledger.rollup.l1.source import L1Error, L1Submitter
from openledger.rollup.l1.transactions import L1Sender, L1TransactionLost
from openledger.rollup.proposer import block_output

log = structlog.get_logger(__name__)

CHALLENGE_GAS = 300_000
GAS_PER_OUTPUT = 20_000  # of a deletion, for each output from the first deleted one on
# An output at an index already seen can be another one after a deletion; the newest are read again each time.
REREAD = 8
EXPIRY_MARGIN_S = 12  # L1's clock is the block's, and may be behind ours


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
        self.challenged = 0
        """How many challenges this node has begun since its start."""
        self.disputed = 0
        """How many wrong outputs it has had deleted."""
        self.upheld = 0
        """How many challenges of right outputs it has decided."""
        self.frozen_from: int | None = None
        """The lowest challenged output, when last asked."""
        self._told: set[tuple[int, Challenge]] = set()
        self._engine = engine
        self._oracle = OutputOracle(l1, oracle)
        self._clock = clock or WallClock()
        self._sender = (
            None if challenger_key is None else L1Sender(l1, engine.config.l1_chain_id, challenger_key, self._clock)
        )
        self.bond = None if self._sender is None else Bond(self._oracle, l1, self._sender)
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
        terms = await self._oracle.terms()
        count = await self._oracle.next_index()
        self.checked = min(self.checked, count)
        self.frozen_from = None if terms is None else await self._oracle.frozen_from()
        safe = self._engine.chain.head("safe").number
        for index in range(max(0, self.checked - REREAD), count):
            output = await self._oracle.output(index)
            if output.l2_block_number > safe:
                break
            ours = block_output(self._engine, output.l2_block_number)
            if ours != output.root:
                await self._dispute(output, ours, count, terms)
                return
            self.checked = max(self.checked, index + 1)
        self.problem = None
        if terms is not None and self.frozen_from is not None:
            await self._uphold(terms, self.frozen_from)

    async def _dispute(self, output: ProposedOutput, ours: bytes | None, count: int, terms: BondTerms | None) -> None:
        self.checked = min(self.checked, output.index)
        problem = (
            f"output {output.index} on L1 is wrong: L2 block {output.l2_block_number} has "
            f"0x{(ours or b'').hex()}, not 0x{output.root.hex()}"
        )
        if self.problem is None or not self.problem.startswith(problem):
            log.error("wrong output on L1", index=output.index, l2_block=output.l2_block_number, root=output.root.hex())
        self.problem = problem
        if self._sender is None:
            return
        gas = CHALLENGE_GAS + GAS_PER_OUTPUT * (count - output.index)
        if terms is None:
            await self._delete(self._sender, output, gas)
            return
        challenge = await self._oracle.challenge_of(output.index)
        if challenge is None:
            if self._clock.now() >= output.timestamp + terms.finalization_period_s:
                self.problem += "; it is final: nothing but a pause of the portal stops withdrawals that rely on it"
                return
            try:
                challenge = await self._challenge(self._sender, output, terms)
            except BondMissing as error:
                if self._sender.address != terms.decider:
                    self.problem += f"; it cannot be challenged: {error}"
                    return
                log.warning("deleting instead of challenging, which costs the proposer nothing", problem=str(error))
                await self._delete(self._sender, output, gas)
                return
        if challenge is not None:
            await self._end(self._sender, output, challenge, terms, gas)

    async def _challenge(self, sender: L1Sender, output: ProposedOutput, terms: BondTerms) -> Challenge | None:
        assert self.bond is not None, "it belongs to the sender"
        await self.bond.secure(terms, terms.challenger_bond, terms.challenger_bond)
        call = OutputOracle.challenge(output.index, output.root)
        included = await sender.send(self._oracle.address, call, gas=CHALLENGE_GAS)
        if included.succeeded:
            self.challenged += 1
            log.warning("wrong output challenged", index=output.index, l1_block=included.block_number)
        elif self.problem is not None:
            self.problem += "; challenging it failed: is it final, or was somebody faster?"
        return await self._oracle.challenge_of(output.index)

    async def _end(
        self, sender: L1Sender, output: ProposedOutput, challenge: Challenge, terms: BondTerms, gas: int
    ) -> None:
        """Have a challenged wrong output deleted: by our decision, or because nobody's came in time."""
        late = self._clock.now() > challenge.opened_at + terms.decision_period_s + EXPIRY_MARGIN_S
        if sender.address == terms.decider:
            call = OutputOracle.decide(output.index, output.root, right=False)
        elif late:
            call = OutputOracle.expire(output.index)
        else:
            assert self.problem is not None, "it names the output"
            self.problem += f"; it is frozen until 0x{terms.decider.hex()} decides"
            return
        await self._have_deleted(sender, call, output, gas, "another decision came first")

    async def _delete(self, sender: L1Sender, output: ProposedOutput, gas: int) -> None:
        call = OutputOracle.delete_from(output.index)
        await self._have_deleted(sender, call, output, gas, "has it become final, or is ours not the challenger's key?")

    async def _have_deleted(
        self, sender: L1Sender, call: bytes, output: ProposedOutput, gas: int, otherwise: str
    ) -> None:
        included = await sender.send(self._oracle.address, call, gas=gas)
        if included.succeeded:
            self.disputed += 1
            self.problem = None
            log.warning("wrong output deleted", index=output.index, l1_block=included.block_number)
        elif self.problem is not None:
            self.problem += f"; deleting it failed: {otherwise}"

    async def _uphold(self, terms: BondTerms, first: int) -> None:
        """Decide challenges of outputs that are right, if that is for us to do; else say that they are challenged."""
        for index in range(first, self.checked):
            challenge = await self._oracle.challenge_of(index)
            if challenge is None:
                continue
            output = await self._oracle.output(index)
            if block_output(self._engine, output.l2_block_number) != output.root:
                continue  # it was exchanged since it was checked: the next step sees that
            if self._sender is None or self._sender.address != terms.decider:
                if (index, challenge) not in self._told:
                    self._told.add((index, challenge))
                    log.warning("a right output is challenged", index=index, by="0x" + challenge.challenger.hex())
                continue
            call = OutputOracle.decide(index, output.root, right=True)
            gas = CHALLENGE_GAS + GAS_PER_OUTPUT * (self.checked - index)
            if (await self._sender.send(self._oracle.address, call, gas=gas)).succeeded:
                self.upheld += 1
                log.warning("challenge of a right output decided", index=index)

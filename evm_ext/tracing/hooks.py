"""What a tracer is told while a transaction runs.

A tracer derives from `Tracer` and overrides what it wants to hear; `machine.traced` calls it. Order of the calls:

    transaction_start
      enter                     the message of the transaction (depth 0)
        step                    before each opcode
          enter … exit          the messages of CALL*, CREATE*, and SELFDESTRUCT's transfer (depth 1, …)
          log                   of LOG0 to LOG4
        step_end                after it, with what it cost
      exit
    transaction_end
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openledger.evm_ext.errors import TraceTooLarge

if TYPE_CHECKING:
    from openledger.evm_ext.block import Header
    from openledger.evm_ext.state.world import WorldState
    from openledger.evm_ext.transactions import Transaction

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Frame:
    """A message that begins. `kind` is the opcode's name; `value` None where the opcode knows none (STATICCALL).

    depth: 0 for the transaction's own message.
    to: the account whose code runs; for a creation the new contract; for SELFDESTRUCT who gets the balance.
    gas: what the message may use; for SELFDESTRUCT 0.
    """

    depth: int
    kind: str
    sender: bytes
    to: bytes
    input: bytes
    gas: int
    value: int | None


@dataclass(frozen=True, slots=True)
class FrameEnd:
    """A message that ended. `error` is geth's words, None for success.

    reverted: whether the state went back; with an error it always did, but for creations before Homestead.
    """

    depth: int
    output: bytes
    gas_used: int
    error: str | None
    reverted: bool


@dataclass(frozen=True, slots=True)
class TracedTransaction:
    """The transaction, or the call, that is traced, and where.

    transaction: for a call what it would be as one; it has no signature then, and `sender` says who calls.
    block_hash, index, first_log_index: None and 0 where a call is traced that is in no block.
    """

    transaction: Transaction
    sender: bytes
    header: Header
    state: WorldState
    is_op: bool
    block_hash: bytes | None = None
    index: int = 0
    first_log_index: int = 0


@dataclass(frozen=True, slots=True)
class TransactionEnd:
    """What the transaction did. `gas_used` is after refunds, as in its receipt."""

    success: bool
    gas_used: int


class Budget:
    """How many bytes a result may grow to, counted while it grows. One budget for all tracers of an answer."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.spent_bytes = 0

    def spend(self, size: int) -> None:
        """Raises `TraceTooLarge` when the result would be larger than the limit."""
        self.spent_bytes += size
        if self.spent_bytes > self.limit_bytes:
            raise TraceTooLarge(
                f"the trace is larger than {self.limit_bytes} bytes: ask for less "
                "(disableStack, disableStorage, limit, onlyTopCall, or another tracer)"
            )


class Tracer:
    """Hears nothing; tracers override what they want. One object traces one transaction."""

    wants_steps = False
    """Whether `step` and `step_end` are called for every opcode, with costs; without that tracing costs little."""
    watched: frozenset[int] = frozenset()
    """Opcodes for which they are called all the same, without costs."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def transaction_start(self, traced: TracedTransaction) -> None:
        """Before anything happened: no fee is taken, nothing minted."""

    def transaction_end(self, end: TransactionEnd) -> None:
        """After the last change of the transaction, its fees included."""

    def enter(self, frame: Frame) -> None:
        """A message begins."""

    def exit(self, end: FrameEnd) -> None:
        """The message that began last, and has not ended, ends."""

    def step(self, computation: Any, position: int, opcode: int, gas: int, refund: int) -> None:
        """An opcode is about to run. `computation` is the machine: its stack, memory and state are as before."""

    def step_end(self, cost: int, error: str | None) -> None:
        """The opcode of the last `step` at this depth ran; `cost` is 0 where only some are watched. `error` is set if it could not start (stack, gas);
        an error while it runs ends the message and is told by `exit`."""

    def log(self, address: bytes, topics: tuple[bytes, ...], data: bytes) -> None:
        """An event was emitted by the message that is running."""

    def result(self) -> Any:
        """The JSON value that answers the trace. Called once, after `transaction_end`."""
        return {}

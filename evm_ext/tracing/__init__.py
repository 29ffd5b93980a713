"""What a transaction did, opcode by opcode or message by message, in the words of geth.

A tracer (`hooks.Tracer`) hears of transactions, messages and opcodes; `machine.traced` makes any fork's machine tell
it; `replay.BlockReplay` executes a stored block again up to the transaction that is asked for.
"""

from openledger.evm_ext.tracing.directory import new_tracer
from openledger.evm_ext.tracing.hooks import Budget, Frame, FrameEnd, TracedTransaction, Tracer, TransactionEnd
from openledger.evm_ext.tracing.machine import TraceSession, traced
from openledger.evm_ext.tracing.replay import BlockReplay
from openledger.evm_ext.tracing.witness import ExecutionWitness, execution_witness

__all__ = [
    "BlockReplay",
    "Budget",
    "ExecutionWitness",
    "Frame",
    "FrameEnd",
    "TraceSession",
    "TracedTransaction",
    "Tracer",
    "TransactionEnd",
    "execution_witness",
    "new_tracer",
    "traced",
]

"""`traced`: any fork's machine, telling a tracer what it does.

The subclass runs every opcode through the machine's own table, in a plain loop, never in generated code, and
tells the tracer of steps, messages and logs in the order and with the figures that geth gives. What geth computes
before an opcode runs (its cost) is measured here while it runs: what the gas meter lost, less what went to a child
and came back.
"""

from __future__ import annotations

import time
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar

from eth.exceptions import FullStack, Halt, InsufficientStack, VMError

from openledger.evm_ext.errors import CallTimeout
from openledger.evm_ext.tracing import faults, opcodes
from openledger.evm_ext.tracing.costs import Probed, collision_cost, failed_cost, forwarded_at_most, word
from openledger.evm_ext.tracing.hooks import Frame, FrameEnd, Tracer
from openledger.evm_ext.tracing.operands import Operands, operands_of
from openledger.evm_ext.vm.computation import Computation

_STEPS_AT_ONCE = 512
_LOOPS_BETWEEN_CLOCK_LOOKS = 32
_CALL_DEPTH_LIMIT = 1024
_MOST_OPERANDS = 7
_TOLD = opcodes.CALLS | opcodes.CREATES | opcodes.LOGS | {opcodes.SELFDESTRUCT}
_ROW_ERRORS = ("stack ", faults.OUT_OF_GAS, faults.GAS_OVERFLOW)
"""What keeps an opcode from starting begins so; only that is an error of its step."""

if TYPE_CHECKING:
    _Machine = Computation
else:
    _Machine = object


class TraceSession:
    """What the messages of one traced transaction share."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.entered = False
        """Whether any message began; a transaction may end before."""
        self.deployed: bytes | None = None
        """What the code of a creation returned, until the creation ends."""
        self.fault: str | None = None
        """Why the message that is ending failed, if an opcode of its own did."""
        self.refund = 0
        """The refund counter with which the next message begins."""
        self.destroyed: set[bytes] = set()
        """Accounts whose SELFDESTRUCT has counted in it (before London)."""
        self.is_watched = tuple(
            opcode in _TOLD or opcode in opcodes.MEMORY_OPERANDS or opcode in tracer.watched for opcode in range(256)
        )
        self._loops = 0

    def enter(self, frame: Frame) -> None:
        self.entered = True
        self.tracer.enter(frame)

    def look_at_clock(self, deadline: float | None) -> None:
        """Raises `CallTimeout`."""
        self._loops += 1
        if self._loops % _LOOPS_BETWEEN_CLOCK_LOOKS == 0 and deadline is not None and time.monotonic() > deadline:
            raise CallTimeout("execution timeout")


def traced(machine_class: type[Computation], session: TraceSession) -> type[Computation]:
    """A subclass of a fork's machine that tells the session's tracer what it does. One per transaction."""
    return type(
        f"Traced{machine_class.__name__}",
        (_TracedMachine, machine_class),
        {"session": session, "is_traced": True},
    )


class _TracedMachine(_Machine):
    session: ClassVar[TraceSession]

    # About the opcode that runs: which, what it was given, what a child took and what came back.
    _opcode = opcodes.CALL
    _operands: Operands | None = None
    _child_entered = False
    _forwarded = 0
    _given_back = 0
    _cost = 0
    # The refund counter: at the start of the message, and what its successful children and SELFDESTRUCT added.
    _refund_before = 0
    _refund_added = 0
    _probing = False

    def __init__(self, state: Any, message: Any, transaction_context: Any) -> None:
        super().__init__(state, message, transaction_context)
        self._refund_before = self.session.refund

    @property
    def refund_counter(self) -> int:
        """The transaction's refund counter as this message sees it."""
        return int(self._refund_before + self._gas_meter.gas_refunded + self._refund_added)

    # --- messages ---------------------------------------------------------------------------------------

    @classmethod
    def apply_message(cls, state: Any, message: Any, transaction_context: Any, parent_computation: Any = None) -> Any:
        _stop_probing(parent_computation, message)
        if message.is_create:  # apply_create_message has told of it
            computation = super().apply_message(
                state, message, transaction_context, parent_computation=parent_computation
            )
            if computation._error is None:
                cls.session.deployed = bytes(computation._output)
            return computation
        frame = _call_frame(parent_computation, message)
        return cls._tell(frame, super().apply_message, state, message, transaction_context, parent_computation)

    @classmethod
    def apply_create_message(
        cls, state: Any, message: Any, transaction_context: Any, parent_computation: Any = None
    ) -> Any:
        _stop_probing(parent_computation, message)
        frame = Frame(
            depth=message.depth,
            kind="CREATE" if parent_computation is None else opcodes.NAMES[parent_computation._opcode],
            sender=message.sender,
            to=message.storage_address,
            input=bytes(message.code),
            gas=message.gas,
            value=message.value,
        )
        return cls._tell(frame, super().apply_create_message, state, message, transaction_context, parent_computation)

    @classmethod
    def _tell(cls, frame: Frame, apply: Any, state: Any, message: Any, context: Any, parent: Any) -> Any:
        """Run a message between `enter` and `exit`."""
        session = cls.session
        if parent is None:
            session.refund = message.refund
        else:
            parent._child_entered = True
            if message.is_create:
                parent._forwarded = message.gas
            session.refund = parent.refund_counter
        session.fault = session.deployed = None
        session.enter(frame)
        try:
            computation = apply(state, message, context, parent_computation=parent)
        except VMError as refusal:  # only a transaction's own message is refused so, for its funds
            session.tracer.exit(FrameEnd(frame.depth, b"", 0, faults.describe(refusal), True))
            raise
        error: VMError | None = computation._error
        output = bytes(computation.output)
        words: str | None = None
        reverted = error is not None
        if message.is_create and session.deployed is not None:
            words = _deployment_fault(error, session.deployed, bytes(computation._output))
            output = session.deployed
        elif error is not None:
            words = session.fault or faults.describe(error)
        session.fault = session.deployed = None
        session.tracer.exit(FrameEnd(frame.depth, output, computation.get_gas_used(), words, reverted))
        if parent is not None and error is None:
            parent._refund_added += computation.refund_counter - computation._refund_before
        return computation

    # --- opcodes ----------------------------------------------------------------------------------------

    def return_gas(self, amount: int) -> None:
        self._given_back += amount
        super().return_gas(amount)

    def _run(self) -> None:
        if self.session.tracer.wants_steps:
            self._run_with_steps()
        else:
            self._run_with_messages()

    def _run_with_steps(self) -> None:
        session, state, code, meter = self.session, self.state, self.code, self._gas_meter
        tracer = session.tracer
        raw = code._raw_code_bytes
        length = len(raw)
        while True:
            session.look_at_clock(state.deadline)
            position = code.program_counter
            opcode = raw[position] if position < length else 0
            gas = meter.gas_remaining
            memory_size = len(self._memory)
            tracer.step(self, position, opcode, gas, self.refund_counter)
            snapshot = state.snapshot()
            before = list(self._stack.values)
            try:
                halted = self._perform(opcode, position, gas, memory_size)
            except VMError as error:
                words = session.fault = self._fault(error, opcode, gas, before)
                cost = failed_cost(self, error, words, opcode, gas, before, memory_size, snapshot)
                tracer.step_end(cost, words if words.startswith(_ROW_ERRORS) else None)
                raise
            tracer.step_end(self._cost, None)
            if halted:
                return

    def _run_with_messages(self) -> None:
        """As the plain tier runs, but for the opcodes that are told of or watched, and those that use memory: what
        they were given says why they failed."""
        session, code, meter = self.session, self.code, self._gas_meter
        tracer, is_watched = session.tracer, session.is_watched
        watched = tracer.watched
        raw = code._raw_code_bytes
        length = len(raw)
        table = self._opcode_table
        before: list[Any] = []
        opcode = 0
        try:
            while True:
                session.look_at_clock(self.state.deadline)
                for _ in repeat(None, _STEPS_AT_ONCE):
                    position = code.program_counter
                    opcode = raw[position] if position < length else 0
                    if is_watched[opcode]:
                        before = self._stack.values[-_MOST_OPERANDS:]
                        if opcode in watched:
                            tracer.step(self, position, opcode, meter.gas_remaining, self.refund_counter)
                        halted = self._perform(opcode, position, meter.gas_remaining, len(self._memory))
                        if opcode in watched:
                            tracer.step_end(0, None)
                        if halted:
                            return
                    else:
                        code.program_counter = position + 1
                        table[opcode](self)
        except Halt:
            pass
        except VMError as error:
            operands = before if is_watched[opcode] else []
            words = session.fault = self._fault(error, opcode, meter.gas_remaining, operands)
            if opcode in watched:
                tracer.step_end(0, words if words.startswith(_ROW_ERRORS) else None)
            raise

    def _perform(self, opcode: int, position: int, gas: int, memory_size: int) -> bool:
        """Run one opcode and tell what it did; whether it ended the message. Its cost is `_cost` then."""
        self._opcode = opcode
        self._given_back = self._forwarded = 0
        is_told = opcode in _TOLD
        self._check_stack(opcode)
        if is_told:
            self._child_entered = False
            self._operands = operands_of(self, opcode)
        self.code.program_counter = position + 1
        halted = False
        try:
            self._opcode_table[opcode](self)
        except Halt:
            halted = True
        self._cost = gas - self._gas_meter.gas_remaining + self._given_back - self._forwarded
        if is_told:
            self._cost = self._tell_effect(opcode, gas, self._cost, memory_size)
        return halted

    def _check_stack(self, opcode: int) -> None:
        """As geth does before it looks at gas; the machine's own functions look later, or in another order."""
        height = len(self._stack.values)
        if height < opcodes.TAKEN[opcode]:
            raise InsufficientStack(f"{opcodes.NAMES[opcode]} on a stack of {height}")
        if height > opcodes.HIGHEST[opcode]:
            raise FullStack(f"{opcodes.NAMES[opcode]} on a stack of {height}")

    def _fault(self, error: VMError, opcode: int, gas: int, before: list[Any]) -> str:
        """geth's words. `before` are the operands of an opcode that uses memory."""
        if isinstance(error, InsufficientStack):
            return f"stack underflow ({len(self._stack.values)} <=> {opcodes.TAKEN[opcode]})"
        if isinstance(error, FullStack):
            return f"stack limit reached {len(self._stack.values)} ({opcodes.HIGHEST[opcode]})"
        words = faults.describe(error, opcode)
        if words == faults.OUT_OF_GAS:
            return faults.out_of_gas(opcode, gas, [word(value) for value in before])
        return words

    def _tell_effect(self, opcode: int, gas: int, cost: int, memory_size: int) -> int:
        """Tell of what an opcode did besides its steps. Gives its cost, which a refused creation hides."""
        operands = self._operands
        assert operands is not None
        session = self.session
        if opcode in opcodes.LOGS:
            session.tracer.log(self.msg.storage_address, operands.topics, operands.input(self))
        elif opcode == opcodes.SELFDESTRUCT:
            address = self.msg.storage_address
            if address not in session.destroyed:
                session.destroyed.add(address)
                self._refund_added += self.state.execution_context.rules.self_destruct_refund
            depth = self.msg.depth + 1
            session.enter(Frame(depth, "SELFDESTRUCT", address, operands.target, b"", 0, operands.value))
            session.tracer.exit(FrameEnd(depth, b"", 0, None, False))
        elif not self._child_entered:
            cost = self._tell_refusal(opcode, operands, gas, cost, memory_size)
        return cost

    def _tell_refusal(self, opcode: int, operands: Operands, gas: int, cost: int, memory_size: int) -> int:
        """A CALL* or CREATE* that began no message; geth tells of one all the same."""
        depth = self.msg.depth + 1
        address = self.msg.storage_address
        words = faults.DEPTH if depth > _CALL_DEPTH_LIMIT else faults.INSUFFICIENT_BALANCE
        given, used = self._given_back, 0
        target = operands.target
        if opcode in opcodes.CREATES:
            target = operands.created_address(self)
            if self.state.get_nonce(address) != operands.nonce:  # it went up: the address was taken
                words = faults.COLLISION
                cost = collision_cost(self, opcode, operands.offset, operands.size, memory_size)
                given = used = gas - cost - self._gas_meter.gas_remaining
            else:
                given = forwarded_at_most(self._opcode_table[opcode], self._gas_meter.gas_remaining)
        value = None if opcode == opcodes.STATICCALL else operands.value
        session = self.session
        session.enter(Frame(depth, opcodes.NAMES[opcode], address, target, operands.input(self), given, value))
        session.tracer.exit(FrameEnd(depth, b"", used, words, True))
        return cost


def _stop_probing(parent: Any, message: Any) -> None:
    """An opcode that is run aside for its cost shall call nobody."""
    if parent is not None and parent._probing:
        raise Probed(message.gas)


def _call_frame(parent: Any, message: Any) -> Frame:
    if parent is None:
        kind, sender, to, value = "CALL", message.sender, message.to, message.value
    else:
        operands = parent._operands
        kind = opcodes.NAMES[parent._opcode]
        sender, to = parent.msg.storage_address, operands.target
        value = None if parent._opcode == opcodes.STATICCALL else message.value
    return Frame(message.depth, kind, sender, to, bytes(message.data), message.gas, value)


def _deployment_fault(error: VMError | None, code: bytes, kept: bytes) -> str | None:
    """Why code that ran well could not become a contract's."""
    if error is None:
        # Before Homestead a contract whose code could not be paid for stays, without code.
        return faults.CODE_STORE_OUT_OF_GAS if code and not kept else None
    if type(error).__name__ == "ReservedBytesInCode":
        return faults.INVALID_CODE
    return faults.MAX_CODE_SIZE if len(code) > faults.MAX_CODE_BYTES else faults.CODE_STORE_OUT_OF_GAS

"""One message call or creation: py-evm's computation with lean parts, for every fork.

A fork's machine is a subclass that names its opcodes, precompiles and the few rules of creation below. What py-evm
does and this does not: what belongs to a whole transaction is reset by depth, not by comparing sender and origin
(with EIP-7702 an account can call while it is the origin); gas for creation code is part of the intrinsic gas; a
computation can be stopped at a deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

from eth.exceptions import InsufficientFunds, OutOfGas, ReservedBytesInCode, StackDepthLimit, VMError
from eth.vm.computation import BaseComputation
from eth.vm.forks.prague.computation import PragueComputation

from openledger.evm_ext.precompiles.ethereum import precompiles_at
from openledger.evm_ext.vm.generated.cache import HotCodes
from openledger.evm_ext.vm.generated.run import run_plain, run_traces, run_until_hot
from openledger.evm_ext.vm.lean.table import opcode_table
from openledger.evm_ext.vm.lean.written import Opcode
from openledger.evm_ext.vm.message import Message
from openledger.evm_ext.vm.parts import Code, GasMeter, Memory, Stack
from openledger.genesis.hardforks import Hardfork

Precompile = Callable[[Any], Any]
Tier = Literal["auto", "plain", "generated"]

DEPTH_LIMIT = 1024
GAS_CODE_DEPOSIT = 200


class Computation(BaseComputation):  # type: ignore[misc]
    """One message call or creation. The class attributes are the rules of a fork; here they are Prague's."""

    opcodes = PragueComputation.opcodes
    _precompiles: Mapping[bytes, Precompile] = precompiles_at(Hardfork.PRAGUE, False)

    max_code_size: ClassVar[int | None] = 24_576
    """EIP-170, from Spurious Dragon."""
    max_init_code: ClassVar[int | None] = 49_152
    """EIP-3860, from Shanghai."""
    counts_creation_nonce: ClassVar[bool] = True
    """A contract begins with nonce 1: EIP-161, from Spurious Dragon."""
    refuses_ef_code: ClassVar[bool] = True
    """EIP-3541, from London."""
    fails_without_code_deposit: ClassVar[bool] = True
    """Too little gas for the code fails the creation: EIP-2, from Homestead. Else the contract stays empty."""
    warms_coinbase: ClassVar[bool] = True
    """EIP-3651, from Shanghai."""

    tier: ClassVar[Tier] = "auto"
    """Which interpreter runs: `auto` is the plain one, and generated code where it is hot; see `with_tier`."""
    is_traced: ClassVar[bool] = False
    """Whether somebody watches the frames: then no shortcut past `apply_message` or `_run` may be taken."""

    _refund_below = 0
    _deletions_below: Sequence[bytes] = ()
    starved_below = False
    """Whether some frame below ran out of gas: more gas may then lead elsewhere."""

    _lean_table: ClassVar[tuple[Opcode, ...]] = opcode_table(PragueComputation.opcodes)
    """What is made of `opcodes`."""
    _opcode_table: ClassVar[tuple[Opcode, ...]] = _lean_table
    """What runs: a machine may put other functions here."""
    _hot_codes: ClassVar[HotCodes]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._hot_codes = HotCodes(cls)
        if "opcodes" in cls.__dict__:
            cls._lean_table = opcode_table(cls.opcodes)
            if "_opcode_table" not in cls.__dict__:
                cls._opcode_table = cls._lean_table

    def __init__(self, state: Any, message: Any, transaction_context: Any) -> None:
        self.state = state
        self.msg = message
        self.transaction_context = transaction_context
        self.code = Code(message.code)
        self._gas_meter = GasMeter(message.gas)
        self._stack = Stack()
        self._memory = Memory()
        self._log_entries: list[tuple[int, bytes, tuple[int, ...], bytes]] = []
        self.children: list[Any] = []
        self.accounts_to_delete: list[bytes] = []
        self.beneficiaries: list[bytes] = []

    def consume_gas(self, amount: int, reason: str) -> None:
        self._gas_meter.consume_gas(amount, reason)

    def prepare_child_message(
        self, gas: int, to: bytes, value: int, data: bytes, code: bytes, **arguments: Any
    ) -> Message:
        arguments.setdefault("sender", self.msg.storage_address)
        return Message(gas, to, value=value, data=data, code=code, depth=self.msg.depth + 1, **arguments)

    # --- frames -----------------------------------------------------------------------------------------

    @classmethod
    def apply_message(cls, state: Any, message: Any, transaction_context: Any, parent_computation: Any = None) -> Any:
        """Move the value and run the code; undone if it fails."""
        snapshot = state.snapshot()
        if message.depth > DEPTH_LIMIT:
            raise StackDepthLimit(f"call depth {message.depth}, at most {DEPTH_LIMIT}")
        value = message.value
        if value and message.should_transfer_value:
            balance = state.get_balance(message.sender)
            if balance < value:
                raise InsufficientFunds(f"0x{message.sender.hex()} has {balance}, sends {value}")
            state.delta_balance(message.sender, -value)
            state.delta_balance(message.storage_address, value)
        state.touch_account(message.storage_address)
        computation = cls.apply_computation(state, message, transaction_context, parent_computation)
        if computation._error is not None:
            state.revert(snapshot)
        return computation

    @classmethod
    def apply_create_message(
        cls, state: Any, message: Any, transaction_context: Any, parent_computation: Any = None
    ) -> Any:
        """Run initialisation code and keep what it returns as the contract's code."""
        snapshot = state.snapshot()
        if cls.counts_creation_nonce:
            state.increment_nonce(message.storage_address)
        if cls.max_init_code is not None and len(message.code) > cls.max_init_code:
            raise OutOfGas(f"initialisation code has {len(message.code)} bytes, at most {cls.max_init_code} (EIP-3860)")
        computation = cls.apply_message(state, message, transaction_context, parent_computation)
        if computation._error is not None:
            state.revert(snapshot)
            return computation
        code = computation.output
        if code:
            try:
                cls.validate_contract_code(code)
                computation.consume_gas(len(code) * GAS_CODE_DEPOSIT, "deposit of the contract's code")
            except VMError as error:
                if cls.fails_without_code_deposit:
                    computation.error = error
                    state.revert(snapshot)
                else:
                    computation.output = b""
            else:
                state.set_code(message.storage_address, code)
        return computation

    @classmethod
    def validate_contract_code(cls, contract_code: bytes) -> None:
        """Raises the error that fails the creation."""
        if cls.max_code_size is not None and len(contract_code) > cls.max_code_size:
            raise OutOfGas(f"code has {len(contract_code)} bytes, at most {cls.max_code_size} (EIP-170)")
        if cls.refuses_ef_code and contract_code[:1] == b"\xef":
            raise ReservedBytesInCode("code must not begin with 0xef (EIP-3541)")

    @classmethod
    def apply_computation(
        cls, state: Any, message: Any, transaction_context: Any, parent_computation: Any = None
    ) -> Any:
        """Run a message's code or precompile; the error of a failed frame is in the computation."""
        computation = cls(state, message, transaction_context)
        if parent_computation is None:
            computation.contracts_created = []
            if cls.warms_coinbase:
                state.mark_address_warm(state.coinbase)
        else:
            computation.contracts_created = parent_computation.contracts_created
        if message.is_create:
            computation.contracts_created.append(message.storage_address)
        precompile = cls._precompiles.get(message.code_address)
        try:
            if precompile is None:
                if message.code:
                    computation._run()
            elif not message.is_delegation:
                precompile(computation)
        except VMError as error:
            computation._fail(error)
        return computation

    def _fail(self, error: VMError) -> None:
        # Without its traceback, which would keep every frame of the call alive.
        self._error = error.with_traceback(None)
        if error.burns_gas:
            self._gas_meter.gas_remaining = 0
        if error.erases_return_data:
            self.return_data = b""

    # --- what it did --------------------------------------------------------------------------------------

    def get_gas_remaining(self) -> int:
        error = self._error
        remaining: int = self._gas_meter.gas_remaining
        return remaining if error is None or not error.burns_gas else 0

    @property
    def output(self) -> bytes:
        """What the frame returned, or what it reverted with."""
        error = self._error
        return self._output if error is None or not error.erases_return_data else b""

    @output.setter
    def output(self, value: bytes) -> None:
        self._output = value

    def get_gas_refund(self) -> int:
        """Gas earned back by this frame and those below; a failed frame keeps what the message came with."""
        refund: int = self.msg.refund
        return refund if self._error is not None else refund + self._gas_meter.gas_refunded + self._refund_below

    def get_accounts_for_deletion(self) -> list[bytes]:
        """Contracts that destroyed themselves in frames that lasted."""
        if self._error is not None or not (self.accounts_to_delete or self._deletions_below):
            return []
        return list({*self.accounts_to_delete, *self._deletions_below})

    def get_raw_log_entries(self) -> tuple[tuple[int, bytes, tuple[int, ...], bytes], ...]:
        """Logs of frames that lasted, each with its place in the transaction, in order."""
        return () if self._error is not None else tuple(self._log_entries)

    def absorb(self, child: Computation) -> None:
        """Take over what a finished child leaves; the child itself is not kept: a transaction can make a million."""
        error = child._error
        self.return_data = child.output
        if error is None:
            # The child ended after all that is logged here, and before all that will be.
            if child._log_entries:
                self._log_entries += child._log_entries
            self._refund_below += child._gas_meter.gas_refunded + child._refund_below
            if child.accounts_to_delete or child._deletions_below:
                self._deletions_below = [*self._deletions_below, *child.accounts_to_delete, *child._deletions_below]
        if child.starved_below or isinstance(error, OutOfGas):
            self.starved_below = True

    def add_child_computation(self, child_computation: Computation) -> None:
        """As py-evm's opcodes ask for it."""
        self.absorb(child_computation)
        if child_computation.msg.is_create and child_computation._error is None:
            self.return_data = b""

    # --- the interpreter --------------------------------------------------------------------------------

    def _run(self) -> None:
        """Execute the frame's code from its program counter. The only place where a tier is chosen."""
        if self.tier == "plain":
            run_plain(self)
            return
        raw = self.code._raw_code_bytes
        hot = self._hot_codes.once(raw) if self.msg.is_create else self._hot_codes.of(raw)
        if self.tier == "generated":
            run_traces(self, hot, True)
        else:
            run_until_hot(self, hot)


Computation._hot_codes = HotCodes(Computation)


@lru_cache(maxsize=256)
def with_tier(machine: type[Computation], tier: Tier) -> type[Computation]:
    """The machine with its interpreter fixed: `plain` never runs generated code; `generated` compiles everything at
    its first entry. Calls made inside run in the same class. For tests that hold the tiers against each other."""
    return type(f"{machine.__name__}_{tier}", (machine,), {"tier": tier})

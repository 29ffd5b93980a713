"""py-evm's Prague computation with its faults mended, and the precompiles of our chain in it.

Mended: what belongs to a whole transaction is reset by depth, not by comparing sender and origin (with
EIP-7702 an account can call while it is the origin); gas for creation code is part of the intrinsic gas;
a computation can be stopped at a deadline; the loop looks opcodes up in a table, and jumps in an analysis that is
made once per code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import repeat
from typing import Any

from eth.exceptions import Halt, OutOfGas
from eth.vm.code_stream import CodeStream
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.logic.invalid import InvalidOpcode

from openledger.evm_ext.errors import CallTimeout
from openledger.evm_ext.precompiles.ethereum import precompiles_at
from openledger.evm_ext.vm.stack_opcodes import stack_opcodes
from openledger.genesis import predeploys
from openledger.genesis.hardforks import Hardfork
from openledger.genesis.parameters import ForkSchedule

Precompile = Callable[[Any], Any]

_STEPS_BETWEEN_CLOCK_LOOKS = 2048
_STACK_OPCODES = stack_opcodes()


class _GasMeter:
    """py-evm's gas meter without its logging: it is the most called object of the interpreter."""

    __slots__ = ("gas_refunded", "gas_remaining", "start_gas")

    def __init__(self, start_gas: int) -> None:
        self.start_gas = start_gas
        self.gas_remaining = start_gas
        self.gas_refunded = 0

    def consume_gas(self, amount: int, reason: str) -> None:
        if amount > self.gas_remaining:
            raise OutOfGas(f"out of gas: {reason} needs {amount}, {self.gas_remaining} remain")
        self.gas_remaining -= amount

    def return_gas(self, amount: int) -> None:
        self.gas_remaining += amount

    def refund_gas(self, amount: int) -> None:
        self.gas_refunded += amount


@lru_cache(maxsize=512)
def _push_data(code: bytes) -> bytes:
    """1 at every position that is data of a PUSH, 0 elsewhere."""
    marks = bytearray(len(code) + 32)
    position = 0
    length = len(code)
    while position < length:
        size = code[position] - 0x5F
        if 0 < size <= 32:
            marks[position + 1 : position + 1 + size] = b"\x01" * size
            position += size
        position += 1
    return bytes(marks[:length])


class _CodeStream(CodeStream):  # type: ignore[misc]
    """py-evm's code stream whose jump checks are looked up: code is analysed once, not once per call."""

    __slots__ = ("_analysis",)

    def __init__(self, code: bytes) -> None:
        super().__init__(code)
        self._analysis: bytes | None = None

    def is_valid_opcode(self, position: int) -> bool:
        if position >= self._length_cache:
            return False
        if self._analysis is None:
            self._analysis = _push_data(self._raw_code_bytes)
        return not self._analysis[position]


class Computation(PragueComputation):  # type: ignore[misc]
    """One message call or creation under Prague rules."""

    _opcode_table = tuple(
        _STACK_OPCODES.get(value) or PragueComputation.opcodes.get(value) or InvalidOpcode(value)
        for value in range(256)
    )

    def __init__(self, state: Any, message: Any, transaction_context: Any) -> None:
        super().__init__(state, message, transaction_context)
        self.code = _CodeStream(message.code)

    def _configure_gas_meter(self) -> _GasMeter:
        return _GasMeter(self.msg.gas)

    def consume_gas(self, amount: int, reason: str) -> None:
        self._gas_meter.consume_gas(amount, reason)

    @classmethod
    def apply_computation(
        cls,
        state: Any,
        message: Any,
        transaction_context: Any,
        parent_computation: Any = None,
    ) -> Any:
        with cls(state, message, transaction_context) as computation:
            if parent_computation is None:
                computation.contracts_created = []
            else:
                computation.contracts_created = parent_computation.contracts_created
            if message.is_create:
                computation.contracts_created.append(message.storage_address)
            precompile = cls._precompiles.get(message.code_address)
            if precompile is not None:
                if not message.is_delegation:
                    precompile(computation)
                return computation
            if message.code:
                computation._run()
        return computation

    def _run(self) -> None:
        code = self.code
        raw = code._raw_code_bytes
        length = len(raw)
        table = self._opcode_table
        deadline = self.state.deadline
        try:
            while True:
                for _ in repeat(None, _STEPS_BETWEEN_CLOCK_LOOKS):
                    position = code.program_counter
                    code.program_counter = position + 1
                    table[raw[position] if position < length else 0](self)
                if deadline is not None and time.monotonic() > deadline:
                    raise CallTimeout("execution aborted: the call took longer than its time limit")
        except Halt:
            pass


# The fork in the genesis schedule that switches each precompile of ours on.
_FORK_OF_PRECOMPILE = {
    predeploys.CREDIT: "credit",
    predeploys.SPANS: "spans",
    predeploys.SCORES: "scores",
    predeploys.STEP: "step",
    predeploys.BN254_KZG: "bn254_kzg",
}


class EthereumComputation(Computation):
    """Plain Prague."""

    _precompiles: Mapping[bytes, Precompile] = precompiles_at(Hardfork.PRAGUE, False)


def op_computation(forks: ForkSchedule, timestamp: int) -> type[Computation]:
    """The computation of an OP chain's block with this timestamp: Isthmus, and what of ours is active."""
    return _op_computation(
        tuple(address for address, fork in sorted(_FORK_OF_PRECOMPILE.items()) if forks.active(fork, timestamp))
    )


@lru_cache(maxsize=32)
def _op_computation(active: tuple[bytes, ...]) -> type[Computation]:
    from openledger.evm_ext.precompiles import PRECOMPILES

    merged = {
        **precompiles_at(Hardfork.PRAGUE, True),
        **{address: PRECOMPILES[address] for address in active if address in PRECOMPILES},
    }
    return type("OpComputation", (Computation,), {"_precompiles": merged})

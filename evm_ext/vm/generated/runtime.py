"""What generated code calls, and the names it knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth.exceptions import InvalidJumpDestination, OutOfGas, Revert

from openledger.evm_ext.vm.lean import words
from openledger.evm_ext.vm.lean.memory import copy_inside, copy_into, grow
from openledger.genesis.hashing import keccak256, keccak256_of_short

HALTED = -(1 << 40)
"""The place a trace gives when the frame ended well."""


def out_of_gas(gas: int) -> None:
    """Gas that was taken before it was known to be there."""
    raise OutOfGas(f"out of gas: {-gas} missing")


def invalid_jump(destination: int) -> None:
    raise InvalidJumpDestination(f"no JUMPDEST at {destination}")


def revert(computation: Any, output: bytes) -> None:
    computation._output = output
    raise Revert(output)


NAMES: Mapping[str, Any] = {
    "word": int.from_bytes,
    "keccak": keccak256,
    "keccak_short": keccak256_of_short,
    "grow": grow,
    "copy_into": copy_into,
    "copy_inside": copy_inside,
    "out_of_gas": out_of_gas,
    "invalid_jump": invalid_jump,
    "revert": revert,
    "signed_divide": words.signed_divide,
    "signed_remainder": words.signed_remainder,
    "sign_extend": words.sign_extend,
    "shift_right_signed": words.shift_right_signed,
    "byte_of": words.byte_of,
}

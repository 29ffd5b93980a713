"""Why a message failed, in geth's words. Source: go-ethereum core/vm/errors.go (the texts are what clients match)."""

from __future__ import annotations

from collections.abc import Sequence

from eth.exceptions import VMError

from openledger.evm_ext.tracing.opcodes import CREATES, MEMORY_OPERANDS, NAMES, SSTORE, TSTORE

OUT_OF_GAS = "out of gas"
REVERTED = "execution reverted"
GAS_OVERFLOW = "gas uint64 overflow"
CODE_STORE_OUT_OF_GAS = "contract creation code storage out of gas"
MAX_CODE_SIZE = "max code size exceeded"
INVALID_CODE = "invalid code: must not begin with 0xef"
DEPTH = "max call depth exceeded"
INSUFFICIENT_BALANCE = "insufficient balance for transfer"
WRITE_PROTECTION = "write protection"
WRITE_PROTECTION_FOUND_EARLY = f"{OUT_OF_GAS}: {WRITE_PROTECTION}"
"""geth looks for it while it works out the gas of an opcode whose gas depends on anything."""
COLLISION = "contract address collision"
SENTRY = "out of gas: not enough gas for reentrancy sentry"

_WORDS = {
    "Revert": REVERTED,
    "OutOfGas": OUT_OF_GAS,
    "InvalidJumpDestination": "invalid jump destination",
    "OutOfBoundsRead": "return data out of bounds",
    "ContractCreationCollision": COLLISION,
    "StackDepthLimit": DEPTH,
    "InsufficientFunds": INSUFFICIENT_BALANCE,
    "ReservedBytesInCode": INVALID_CODE,
}
# What our precompiles say, and geth's; of inputs that only OP chains refuse, op-geth's. The first that fits counts.
_TOO_LONG = "are taken"
_PRECOMPILE_WORDS = (
    ("ECPAIRING: ", _TOO_LONG, "bad elliptic curve pairing input size"),
    ("BLS12_G1MSM: ", _TOO_LONG, "g1 msm input size exceeds maximum"),
    ("BLS12_G2MSM: ", _TOO_LONG, "g2 msm input size exceeds maximum"),
    ("BLS12_PAIRING_CHECK: ", _TOO_LONG, "pairing input size exceeds maximum"),
    ("ECPAIRING: ", "", "bad elliptic curve pairing size"),
    ("bytes of input", "", "invalid input length"),
    ("BLAKE2F: final flag", "", "invalid final flag"),
    ("the versioned hash is not the commitment's", "", "mismatched versioned hash"),
    ("POINT_EVALUATION: ", "", "error verifying kzg proof"),
    ("BN254: ", "", "bn256: malformed point"),
)
MAX_CODE_BYTES = 24_576
_MAX_INIT_CODE_BYTES = 49_152
_SSTORE_SENTRY = 2_300
_CREATE_SIZE_PLACE = 2
_MAX_UINT64 = (1 << 64) - 1
_MAX_MEMORY = 0x1FFFFFFFE0
"""The size whose gas still fits 64 bits; geth refuses a larger memory without computing it."""


def describe(error: VMError, opcode: int | None = None) -> str:
    """geth's words for a failure. `opcode` is what ran last."""
    kind = type(error).__name__
    if kind == "InvalidInstruction":
        return f"invalid opcode: {NAMES[opcode] if opcode is not None else 'unknown'}"
    if kind == "WriteProtection":
        return WRITE_PROTECTION if opcode == TSTORE else WRITE_PROTECTION_FOUND_EARLY
    words = _WORDS.get(kind)
    if words is None:
        text = str(error)
        fitting = (geths for name, what, geths in _PRECOMPILE_WORDS if name in text and what in text)
        words = next(fitting, text or kind)
    return words


def memory_overflow(opcode: int, stack: Sequence[int]) -> str | None:
    """The words for memory operands that no gas could pay for, None for operands that gas decides on."""
    for offset_place, size_place in MEMORY_OPERANDS.get(opcode, ()):
        size = 32 if size_place is None else stack[-1 - size_place]
        if size == 0:
            continue
        end = stack[-1 - offset_place] + size
        if end > _MAX_UINT64:
            return GAS_OVERFLOW
        if end > _MAX_MEMORY:
            return f"{OUT_OF_GAS}: {GAS_OVERFLOW}"
    return None


def out_of_gas(opcode: int, gas: int, stack: Sequence[int]) -> str:
    """The words for an opcode that could not be paid for."""
    overflow = memory_overflow(opcode, stack)
    if overflow is not None:
        return overflow
    if opcode == SSTORE and gas <= _SSTORE_SENTRY:
        return SENTRY
    if opcode in CREATES and stack[-1 - _CREATE_SIZE_PLACE] > _MAX_INIT_CODE_BYTES:
        return f"{OUT_OF_GAS}: max initcode size exceeded: size {stack[-1 - _CREATE_SIZE_PLACE]}"
    return OUT_OF_GAS

"""Gas that a transaction costs before its first opcode, and the least it pays for its calldata.

Sources: Yellow Paper 6.2, EIP-2, 2028, 2930, 3860, 7623, 7702.
"""

from __future__ import annotations

from typing import Protocol

from openledger.evm_ext.errors import FloorGasTooLow, IntrinsicGasTooLow
from openledger.evm_ext.transactions import AccessList, Authorization, Transaction
from openledger.evm_ext.vm.rules import BlockRules

GAS_TRANSACTION = 21_000
GAS_ZERO_BYTE = 4
GAS_ACCESS_LIST_ADDRESS = 2_400
GAS_ACCESS_LIST_SLOT = 1_900
GAS_INIT_CODE_WORD = 2
GAS_PER_EMPTY_ACCOUNT = 25_000
GAS_PER_AUTHORIZATION = 12_500
GAS_FLOOR_PER_TOKEN = 10


class Charged(Protocol):
    """What of a transaction, or of a message that is tried, gas is charged for."""

    @property
    def to(self) -> bytes | None: ...
    @property
    def data(self) -> bytes: ...
    @property
    def access_list(self) -> AccessList: ...
    @property
    def authorization_list(self) -> tuple[Authorization, ...]: ...


def intrinsic_gas(transaction: Charged, rules: BlockRules) -> int:
    """Gas that is charged before the first opcode."""
    data = transaction.data
    gas = GAS_TRANSACTION
    if data:
        zeros = data.count(0)
        gas += GAS_ZERO_BYTE * zeros + rules.nonzero_byte_gas * (len(data) - zeros)
    if transaction.to is None:
        gas += rules.creation_gas
        if rules.limits_init_code:
            gas += GAS_INIT_CODE_WORD * ((len(data) + 31) // 32)
    for _, slots in transaction.access_list:
        gas += GAS_ACCESS_LIST_ADDRESS + GAS_ACCESS_LIST_SLOT * len(slots)
    return gas + GAS_PER_EMPTY_ACCOUNT * len(transaction.authorization_list)


def floor_gas(data: bytes, rules: BlockRules) -> int:
    """The least gas that a transaction with this calldata uses (EIP-7623); 0 before Prague."""
    if not rules.has_calldata_floor:
        return 0
    if not data:
        return GAS_TRANSACTION
    zeros = data.count(0)
    return GAS_TRANSACTION + GAS_FLOOR_PER_TOKEN * (zeros + 4 * (len(data) - zeros))


def validate_intrinsic_gas(transaction: Transaction, rules: BlockRules) -> int:
    """The intrinsic gas; raises `IntrinsicGasTooLow` or `FloorGasTooLow` if the gas limit is below."""
    needed = intrinsic_gas(transaction, rules)
    if transaction.gas < needed:
        raise IntrinsicGasTooLow(f"intrinsic gas too low: have {transaction.gas}, want {needed}")
    floor = floor_gas(transaction.data, rules)
    if transaction.gas < floor:
        raise FloorGasTooLow(f"insufficient gas for floor data gas cost: have {transaction.gas}, want {floor}")
    return needed

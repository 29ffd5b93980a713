"""What a transaction or a block pays: base fee, blob fee, the L1 data fee and the operator fee.

Pure functions over integers. Sources: EIP-1559, EIP-4844, EIP-7691; OP-Stack specification, Fjord
(L1 fee), Holocene (base fee parameters) and Isthmus (operator fee).
"""

from __future__ import annotations

from dataclasses import dataclass

from openledger.genesis.hardforks import BlobParameters

# --- base fee -----------------------------------------------------------------------------------------

ETHEREUM_DENOMINATOR = 8
ETHEREUM_ELASTICITY = 2
CANYON_DENOMINATOR = 250
OP_ELASTICITY = 6


def next_base_fee(
    parent_base_fee: int, parent_gas_used: int, parent_gas_limit: int, denominator: int, elasticity: int
) -> int:
    """The base fee in wei of the block after a parent (EIP-1559). `elasticity` and `denominator` above 0."""
    target = parent_gas_limit // elasticity
    if parent_gas_used == target or target == 0:
        return parent_base_fee
    if parent_gas_used > target:
        change = parent_base_fee * (parent_gas_used - target) // target // denominator
        return parent_base_fee + max(1, change)
    change = parent_base_fee * (target - parent_gas_used) // target // denominator
    return max(0, parent_base_fee - change)


# --- blobs --------------------------------------------------------------------------------------------

GAS_PER_BLOB = 2**17
PRAGUE_TARGET_BLOB_GAS = 6 * GAS_PER_BLOB
PRAGUE_MAX_BLOB_GAS = 9 * GAS_PER_BLOB
PRAGUE_BLOB_UPDATE_FRACTION = 5_007_716


def fake_exponential(factor: int, numerator: int, denominator: int) -> int:
    """factor * e ** (numerator / denominator) by Taylor expansion, as EIP-4844 writes it."""
    i = 1
    output = 0
    accumulator = factor * denominator
    while accumulator > 0:
        output += accumulator
        accumulator = accumulator * numerator // (denominator * i)
        i += 1
    return output // denominator


def blob_base_fee(excess_blob_gas: int, update_fraction: int = PRAGUE_BLOB_UPDATE_FRACTION) -> int:
    """Wei per blob gas in a block with this header field (EIP-4844, EIP-7691)."""
    return fake_exponential(1, excess_blob_gas, update_fraction)


BLOB_BASE_COST = 2**13
"""EIP-7918: the gas of execution that a blob's price may not fall below, per blob gas of 2**17."""


def next_excess_blob_gas_with_floor(
    parent_excess_blob_gas: int, parent_blob_gas_used: int, parent_base_fee: int, blobs: BlobParameters
) -> int:
    """The excessBlobGas of the block after a parent since Osaka: while blobs cost less than the execution they are
    worth, it only rises (EIP-7918). `blobs` are the new block's."""
    target = blobs.target * GAS_PER_BLOB
    if parent_excess_blob_gas + parent_blob_gas_used < target:
        return 0
    price = blob_base_fee(parent_excess_blob_gas, blobs.base_fee_update_fraction)
    if BLOB_BASE_COST * parent_base_fee > GAS_PER_BLOB * price:
        return parent_excess_blob_gas + parent_blob_gas_used * (blobs.max - blobs.target) // blobs.max
    return parent_excess_blob_gas + parent_blob_gas_used - target


def next_excess_blob_gas(
    parent_excess_blob_gas: int, parent_blob_gas_used: int, target: int = PRAGUE_TARGET_BLOB_GAS
) -> int:
    """The excessBlobGas of the block after a parent (EIP-4844)."""
    return max(0, parent_excess_blob_gas + parent_blob_gas_used - target)


# --- OP-Stack -----------------------------------------------------------------------------------------

L1_BASE_FEE_SLOT = 1
L1_SCALARS_SLOT = 3
L1_BLOB_BASE_FEE_SLOT = 7
OPERATOR_FEE_SLOT = 8

_FJORD_COEFFICIENT = 836_500
_FJORD_INTERCEPT = 42_585_600
_FJORD_MINIMUM = 100 * 10**6
_FJORD_DIVISOR = 10**12
_ECOTONE_DIVISOR = 16 * 10**6
_OPERATOR_FEE_DIVISOR = 10**6


@dataclass(frozen=True)
class L1FeeParameters:
    """What the L1Block predeploy says about fees; wei, and scalars in millionths."""

    base_fee: int
    blob_base_fee: int
    base_fee_scalar: int
    blob_base_fee_scalar: int
    operator_fee_scalar: int
    operator_fee_constant: int

    @classmethod
    def from_slots(cls, base_fee: int, scalars: int, blob_base_fee: int, operator: int) -> L1FeeParameters:
        """From the predeploy's storage words 1, 3, 7 and 8."""
        packed = scalars.to_bytes(32, "big")
        operator_word = operator.to_bytes(32, "big")
        return cls(
            base_fee=base_fee,
            blob_base_fee=blob_base_fee,
            base_fee_scalar=int.from_bytes(packed[16:20], "big"),
            blob_base_fee_scalar=int.from_bytes(packed[20:24], "big"),
            operator_fee_scalar=int.from_bytes(operator_word[20:24], "big"),
            operator_fee_constant=int.from_bytes(operator_word[24:32], "big"),
        )

    def l1_fee(self, flz_size: int) -> int:
        """Wei for posting a transaction whose encoding is `flz_size` bytes after FastLZ (Fjord)."""
        price = 16 * self.base_fee_scalar * self.base_fee + self.blob_base_fee_scalar * self.blob_base_fee
        return estimated_size_scaled(flz_size) * price // _FJORD_DIVISOR

    def ecotone_l1_fee(self, raw: bytes) -> int:
        """Wei for posting a transaction with this encoding, by its calldata gas (Ecotone, until Fjord)."""
        zeros = raw.count(0)
        gas = 4 * zeros + 16 * (len(raw) - zeros)
        price = 16 * self.base_fee_scalar * self.base_fee + self.blob_base_fee_scalar * self.blob_base_fee
        return gas * price // _ECOTONE_DIVISOR

    def operator_fee(self, gas: int) -> int:
        """Wei for the operator (Isthmus), saturating at 2**256 - 1."""
        fee = gas * self.operator_fee_scalar // _OPERATOR_FEE_DIVISOR + self.operator_fee_constant
        return min(fee, 2**256 - 1)


def estimated_size_scaled(flz_size: int) -> int:
    """Estimated compressed size of a transaction in millionths of a byte (Fjord)."""
    return max(_FJORD_MINIMUM, _FJORD_COEFFICIENT * flz_size - _FJORD_INTERCEPT)


def l1_gas_used(flz_size: int) -> int:
    """The receipt's l1GasUsed since Fjord: 16 gas per estimated byte."""
    return estimated_size_scaled(flz_size) * 16 // 10**6


def flz_compress_len(data: bytes) -> int:
    """Length of `data` after FastLZ level 1 compression, without compressing (OP-Stack, Fjord).

    Consensus depends on the exact result: an 8,192-entry table of the last position of each hashed
    three-byte group, matches at most 8,191 bytes back, the last 13 bytes never start a match."""
    size = len(data)
    limit = size - 13
    table: dict[int, int] = {}
    get = table.get
    length = 0
    anchor = 0
    position = 2
    while position < limit:
        while True:
            group = data[position] | data[position + 1] << 8 | data[position + 2] << 16
            slot = (2654435769 * group >> 19) & 0x1FFF
            reference = get(slot, 0)
            table[slot] = position
            if position >= limit:
                break
            position += 1
            if (
                position - 1 - reference <= 0x1FFF
                and data[reference : reference + 3] == data[position - 1 : position + 2]
            ):
                break
        if position >= limit:
            break
        position -= 1
        if position > anchor:
            length += _literals(position - anchor)
        reference += 3
        cursor = position + 3
        end = size - 4
        matched = 0
        while cursor + matched < end:
            # The terminating byte counts, as in the reference: the loop ends after it has looked at it.
            matched += 1
            if data[reference + matched - 1] != data[cursor + matched - 1]:
                break
        rest = matched - 1
        length += 3 * (rest // 262) + (3 if rest % 262 >= 6 else 2)
        position += matched
        for _ in range(2):
            group = data[position] | data[position + 1] << 8 | data[position + 2] << 16
            table[(2654435769 * group >> 19) & 0x1FFF] = position
            position += 1
        anchor = position
    return length + _literals(size - anchor)


def _literals(count: int) -> int:
    full, rest = divmod(count, 32)
    return 33 * full + (rest + 1 if rest else 0)

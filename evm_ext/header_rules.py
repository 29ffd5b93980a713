"""What a header has to be, given its parent: everything that needs no execution.

Sources: execution-specs (header validity), Yellow Paper 4.3.4, EIP-1559, 3675, 4844, 4895, 7691, 7918; OP-Stack
specification, Holocene (base fee parameters in extraData) and exec-engine.
"""

from __future__ import annotations

from openledger.evm_ext import errors
from openledger.evm_ext.block import EMPTY_UNCLES_HASH, HEADER_FIELDS, Header
from openledger.evm_ext.fees import (
    GAS_PER_BLOB,
    next_base_fee,
    next_excess_blob_gas,
    next_excess_blob_gas_with_floor,
)
from openledger.evm_ext.proof_of_work import difficulty_after, validate_dao_extra_data
from openledger.evm_ext.vm.rules import ETHEREUM_EXTRA_DATA_BYTES, BlockRules, Rules
from openledger.genesis.genesis import INITIAL_BASE_FEE_WEI
from openledger.genesis.hardforks import Hardfork

GAS_LIMIT_QUOTIENT = 1024
MINIMUM_GAS_LIMIT = 5_000
MAXIMUM_GAS_LIMIT = (1 << 63) - 1


def child_base_fee(rules: Rules, parent: Header, child: BlockRules | None = None) -> int:
    """The base fee in wei of a block on `parent`, 0 before London; on an OP chain, by the parameters in the parent's
    extraData. `child` are the new block's rules, if they are known to be others than `Rules.after` gives."""
    if rules.of(parent).has_fee_parameters:
        denominator, elasticity = decode_fee_parameters(parent.extra_data[1:9])
        return next_base_fee(parent.base_fee_per_gas, parent.gas_used, parent.gas_limit, denominator, elasticity)
    if not (child or rules.after(parent)).has_base_fee:
        return 0
    if not rules.of(parent).has_base_fee:
        return INITIAL_BASE_FEE_WEI
    return next_base_fee(
        parent.base_fee_per_gas, parent.gas_used, parent.gas_limit, rules.denominator, rules.elasticity
    )


def child_excess_blob_gas(rules: Rules, parent: Header, child: BlockRules | None = None) -> int:
    """The excessBlobGas of a block on `parent`, 0 before Cancun and on an OP chain; `child` as in `child_base_fee`."""
    child = child or rules.after(parent)
    if rules.is_op or not child.has_beacon_root:
        return 0
    if child.fork >= Hardfork.OSAKA:
        return next_excess_blob_gas_with_floor(
            parent.excess_blob_gas, parent.blob_gas_used, parent.base_fee_per_gas, child.blobs
        )
    return next_excess_blob_gas(parent.excess_blob_gas, parent.blob_gas_used, child.blobs.target * GAS_PER_BLOB)


def child_gas_limit(rules: Rules, parent: Header, child: BlockRules) -> int:
    """The gas limit that leaves things as they are: the parent's, doubled where its target becomes the half (London)."""
    if not rules.is_op and child.has_base_fee and not rules.of(parent).has_base_fee:
        return parent.gas_limit * rules.elasticity
    return parent.gas_limit


def decode_fee_parameters(encoded: bytes) -> tuple[int, int]:
    """(denominator, elasticity) of the eight bytes in eip1559Params and extraData (Holocene)."""
    return int.from_bytes(encoded[:4], "big"), int.from_bytes(encoded[4:8], "big")


def check(field: str, actual: object, expected: object) -> None:
    """Raises `HeaderFieldMismatch` unless both are equal."""
    if actual != expected:
        raise errors.HeaderFieldMismatch(field, actual, expected)


def validate_header(rules: Rules, parent: Header, header: Header) -> BlockRules:
    """The rules of the block with this header. Raises `HeaderFieldMismatch` for the first field that breaks one."""
    block_rules = rules.of(header)
    check("parent_hash", header.parent_hash, parent.hash)
    check("number", header.number, parent.number + 1)
    _check_form(block_rules, header)
    if header.timestamp <= parent.timestamp:
        raise errors.HeaderFieldMismatch("timestamp", header.timestamp, f"more than {parent.timestamp}")
    _check_seal(rules, block_rules, parent, header)
    _check_gas_limit(rules, header.gas_limit, child_gas_limit(rules, parent, block_rules))
    if header.gas_used > header.gas_limit:
        raise errors.HeaderFieldMismatch("gas_used", header.gas_used, f"at most {header.gas_limit}")
    _check_extra_data(block_rules, header)
    check("base_fee_per_gas", header.base_fee_per_gas, child_base_fee(rules, parent, block_rules))
    check("excess_blob_gas", header.excess_blob_gas, child_excess_blob_gas(rules, parent, block_rules))
    return block_rules


def _check_form(rules: BlockRules, header: Header) -> None:
    """Under each fork a header has exactly its fields."""
    if header.form == rules.header_form:
        return
    if header.form < rules.header_form:
        raise errors.HeaderFieldMismatch(
            HEADER_FIELDS[header.form], "missing", f"there, as in every block under {rules.fork.name}"
        )
    raise errors.HeaderFieldMismatch(
        HEADER_FIELDS[rules.header_form], "there", f"not there, as in every block under {rules.fork.name}"
    )


def _check_seal(rules: Rules, block_rules: BlockRules, parent: Header, header: Header) -> None:
    if block_rules.is_proof_of_stake:
        if (
            rules.hardforks.terminal_total_difficulty is None
            and header.difficulty == 0
            and not rules.hardforks.surely_merged(header.number, header.timestamp)
        ):
            raise errors.HeaderFieldMismatch("difficulty", 0, "above 0: no merge is scheduled on this chain")
        check("difficulty", header.difficulty, 0)
        check("nonce", header.nonce, bytes(8))
        check("uncles_hash", header.uncles_hash, EMPTY_UNCLES_HASH)
        return
    if parent.number > 0 and parent.difficulty == 0:
        raise errors.HeaderFieldMismatch("difficulty", header.difficulty, "0 after a block of proof of stake")
    check("difficulty", header.difficulty, difficulty_after(block_rules, parent, header.timestamp))
    schedule = rules.hardforks
    validate_dao_extra_data(schedule.dao_fork_block, schedule.dao_fork_support, header)


def _check_gas_limit(rules: Rules, gas_limit: int, before: int) -> None:
    """On an OP chain L1 sets it; elsewhere it moves by less than 1/1024 a block."""
    if not MINIMUM_GAS_LIMIT <= gas_limit <= MAXIMUM_GAS_LIMIT:
        raise errors.HeaderFieldMismatch("gas_limit", gas_limit, f"{MINIMUM_GAS_LIMIT} to {MAXIMUM_GAS_LIMIT}")
    if not rules.is_op and abs(gas_limit - before) >= max(before // GAS_LIMIT_QUOTIENT, 1):
        raise errors.HeaderFieldMismatch("gas_limit", gas_limit, f"within 1/1024 of {before}")


def _check_extra_data(rules: BlockRules, header: Header) -> None:
    extra_data = header.extra_data
    if rules.has_fee_parameters:
        denominator, elasticity = decode_fee_parameters(extra_data[1:9])
        if len(extra_data) != 9 or extra_data[0] != 0 or not denominator or not elasticity:
            raise errors.HeaderFieldMismatch(
                "extra_data", extra_data, "9 bytes: 00, denominator and elasticity, neither zero"
            )
    elif len(extra_data) > ETHEREUM_EXTRA_DATA_BYTES:
        raise errors.HeaderFieldMismatch("extra_data", extra_data, f"at most {ETHEREUM_EXTRA_DATA_BYTES} bytes")

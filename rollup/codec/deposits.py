"""Deposits: what the L1 portal's log says must happen on L2 (OP-Stack deposits.md).

    TransactionDeposited(address indexed from, address indexed to, uint256 indexed version, bytes opaqueData)
    version 0: mint u256 | value u256 | gas u64 | isCreation u8 | data

L2 executes it as a deposit transaction, type 0x7E (`openledger.evm_ext.transactions.DepositTransaction`).
"""

from collections.abc import Iterable

from openledger.evm_ext.receipts import Log
from openledger.evm_ext.transactions import DepositTransaction
from openledger.genesis.hashing import keccak256
from openledger.rollup.codec.abi_bytes import InvalidAbi, read_single_bytes

TRANSACTION_DEPOSITED_TOPIC = keccak256(b"TransactionDeposited(address,address,uint256,bytes)")

USER_DEPOSIT_DOMAIN = 0
L1_INFO_DOMAIN = 1
UPGRADE_DOMAIN = 2

ALIAS_OFFSET = 0x1111000000000000000000000000000000001111
OPAQUE_HEADER_SIZE = 32 + 32 + 8 + 1


class InvalidDeposit(ValueError):
    """A log of the portal that is no deposit, which a portal never emits; derivation cannot go on past it."""


def user_source_hash(l1_block_hash: bytes, log_index: int) -> bytes:
    """Source hash of a user deposit; `log_index` counts through the whole L1 block."""
    return _source_hash(USER_DEPOSIT_DOMAIN, l1_block_hash + log_index.to_bytes(32, "big"))


def l1_info_source_hash(l1_block_hash: bytes, sequence_number: int) -> bytes:
    """Source hash of the L1 attributes deposit of the L2 block at `sequence_number` in its epoch."""
    return _source_hash(L1_INFO_DOMAIN, l1_block_hash + sequence_number.to_bytes(32, "big"))


def upgrade_source_hash(intent: str) -> bytes:
    """Source hash of a network upgrade's deposit, named by its intent."""
    return keccak256(UPGRADE_DOMAIN.to_bytes(32, "big") + keccak256(intent.encode()))


def _source_hash(domain: int, identity: bytes) -> bytes:
    return keccak256(domain.to_bytes(32, "big") + keccak256(identity))


def apply_alias(address: bytes) -> bytes:
    """The address under which an L1 contract acts on L2."""
    return ((int.from_bytes(address, "big") + ALIAS_OFFSET) % (1 << 160)).to_bytes(20, "big")


def deposit_from_log(log: Log, l1_block_hash: bytes, log_index: int) -> DepositTransaction:
    """The deposit of one TransactionDeposited log; raises `InvalidDeposit` if it is not of version 0's form."""
    if len(log.topics) != 4:
        raise InvalidDeposit(f"deposit log has {len(log.topics)} topics, not 4")
    if log.topics[0] != TRANSACTION_DEPOSITED_TOPIC:
        raise InvalidDeposit(f"log topic {log.topics[0].hex()} is not TransactionDeposited")
    sender, to, version = log.topics[1], log.topics[2], int.from_bytes(log.topics[3], "big")
    if any(sender[:12]) or any(to[:12]):
        raise InvalidDeposit("deposit log names an address with more than 20 bytes")
    if version != 0:
        raise InvalidDeposit(f"unknown deposit version {version}")
    try:
        opaque = read_single_bytes(log.data)
    except InvalidAbi as error:
        raise InvalidDeposit(f"deposit log data: {error}") from error
    if len(opaque) < OPAQUE_HEADER_SIZE:
        raise InvalidDeposit(f"opaque data has {len(opaque)} bytes, at least {OPAQUE_HEADER_SIZE} are needed")
    if opaque[72] > 1:
        raise InvalidDeposit(f"isCreation is {opaque[72]}, not 0 or 1")
    return DepositTransaction(
        source_hash=user_source_hash(l1_block_hash, log_index),
        sender=sender[12:],
        to=None if opaque[72] else to[12:],
        mint=int.from_bytes(opaque[0:32], "big"),
        value=int.from_bytes(opaque[32:64], "big"),
        gas=int.from_bytes(opaque[64:72], "big"),
        is_system_transaction=False,
        data=opaque[OPAQUE_HEADER_SIZE:],
    )


def encode_opaque_data(*, mint: int, value: int, gas: int, is_creation: bool, data: bytes) -> bytes:
    """Version 0 opaque data, as the portal packs it."""
    return mint.to_bytes(32, "big") + value.to_bytes(32, "big") + gas.to_bytes(8, "big") + bytes([is_creation]) + data


def deposits_in_block(
    successful_logs: Iterable[tuple[int, Log]], portal: bytes, l1_block_hash: bytes
) -> tuple[DepositTransaction, ...]:
    """All deposits of an L1 block in order, from (block-wide log index, log) of its successful transactions."""
    return tuple(
        deposit_from_log(log, l1_block_hash, index)
        for index, log in successful_logs
        if log.address == portal and log.topics[:1] == (TRANSACTION_DEPOSITED_TOPIC,)
    )

"""What the execution client's tests share: keys, small genesis values, block attributes, stock py-evm."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import rlp
from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.blocks import PragueBlock

from openledger.evm_ext import (
    Block,
    Chain,
    DepositTransaction,
    Header,
    PayloadAttributes,
    Transaction,
    sign_transaction,
)
from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.transactions import transaction_from_deposit
from openledger.genesis import predeploys
from openledger.genesis.genesis import Genesis, GenesisAccount, encode_holocene_extra_data
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import l1_genesis, l2_genesis, preset

KEYS = tuple(keccak256(b"key %d" % number) for number in range(16))
ADDRESSES = tuple(address_of(key) for key in KEYS)
ETHER = 10**18
GWEI = 10**9
GENESIS_TIME = 1_700_000_000

_L1 = l1_genesis(preset("devnet"), GENESIS_TIME)
_L2 = l2_genesis(preset("devnet"), GENESIS_TIME)
_SYSTEM_CONTRACTS = (
    predeploys.BEACON_ROOTS,
    predeploys.HISTORY_STORAGE,
    predeploys.WITHDRAWAL_REQUESTS,
    predeploys.CONSOLIDATION_REQUESTS,
)


def _rich() -> dict[bytes, GenesisAccount]:
    return {address: GenesisAccount(balance=1_000_000 * ETHER) for address in ADDRESSES}


def ethereum_genesis(extra: dict[bytes, GenesisAccount] | None = None, **changes: object) -> Genesis:
    """Plain Prague with the system contracts and rich test accounts."""
    values: dict[str, object] = {
        "rules": "ethereum",
        "chain_id": 1337,
        "timestamp": GENESIS_TIME,
        "gas_limit": 60_000_000,
        "base_fee_per_gas": GWEI,
        "alloc": {
            **{address: _L1.alloc[address] for address in _SYSTEM_CONTRACTS},
            **_rich(),
            **(extra or {}),
        },
    }
    return Genesis(**{**values, **changes})  # type: ignore[arg-type]


def op_genesis(extra: dict[bytes, GenesisAccount] | None = None, **changes: object) -> Genesis:
    """The devnet's predeploys with rich test accounts."""
    values: dict[str, object] = {
        "rules": "op",
        "chain_id": 161299,
        "timestamp": GENESIS_TIME,
        "gas_limit": 60_000_000,
        "base_fee_per_gas": GWEI,
        "extra_data": encode_holocene_extra_data(250, 6),
        "alloc": {**_L2.alloc, **_rich(), **(extra or {})},
    }
    return Genesis(**{**values, **changes})  # type: ignore[arg-type]


def attributes(parent: Header, transactions: tuple[bytes, ...] = (), **changes: object) -> PayloadAttributes:
    """Attributes two seconds after a parent."""
    values: dict[str, object] = {
        "timestamp": parent.timestamp + 2,
        "prev_randao": keccak256(b"randao" + parent.hash),
        "suggested_fee_recipient": b"\xfe" * 20,
        "parent_beacon_block_root": keccak256(b"beacon" + parent.hash),
        "transactions": transactions,
    }
    return PayloadAttributes(**{**values, **changes})  # type: ignore[arg-type]


def signed(key: int, chain_id: int, nonce: int, to: bytes | None, **fields: object) -> Transaction:
    """A type 2 transaction with generous fees, unless told otherwise."""
    values: dict[str, object] = {
        "gas": 200_000,
        "max_fee_per_gas": 100 * GWEI,
        "max_priority_fee_per_gas": GWEI,
    }
    return sign_transaction(KEYS[key], chain_id=chain_id, nonce=nonce, to=to, **{**values, **fields})  # type: ignore[arg-type]


def extend(chain: Chain, transactions: tuple[Transaction, ...] = (), **changes: object) -> Block:
    """Build a block of exactly these transactions on the unsafe head and make it the head."""
    parent = chain.head()
    block = chain.build(
        parent.hash,
        attributes(parent, tuple(transaction.raw for transaction in transactions), **changes),
    )
    chain.set_heads(unsafe=block.hash)
    return block


def l1_info(
    *,
    base_fee: int = 2_000_000,
    blob_base_fee: int = 3_000_000,
    base_fee_scalar: int = 20,
    blob_base_fee_scalar: int = 15,
    operator_fee_scalar: int = 0,
    operator_fee_constant: int = 0,
    sequence_number: int = 0,
) -> DepositTransaction:
    """The L1 attributes deposit at Isthmus."""
    data = (
        bytes.fromhex("098999be")
        + struct.pack(">IIQQQ", base_fee_scalar, blob_base_fee_scalar, sequence_number, GENESIS_TIME, 1)
        + base_fee.to_bytes(32, "big")
        + blob_base_fee.to_bytes(32, "big")
        + keccak256(b"l1 block")
        + bytes(12)
        + b"\x0b" * 20
        + struct.pack(">IQ", operator_fee_scalar, operator_fee_constant)
    )
    return DepositTransaction(
        source_hash=keccak256(b"source %d" % sequence_number),
        sender=predeploys.DEPOSITOR_ACCOUNT,
        to=predeploys.L1_BLOCK,
        mint=0,
        value=0,
        gas=1_000_000,
        is_system_transaction=False,
        data=data,
    )


class StockChain:
    """py-evm as it comes, from the same genesis."""

    def __init__(self, genesis: Genesis) -> None:
        chain_class = MiningChain.configure(
            __name__="Stock", vm_configuration=((0, PragueVM),), chain_id=genesis.chain_id
        )
        params = {
            "difficulty": 0,
            "gas_limit": genesis.gas_limit,
            "timestamp": genesis.timestamp,
            "coinbase": genesis.coinbase,
            "extra_data": genesis.extra_data,
            "mix_hash": genesis.prev_randao,
            "nonce": bytes(8),
            "base_fee_per_gas": genesis.base_fee_per_gas,
            "parent_beacon_block_root": genesis.parent_beacon_block_root,
        }
        state = {
            address: {
                "balance": account.balance,
                "nonce": account.nonce,
                "code": account.code,
                "storage": dict(account.storage),
            }
            for address, account in genesis.alloc.items()
        }
        self.chain = chain_class.from_genesis(AtomicDB(), params, state)

    @property
    def head_hash(self) -> bytes:
        return self.chain.get_canonical_head().hash

    def import_block(self, block: Block) -> None:
        """Raises if py-evm finds any header field wrong."""
        self.chain.import_block(rlp.decode(block.encode(), PragueBlock))


def random_program(chance: random.Random, addresses: list[bytes]) -> bytes:
    """Mostly sensible stack use, storage, memory, calls and creations, and sometimes nonsense."""
    code = bytearray()

    def push(value: int) -> None:
        size = max(1, (value.bit_length() + 7) // 8)
        code.append(0x5F + size)
        code.extend(value.to_bytes(size, "big"))

    for _ in range(chance.randrange(3, 30)):
        kind = chance.randrange(12)
        if kind == 0:
            push(chance.randrange(3))
            push(chance.randrange(5))
            code.append(0x55)
        elif kind == 1:
            push(chance.randrange(5))
            code.append(0x54)
        elif kind == 2:
            push(chance.randrange(2**64))
            push(chance.randrange(200))
            code.append(chance.choice((0x52, 0x53)))
        elif kind in (3, 4):
            opcode = chance.choice((0xF1, 0xF2, 0xF4, 0xFA))
            for value in (
                chance.randrange(64),
                chance.randrange(64),
                chance.randrange(64),
                chance.randrange(64),
            ):
                push(value)
            if opcode in (0xF1, 0xF2):
                push(chance.choice((0, 0, 1)))
            push(
                int.from_bytes(
                    chance.choice([*addresses, *(bytes(19) + bytes([n]) for n in (1, 2, 3, 4, 5, 9))]), "big"
                )
            )
            push(chance.randrange(60_000))
            code.append(opcode)
        elif kind == 5:
            push(chance.randrange(64))
            push(chance.randrange(64))
            code.append(chance.choice((0x20, 0xA0)))
        elif kind == 6:
            if chance.random() < 0.5:
                push(chance.randrange(4))
                tail = 0xF5
            else:
                tail = 0xF0
            push(chance.randrange(40))
            push(chance.randrange(40))
            push(chance.choice((0, 0, 1)))
            code.append(tail)
        elif kind == 7:
            push(chance.randrange(2**16))
            push(chance.randrange(2**16))
            code.append(chance.choice((0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x10, 0x16, 0x1B, 0x1C, 0x0B)))
        elif kind == 8:
            code.append(
                chance.choice(
                    (
                        0x30,
                        0x32,
                        0x33,
                        0x34,
                        0x36,
                        0x3A,
                        0x3D,
                        0x41,
                        0x42,
                        0x43,
                        0x44,
                        0x45,
                        0x47,
                        0x48,
                        0x4A,
                        0x58,
                        0x59,
                        0x5A,
                    )
                )
            )
        elif kind == 9:
            push(int.from_bytes(chance.choice(addresses), "big"))
            code.append(chance.choice((0x31, 0x3B, 0x3F)))
        elif kind == 10:
            push(chance.randrange(3))
            push(chance.randrange(3))
            code.append(0x5D)
            push(chance.randrange(3))
            code.append(0x5C)
        elif chance.random() < 0.2:
            code.append(chance.randrange(256))
    push(chance.randrange(40))
    push(chance.randrange(18, 40))  # above the precompiles: pyrevm takes those of BLS12-381 for cold accounts
    code.append(chance.choice((0xF3, 0xF3, 0xFD, 0x00, 0xFF)))
    return bytes(code)


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    """The functions and constants above, for tests that cannot import this file."""
    return SimpleNamespace(
        system_contracts={address: _L1.alloc[address] for address in _SYSTEM_CONTRACTS},
        KEYS=KEYS,
        ADDRESSES=ADDRESSES,
        ETHER=ETHER,
        GWEI=GWEI,
        ethereum_genesis=ethereum_genesis,
        op_genesis=op_genesis,
        attributes=attributes,
        signed=signed,
        extend=extend,
        l1_info=l1_info,
        l1_info_transaction=lambda **fields: transaction_from_deposit(l1_info(**fields)),
        StockChain=StockChain,
        random_program=random_program,
    )


@pytest.fixture
def open_chain(tmp_path: Path) -> Iterator[Callable[..., Chain]]:
    """Opens chains in folders of their own and closes them at the end."""
    opened: list[Chain] = []

    def open_one(genesis: Genesis, name: str = "chain") -> Chain:
        chain = Chain.open(tmp_path / name, genesis)
        opened.append(chain)
        return chain

    yield open_one
    for chain in opened:
        chain.close()

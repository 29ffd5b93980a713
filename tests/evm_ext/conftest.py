"""What the execution client's tests share: keys, small genesis values, block attributes, stock py-evm."""

from __future__ import annotations

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


@pytest.fixture
def tools() -> SimpleNamespace:
    """The functions and constants above, for tests that cannot import this file."""
    return SimpleNamespace(
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

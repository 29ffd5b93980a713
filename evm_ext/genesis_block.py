"""Block 0 and its state, computed from a genesis."""

from __future__ import annotations

from collections.abc import Mapping

from openledger.evm_ext.block import BLOOM_BYTES, EMPTY_REQUESTS_HASH, EMPTY_UNCLES_HASH, Block, Header
from openledger.evm_ext.encoding import encode_uint
from openledger.evm_ext.state.account import EMPTY_CODE_HASH, Account, encode_account
from openledger.evm_ext.state.world import StateChanges
from openledger.evm_ext.trie import EMPTY_ROOT, Trie
from openledger.genesis import predeploys
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hashing import keccak256


def genesis_block(genesis: Genesis) -> tuple[Block, StateChanges]:
    """The first block and everything its state adds to an empty store."""
    changes, accounts = state_of_alloc(genesis.alloc)
    withdrawals_root = EMPTY_ROOT
    if genesis.rules == "op" and predeploys.L2_TO_L1_MESSAGE_PASSER in accounts:
        withdrawals_root = accounts[predeploys.L2_TO_L1_MESSAGE_PASSER].storage_root
    header = Header(
        parent_hash=bytes(32),
        uncles_hash=EMPTY_UNCLES_HASH,
        fee_recipient=genesis.coinbase,
        state_root=changes.root,
        transactions_root=EMPTY_ROOT,
        receipts_root=EMPTY_ROOT,
        logs_bloom=bytes(BLOOM_BYTES),
        difficulty=0,
        number=0,
        gas_limit=genesis.gas_limit,
        gas_used=0,
        timestamp=genesis.timestamp,
        extra_data=genesis.extra_data,
        prev_randao=genesis.prev_randao,
        nonce=bytes(8),
        base_fee_per_gas=genesis.base_fee_per_gas,
        withdrawals_root=withdrawals_root,
        blob_gas_used=0,
        excess_blob_gas=0,
        parent_beacon_block_root=genesis.parent_beacon_block_root,
        requests_hash=EMPTY_REQUESTS_HASH,
    )
    return Block(header, ()), changes


def state_of_alloc(alloc: Mapping[bytes, GenesisAccount]) -> tuple[StateChanges, dict[bytes, Account]]:
    """A state with exactly these accounts, as what it adds to an empty store, and their records."""
    nodes: dict[bytes, bytes] = {}
    codes: dict[bytes, bytes] = {}
    accounts: dict[bytes, Account] = {}
    trie = Trie(nodes.get, EMPTY_ROOT)
    for address, entry in sorted(alloc.items()):
        storage = Trie(nodes.get, EMPTY_ROOT)
        for slot, value in entry.storage.items():
            if value:
                storage.set(keccak256(slot.to_bytes(32, "big")), encode_uint(value))
        code_hash = EMPTY_CODE_HASH
        if entry.code:
            code_hash = keccak256(entry.code)
            codes[code_hash] = entry.code
        account = accounts[address] = Account(entry.nonce, entry.balance, storage.commit(nodes), code_hash)
        trie.set(keccak256(address), encode_account(account))
    return StateChanges(trie.commit(nodes), nodes, codes), accounts

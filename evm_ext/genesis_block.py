"""Block 0 and its state, computed from a genesis."""

from __future__ import annotations

from collections.abc import Mapping

from openledger.evm_ext.block import (
    BLOOM_BYTES,
    EMPTY_REQUESTS_HASH,
    EMPTY_UNCLES_HASH,
    Block,
    Header,
    HeaderForm,
    header_form,
)
from openledger.evm_ext.encoding import encode_uint
from openledger.evm_ext.state.account import EMPTY_CODE_HASH, Account, encode_account
from openledger.evm_ext.state.changes import StateChanges, StateDiff
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
    form = header_form(genesis.hardfork)
    header = Header(
        parent_hash=bytes(32),
        uncles_hash=EMPTY_UNCLES_HASH,
        fee_recipient=genesis.coinbase,
        state_root=changes.root,
        transactions_root=EMPTY_ROOT,
        receipts_root=EMPTY_ROOT,
        logs_bloom=bytes(BLOOM_BYTES),
        difficulty=genesis.difficulty,
        number=0,
        gas_limit=genesis.gas_limit,
        gas_used=genesis.gas_used,
        timestamp=genesis.timestamp,
        extra_data=genesis.extra_data,
        prev_randao=genesis.prev_randao,
        nonce=genesis.nonce,
        base_fee_per_gas=genesis.base_fee_per_gas if form >= HeaderForm.LONDON else 0,
        withdrawals_root=withdrawals_root if form >= HeaderForm.SHANGHAI else bytes(32),
        blob_gas_used=genesis.blob_gas_used if form >= HeaderForm.CANCUN else 0,
        excess_blob_gas=genesis.excess_blob_gas if form >= HeaderForm.CANCUN else 0,
        parent_beacon_block_root=genesis.parent_beacon_block_root if form >= HeaderForm.CANCUN else bytes(32),
        requests_hash=EMPTY_REQUESTS_HASH if form >= HeaderForm.PRAGUE else bytes(32),
        form=form,
    )
    return Block(header, ()), changes


def state_of_alloc(alloc: Mapping[bytes, GenesisAccount]) -> tuple[StateChanges, dict[bytes, Account]]:
    """A state with exactly these accounts, as what it adds to an empty store, and their records."""
    nodes: dict[bytes, bytes] = {}
    codes: dict[bytes, bytes] = {}
    accounts: dict[bytes, Account] = {}
    flat: dict[bytes, bytes] = {}
    slots: dict[bytes, dict[bytes, bytes]] = {}
    trie = Trie(nodes.get, EMPTY_ROOT)
    for address, entry in sorted(alloc.items()):
        key = keccak256(address)
        storage = Trie(nodes.get, EMPTY_ROOT, owner=key)
        words = {
            keccak256(slot.to_bytes(32, "big")): encode_uint(value) for slot, value in entry.storage.items() if value
        }
        storage.update(words)
        if words:
            slots[key] = words
        code_hash = EMPTY_CODE_HASH
        if entry.code:
            code_hash = keccak256(entry.code)
            codes[code_hash] = entry.code
        account = accounts[address] = Account(entry.nonce, entry.balance, storage.commit(nodes), code_hash)
        flat[key] = encode_account(account)
    trie.update(flat)
    return StateChanges(trie.commit(nodes), nodes, codes, StateDiff(flat, slots, tuple(nodes))), accounts
